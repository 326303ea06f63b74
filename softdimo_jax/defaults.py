"""Sections that every configuration file shares, with the papers' defaults.

A configuration file says what differs; every field is a field of the run.
"""

from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

# That of all released CLIPs, which is included.
CLIP_VOCABULARY = 'openai'


def mesh(**changes: Any) -> ConfigDict:
  """How many devices lie along each axis; -1 is what the others leave.

  `data` splits batches, `fsdp` batches and the state, `tensor` matrices and
  the vocabulary. `frozen` networks are 'sharded' as the state is, or
  'replicated'.
  """
  return _section(
    {'data': -1, 'fsdp': 1, 'tensor': 1, 'frozen': 'sharded'}, changes
  )


def optimizer(learning_rate: float, **changes: Any) -> ConfigDict:
  """Adam as Di[M]O sets it (AdamW with `weight_decay`).

  `decay` is 'constant', 'linear' or 'cosine', down to `final_ratio`;
  `clip_norm` 0 does not clip. `moment_dtype` 'bfloat16' halves the average of
  gradients; that of their squares, which moves too little at a time, it leaves.
  """
  return _section(
    {
      'learning_rate': learning_rate,
      'warmup_steps': 100,
      'decay': 'constant',
      'final_ratio': 0.1,
      'b1': 0.9,
      'b2': 0.999,
      'eps': 1e-8,
      'weight_decay': 0.0,
      'clip_norm': 1.0,
      'moment_dtype': 'float32',
    },
    changes,
  )


def distillation(
  start: str, learning_rate: float, **changes: Any
) -> ConfigDict:
  """Di[M]O, or with a `gan.weight` Soft-Di[M]O; defaults of MaskGit.

  Args:
    start: the stage whose average (and auxiliary) this one starts from.
    learning_rate: of generator and auxiliary.
    **changes: of fields or, as dictionaries, of parts of sections.
  """
  return _section(
    {
      'kind': 'distill',
      'start': start,
      'steps': 50_000,
      'batch_size': 128,
      # Parts of a batch whose gradients are added up one after another.
      'accumulation': 1,
      'ema_decay': 0.9999,
      # The official code leaves the teacher in training mode, too.
      'dropout': True,
      'teacher_dropout': False,
      # Of what is only read: teacher, decoder and rewards. With 'bfloat16'
      # their matrices take half the memory.
      'frozen_dtype': 'float32',
      'temperature': 1.0,
      'guidance_scale': 2.0,
      'init': {'mask_ratio': 0.6, 'noise_scale': 0.1},
      'mask': {'schedule': 'arccos', 'low': 0.0, 'high': 1.0},
      'divergence': {
        'weight': 1.0,
        'beta': 0.0,
        'reduction': 'sum',
        # Positions whose logits exist at a time, a divisor of L; 0 is all.
        'chunk': 0,
      },
      'auxiliary': {
        # Alg. 1 draws a fresh sample for the auxiliary; sharing the student's
        # saves two of ten forward passes.
        'fresh_sample': True,
        'label_smoothing': 0.1,
        'optimizer': optimizer(learning_rate),
      },
      'gan': _gan(),
      'reward': _reward(),
      'optimizer': optimizer(learning_rate),
    },
    changes,
  )


def _gan() -> dict[str, Any]:
  return {
    'weight': 0.0,
    'loss': 'logistic',
    'relaxation': 'soft',
    # The heads learn to reject soft embeddings, which they judge, or hard
    # samples, which leave them blind to softness itself.
    'fakes': 'soft',
    'temperature': 1.0,
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
    'relaxation': 'soft',
    'temperature': 1.0,
    # Images decoded and scored at a time, a divisor of the batch; 0 is all.
    'micro_batch': 0,
    # Of the sum that is maximised; zero leaves a reward out.
    'terms': rewards().terms.to_dict(),
  }


def rewards(**changes: Any) -> ConfigDict:
  """Released rewards; `terms` are ReNO's, of the sum that is maximised."""
  return _section(
    {
      'terms': {
        'clip': 0.01,
        'imagereward': 1.0,
        'hpsv2': 5.0,
        'pickscore': 0.05,
      },
      # Hub ids; a converted folder loads faster and needs no network.
      'weights': {
        'clip': 'laion/CLIP-ViT-H-14-laion2B-s32B-b79K/pytorch_model.bin',
        'hpsv2': 'xswu/HPSv2/HPS_v2.1_compressed.pt',
        'pickscore': 'yuvalkirstain/PickScore_v1/model.safetensors',
        'imagereward': 'THUDM/ImageReward/ImageReward.pt',
        # sac+logos+ava1-l14-linearMSE.pth, which no official repository of
        # the Hub has.
        'aesthetic': '',
        'aesthetic_clip': 'openai/clip-vit-large-patch14/model.safetensors',
      },
      'clip_vocabulary': CLIP_VOCABULARY,
      'bert_vocabulary': 'google-bert/bert-base-uncased',
      # torchvision's before 0.17 did not when it resized tensors, as HPSv2
      # does: scores differ.
      'antialias': True,
      'dtype': 'float32',
      'remat': 'none',
    },
    changes,
  )


