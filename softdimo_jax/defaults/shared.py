"""Sections that are not stages, and the parts that stages have in common."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# The vocabulary of all released CLIPs; it is part of the package.
CLIP_VOCABULARY = 'openai'


def section(
  fields: Mapping[str, Any], changes: Mapping[str, Any]
) -> ConfigDict:
  """`fields` with `changes` to some of them.

  Raises:
    KeyError: if `changes` names an unknown field.
  """
  config = ConfigDict(fields).lock()
  config.update(changes)
  return config.unlock()


def mesh(**changes: Any) -> ConfigDict:
  """Devices along each axis; -1 takes the devices that the other axes leave.

  `data` splits batches, `fsdp` splits batches and the state, `tensor` splits
  matrices and the vocabulary. `frozen` networks are 'sharded' like the state,
  or 'replicated'.
  """
  return section(
    {'data': -1, 'fsdp': 1, 'tensor': 1, 'frozen': 'sharded'}, changes
  )


def loop(**changes: Any) -> ConfigDict:
  """Steps between log points and between checkpoints.

  The run gives up after `max_skipped` consecutive updates that are not finite.
  `keep_best` names a metric of the curves (see `evaluation`): the best student
  of a distillation is then the one that is used, instead of the last.
  """
  return section(
    {
      'log_every': 100,
      'checkpoint_every': 1000,
      'max_skipped': 50,
      'keep_best': '',
    },
    changes,
  )


def evaluation(**fields: Any) -> ConfigDict:
  """Report of a run, and curves of its distillations.

  Every `every` steps (0: never), `curve_images` images of the student are
  measured: equally many of each label, or of each category of prompts. The
  other fields are those of the report, which depend on the data.
  """
  return ConfigDict({'every': 0, 'curve_images': 1000, **fields})


def optimizer(learning_rate: float, **changes: Any) -> ConfigDict:
  """Adam with Di[M]O's settings (AdamW if `weight_decay` > 0).

  `decay` is 'constant', 'linear' or 'cosine', down to `final_ratio` times the
  peak; `clip_norm=0` disables clipping. `moment_dtype='bfloat16'` stores Adam's
  first moment in half precision; the second stays float32, since its updates
  are too small for bfloat16.
  """
  return section(
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


def random_order(steps: int) -> ConfigDict:
  """Sampling with MaskGit's schedule and without guidance.

  Decoded in random order, tokens follow the teacher's conditionals.
  """
  return ConfigDict(
    {
      # Of students; None is that of their distillation.
      'temperature': placeholder(float),
      'steps': steps,
      'guidance_scale': 1.0,
      'plan': {
        'name': 'maskgit',
        'order': 'random',
        'schedule': 'arccos',
        'guidance_schedule': 'constant',
      },
    }
  )


def rewards(**changes: Any) -> ConfigDict:
  """Released rewards; `terms` are ReNO's weights of the maximised sum."""
  return section(
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
        # sac+logos+ava1-l14-linearMSE.pth; no official repository on the Hub
        # has it.
        'aesthetic': '',
        'aesthetic_clip': 'openai/clip-vit-large-patch14/model.safetensors',
      },
      'clip_vocabulary': CLIP_VOCABULARY,
      'bert_vocabulary': 'google-bert/bert-base-uncased',
      # False for the scores of torchvision before 0.17, which did not antialias
      # resized tensors; HPSv2 resizes tensors.
      'antialias': True,
      'dtype': 'float32',
      'remat': 'none',
    },
    changes,
  )


def test_time(**changes: Any) -> ConfigDict:
  """Test-time optimisation on ReNO's weighted sum of the released rewards."""
  return section(
    {
      'learning_rate': 0.2,
      'batch_size': 16,  # starting points at once
      'terms': rewards().terms,
    },
    changes,
  )
