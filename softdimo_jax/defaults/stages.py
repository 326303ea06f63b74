"""Sections of the stages, with the defaults of the papers or official code."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from softdimo_jax.defaults.shared import optimizer, rewards, section


def distillation(
  start: str,
  learning_rate: float,
  *,
  terms: Mapping[str, float] | None = None,
  **changes: Any,
) -> ConfigDict:
  """Di[M]O, or Soft-Di[M]O if `gan` or `reward` has a weight.

  Defaults are MaskGit's.

  Args:
    start: stage that provides the initial student (its moving average) and
      auxiliary.
    learning_rate: of generator and auxiliary.
    terms: rewards and their weights in the maximised sum; None for ReNO's.
    **changes: new values of fields; a dictionary changes part of a section.
  """
  config = section(
    {
      'kind': 'distill',
      'start': start,
      'steps': 50_000,
      'batch_size': 128,
      # Equal parts of a batch whose gradients are averaged one after another.
      'accumulation': 1,
      'ema_decay': 0.9999,
      # The official code also leaves the teacher in training mode.
      'dropout': True,
      'teacher_dropout': False,
      # Dtype of the frozen matrices (teacher, decoder, rewards); 'bfloat16'
      # halves their memory.
      'frozen_dtype': 'float32',
      # Of the student's tokens: in training and, by default, in sampling.
      'temperature': 1.0,
      'guidance_scale': 2.0,
      'init': initial(),
      'mask': {'schedule': 'arccos', 'low': 0.0, 'high': 1.0},
      'divergence': {
        'weight': 1.0,
        'beta': 0.0,
        'reduction': 'sum',
        # Positions with logits in memory, a divisor of L; 0 for all.
        'chunk': 0,
      },
      'auxiliary': _auxiliary(learning_rate),
      'gan': _gan(),
      'reward': _reward(),
      'optimizer': optimizer(learning_rate),
    },
    changes,
  )
  if terms is not None:
    config.reward.terms = ConfigDict(terms)
  return config


def small_distillation(
  start: str, learning_rate: float, *, auxiliary_rate: float, **changes: Any
) -> ConfigDict:
  """Distillation of a small network, where nothing needs regularisation.

  One forward pass of the auxiliary serves the student and its own update.

  Args:
    start: see `distillation`.
    learning_rate: of the generator.
    auxiliary_rate: learning rate of the auxiliary.
    **changes: see `distillation`.
  """
  auxiliary = {
    'fresh_sample': False,
    'label_smoothing': 0.0,
    'optimizer': {'learning_rate': auxiliary_rate, 'clip_norm': 0.0},
  }
  config = distillation(
    start, learning_rate, dropout=False, auxiliary=auxiliary
  )
  return section(config, changes)


def rectify(start: str, learning_rate: float, **changes: Any) -> ConfigDict:
  """A one-step student of the teacher's couplings (ReDi).

  Args:
    start: stage that provides the initial student.
    learning_rate: of the student.
    **changes: new values of fields.
  """
  return section(
    {
      'kind': 'rectify',
      'start': start,
      'steps': 20_000,
      'batch_size': 128,
      'ema_decay': 0.9999,
      # Couplings, which the teacher samples once, in this many steps and with
      # this guidance.
      'num_examples': 50_000,
      'teacher_steps': 16,
      'guidance_scale': 2.0,
      'label_smoothing': 0.1,
      # Of x_init, as in the distillation that starts from this stage.
      'init': initial(),
      # Of the student's tokens in sampling.
      'temperature': 1.0,
      'optimizer': optimizer(learning_rate),
    },
    changes,
  )


# Adam of the official code in mixed precision; it clips the generator only.
OFFICIAL_ADAM = {
  'auxiliary': {'optimizer': {'eps': 1e-6, 'clip_norm': 0.0}},
  'optimizer': {'eps': 1e-6},
}


def initial() -> dict[str, Any]:
  """x_init: the share of masked entries, and the noise on their embeddings.

  `noise_unit` 'absolute' has unit variance, as in the official code of MaskGit
  and Meissonic; 'table' has that of the table's entries, which matters where
  these are small.
  """
  return {
    'mask_ratio': 0.6,
    # If given, every step draws its ratio between `mask_ratio` and this one;
    # students are sampled at the mean of the two.
    'max_mask_ratio': placeholder(float),
    'noise_scale': 0.1,
    # '', or how the noise grows from 0 to `noise_scale` in the first steps of
    # the stage: 'linear', 'exp' or 'cos'.
    'noise_ramp': '',
    'noise_ramp_steps': 1000,
    'noise_unit': 'absolute',
  }


def _auxiliary(learning_rate: float) -> dict[str, Any]:
  return {
    # Alg. 1 draws a fresh sample for the auxiliary; sharing the student's
    # sample saves two of ten forward passes.
    'fresh_sample': True,
    'label_smoothing': 0.1,
    # Updates per update of the student; those after the first draw fresh
    # samples.
    'updates': 1,
    # First steps of the stage in which only the auxiliary is trained.
    'burn_in': 0,
    'optimizer': optimizer(learning_rate),
  }


def _gan() -> dict[str, Any]:
  return {
    'weight': 0.0,
    'loss': 'logistic',
    # 'soft', or a baseline: 'gumbel', 'hard', 'sampled' (see `relax`) or
    # 'reinforce'.
    'relaxation': 'soft',
    # 'soft': the heads learn to reject the embeddings that they judge; 'hard':
    # samples instead, so that they do not learn to detect softness itself.
    'fakes': 'soft',
    # Of the student's tokens in this term; None is the stage's.
    'temperature': placeholder(float),
    # Updates of the heads per update of the student, from the same logits;
    # those after the first draw fresh masks and fresh hard fakes.
    'updates': 1,
    'max_mask_ratio': 0.95,
    'r1_weight': 0.0,
    'taps': (5, 11, 17, 23),
    'width': 192,
    'delay_steps': 0,
    'ramp_steps': 0,
    'optimizer': optimizer(1e-4, warmup_steps=0, clip_norm=0.0),
  }


def _reward() -> dict[str, Any]:
  return {
    'weight': 0.0,
    # As for the GAN.
    'relaxation': 'soft',
    # Of the student's tokens in this term; None is the stage's.
    'temperature': placeholder(float),
    # Images decoded and scored at once, a divisor of the batch; 0 for all.
    'micro_batch': 0,
    # Weights in the maximised sum; zero leaves a reward out.
    'terms': rewards().terms.to_dict(),
  }


def tokenizer(learning_rate: float, **changes: Any) -> ConfigDict:
  """Reconstruction and the quantiser's losses, for codebooks and bits."""
  return section(
    {
      'kind': 'tokenizer',
      'steps': 1_350_000,
      'batch_size': 256,
      'ema_decay': 0.999,
      'commitment_weight': 0.25,
      'entropy_weight': 0.02,  # bits only
      # Codebook only: until which step unused codes are moved, and whether
      # onto latents far from their code (2) or onto any latent (0).
      'restart_steps': 10_000,
      'restart_power': 0.0,
      'optimizer': optimizer(
        learning_rate, warmup_steps=5000, decay='cosine', clip_norm=0.0
      ),
    },
    changes,
  )