def tokenizer(learning_rate: float, **changes: Any) -> ConfigDict:
  """Reconstruction with the quantiser's losses, for codebooks and bits."""
  return _section(
    {
      'kind': 'tokenizer',
      'steps': 1_350_000,
      'batch_size': 256,
      'ema_decay': 0.999,
      'commitment_weight': 0.25,
      'entropy_weight': 0.02,  # bits only
      # Codebook only: how long unused codes are moved, and whether onto
      # latents far from their code (2) or onto any (0).
      'restart_steps': 10_000,
      'restart_power': 0.0,
      'optimizer': optimizer(
        learning_rate, warmup_steps=5000, decay='cosine', clip_norm=0.0
      ),
    },
    changes,
  )


def teacher(learning_rate: float, **changes: Any) -> ConfigDict:
  """Masked token prediction; defaults of MaskBit."""
  return _section(
    {
      'kind': 'teacher',
      'steps': 1_350_000,
      'batch_size': 1024,
      'accumulation': 1,
      'ema_decay': 0.999,
      'mask_schedule': 'arccos',
      'condition_dropout': 0.1,
      'label_smoothing': 0.1,
      'masked_only': False,
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
  """Feature space or judge; its own seed makes it the same in every run."""
  return _section(
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
  """Both towers of a small CLIP from scratch."""
  return _section(
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
  """A small PickScore: a CLIP (the stage `start`) tuned on preferences."""
  return _section(
    {
      'kind': 'preference',
      'start': start,
      'steps': 800,
      'batch_size': 96,
      'ema_decay': 0.99,
      'noise': 0.03,
      'softness': 0.3,
      'corruption': 0.5,
      # Losers are made of this many captions: by the teacher in so many steps.
      'num_examples': 4096,
      'teacher_steps': (1, 4),
      'guidance_scale': 3.0,
      'optimizer': optimizer(
        learning_rate, decay='cosine', final_ratio=0.05, weight_decay=0.01
      ),
    },
    changes,
  )


def test_time(**changes: Any) -> ConfigDict:
  """Test-time optimisation on ReNO's sum of the released rewards."""
  return _section(
    {
      'learning_rate': 0.2,
      'batch_size': 16,  # starts at once
      'terms': rewards().terms,
    },
    changes,
  )


# Variants of a configuration on encoded prompts.
PROMPTED_STAGES = {
  'all': ('dimo', 'softdimo'),
  'dimo': ('dimo',),
  'reward': ('softdimo',),
  'tteo': (),
}


def prompted(variant: str, **sections: Any) -> ConfigDict:
  """A run that distils on encoded prompts what was trained elsewhere.

  Args:
    variant: a key of PROMPTED_STAGES.
    **sections: name, model, dimo, softdimo, sampling, tteo, and what differs
      from the frame.
  """
  config = ConfigDict({
    'seed': 0,
    'stages': PROMPTED_STAGES[variant],
    'mesh': mesh(),
    'weights': 'converted',
    'pretrained': {'tokenizer': '', 'text': '', 'teacher': '', 'dimo': ''},
    'data': {'prompts': '', 'vocabulary': CLIP_VOCABULARY},
    'teacher': {'kind': 'teacher'},  # taken from elsewhere
    'rewards': rewards(dtype='bfloat16', remat='full'),
    'loop': {'log_every': 100, 'checkpoint_every': 1000, 'max_skipped': 50},
    **sections,
  })  # fmt: skip
  del config.rewards.terms  # every stage has its own
  if variant == 'tteo':
    config.pretrained.softdimo = ''
  return config


def choose(
  file: str, variants: str, *kinds: tuple[Collection[str], str]
) -> tuple[str, ...]:
  """Which variants of a configuration file are meant, one of each kind.

  Args:
    file: its name.
    variants: names joined by commas.
    *kinds: (names, the one that is meant if none of them is given).

  Raises:
    ValueError: for a name of no kind, or two of one.
  """
  given = variants.split(',')
  known = [name for names, _ in kinds for name in names]
  for name in given:
    if name not in known:
      raise ValueError(
        f'variant {name!r} of {file} is unknown; choose from {", ".join(known)}'
      )
  chosen = []
  for names, default in kinds:
    found = [name for name in given if name in names]
    if len(found) > 1:
      raise ValueError(
        f'variants {found[0]!r} and {found[1]!r} of {file} exclude each other'
      )
    chosen += found or [default]
  return tuple(chosen)


def _section(fields: dict[str, Any], changes: dict[str, Any]) -> ConfigDict:
  section = ConfigDict(fields).lock()
  section.update(changes)  # a locked section refuses fields it does not have
  return section.unlock()