def teacher(learning_rate: float, **changes: Any) -> ConfigDict:
  """Masked token prediction; defaults of MaskBit.

  `training/teacher.py` lists the official settings of all four teachers.
  """
  return section(
    {
      'kind': 'teacher',
      'steps': 1_350_000,
      'batch_size': 1024,
      'accumulation': 1,
      'ema_decay': 0.999,
      'mask_schedule': 'arccos',
      # Whether the masked entries are counted, or every entry is masked with
      # the same probability.
      'exact_count': False,
      'condition_dropout': 0.1,
      'label_smoothing': 0.1,
      # In the cross entropy; masked entries have 1.
      'unmasked_weight': 1.0,
      'optimizer': optimizer(
        learning_rate,
        warmup_steps=5000,
        decay='cosine',
        weight_decay=0.045,
        b2=0.96,
      ),
    },
    changes,
  )


def classifier(seed: int, **changes: Any) -> ConfigDict:
  """Feature space or judge; with its own seed it is the same in every run."""
  return section(
    {
      'kind': 'classifier',
      'seed': seed,
      'steps': 500,
      'batch_size': 128,
      'ema_decay': 0.99,
      'noise': 0.1,
      'label_smoothing': 0.05,
      'optimizer': optimizer(
        2e-3, decay='cosine', final_ratio=0.0, clip_norm=0.0
      ),
    },
    changes,
  )


def contrastive(learning_rate: float, **changes: Any) -> ConfigDict:
  """Both towers of a small CLIP, trained from scratch."""
  return section(
    {
      'kind': 'contrastive',
      'steps': 1000,
      'batch_size': 128,
      'ema_decay': 0.99,
      'noise': 0.06,
      'softness': 0.5,
      'optimizer': optimizer(
        learning_rate, decay='cosine', final_ratio=0.05, weight_decay=0.01
      ),
    },
    changes,
  )


def preference(start: str, learning_rate: float, **changes: Any) -> ConfigDict:
  """A small PickScore: the CLIP of stage `start`, tuned on preferences."""
  return section(
    {
      'kind': 'preference',
      'start': start,
      'steps': 800,
      'batch_size': 96,
      'ema_decay': 0.99,
      'noise': 0.03,
      'softness': 0.3,
      'corruption': 0.5,
      # The teacher generates losers for this many captions, once for each
      # number of steps.
      'num_examples': 4096,
      'teacher_steps': (1, 4),
      'guidance_scale': 3.0,
      'optimizer': optimizer(
        learning_rate, decay='cosine', final_ratio=0.05, weight_decay=0.01
      ),
    },
    changes,
  )
