"""The range of every number of a configuration.

A field is found by the end of its path: `gan.weight` before `weight`. A number
that has no entry here must be finite; a test asks for an entry for every number
of the shipped configurations.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections

from softdimo_jax.runtime import bounds
from softdimo_jax.runtime.bounds import Bounds, count

_SIZE, _STEPS = count(1), count(0)
_FRACTION = Bounds(0, 0.999_999)  # 1 would leave nothing
_ANY = Bounds()


def _each(allowed: Bounds, *names: str) -> dict[str, Bounds]:
  return dict.fromkeys(names, allowed)


_RANGES = {
  'seed': bounds.SEED,
  # Of stages and of the loop.
  **_each(_SIZE, 'steps', 'batch_size', 'accumulation', 'num_examples'),
  **_each(_SIZE, 'teacher_steps', 'updates', 'noise_ramp_steps'),
  **_each(_SIZE, 'log_every', 'checkpoint_every'),
  **_each(_STEPS, 'max_skipped', 'every', 'burn_in', 'restart_steps'),
  **_each(_STEPS, 'delay_steps', 'ramp_steps', 'warmup_steps'),
  **_each(_STEPS, 'chunk', 'micro_batch', 'taps'),
  **_each(bounds.SHARE, 'ema_decay', 'label_smoothing', 'condition_dropout'),
  **_each(bounds.SHARE, 'softness', 'corruption', 'unmasked_weight'),
  **_each(bounds.SHARE, 'mask_ratio', 'noise_scale', 'low', 'high'),
  **_each(bounds.SHARE, 'max_mask_ratio', 'final_ratio', 'mention_color'),
  **_each(bounds.NOT_NEGATIVE, 'weight', 'commitment_weight', 'r1_weight'),
  **_each(bounds.NOT_NEGATIVE, 'entropy_weight', 'restart_power', 'noise'),
  **_each(_ANY, 'beta', 'micro', 'offsets'),
  # Of optimisers; at 1e3 nothing was ever learnt.
  'learning_rate': Bounds(0, 1000, above=True),
  **_each(_FRACTION, 'b1', 'b2', 'generator.dropout', 'dropout_rate'),
  'eps': bounds.POSITIVE,
  **_each(bounds.NOT_NEGATIVE, 'weight_decay', 'clip_norm'),
  # Of samplers and of the evaluation.
  **_each(bounds.GUIDANCE, 'guidance_scale', 'guidance_scales'),
  **_each(bounds.TEMPERATURE, 'temperature', 'choice_temperature'),
  'guidance_power': Bounds(0, 100),
  'start_share': bounds.SHARE,
  **_each(_SIZE, 'num_images', 'seeds', 'curve_images', 'per_category'),
  **_each(_SIZE, 'starts', 'held_out'),
  'evaluation.tteo.steps': _STEPS,
  # Of the mesh; -1 takes the devices that are left.
  **_each(count(-1), 'mesh.data', 'mesh.fsdp', 'mesh.tensor'),
  # Of networks.
  **_each(_SIZE, 'vocab_size', 'length', 'width', 'widths', 'depth'),
  **_each(_SIZE, 'num_heads', 'mlp_width', 'unroll', 'resolution', 'patch'),
  **_each(_SIZE, 'hidden', 'hidden_channels', 'channel_multipliers'),
  **_each(_SIZE, 'level_channels', 'latent_channels', 'in_channels'),
  **_each(_SIZE, 'codebook_size', 'embedding_dim', 'num_norm_groups'),
  **_each(_SIZE, 'num_groups', 'feature_width', 'projection_width'),
  **_each(_SIZE, 'text_width', 'text_length', 'grid', 'cell'),
  **_each(_SIZE, 'attention_resolutions', 'rope_axes'),
  **_each(_SIZE, 'encoder_patch', 'encoder_width', 'encoder_heads'),
  **_each(_SIZE, 'decoder_patch', 'decoder_width', 'decoder_heads'),
  **_each(_SIZE, 'encoder_depth', 'decoder_depth', 'num_res_blocks'),
  **_each(_STEPS, 'joint_depth', 'single_depth', 'spare_rows', 'micro_width'),
  **_each(_STEPS, 'num_classes', 'pad_id'),
  'num_bits': count(1, 24),
  'table_scale': bounds.POSITIVE,
}
# Fields that None leaves to another field.
_OPTIONAL = (
  *('gan.temperature', 'reward.temperature', 'sampling.temperature'),
  'init.max_mask_ratio',
)
# Fields that hold several numbers, and those that hold one or several.
_SEVERAL = (
  *('guidance_scales', 'taps', 'micro', 'offsets', 'widths', 'rope_axes'),
  *('channel_multipliers', 'attention_resolutions', 'level_channels'),
)
_ONE_OR_SEVERAL = ('teacher_steps', 'grid', 'choice_temperature')


@dataclasses.dataclass(frozen=True)
class Number:
  """A number of a configuration.

  Attributes:
    path: of its field.
    value: the number, or whatever stands in its place.
    allowed: its range; None if the table has none.
  """

  path: tuple[str, ...]
  value: Any
  allowed: Bounds | None


def numbers(config: ml_collections.ConfigDict) -> Iterator[Number]:
  """All numbers, those in tuples one by one, and what replaces a number."""
  return _numbers(config.to_dict(), ())


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks every number.

  Raises:
    ValueError: naming the first field that is out of its range, or holds one
      number instead of several.
  """
  for number in numbers(config):
    name = '.'.join(number.path)
    optional = name.endswith(_OPTIONAL)
    if not (optional and number.value is None):
      (number.allowed or _ANY).check(name, number.value)


def _numbers(value: Any, path: tuple[str, ...]) -> Iterator[Number]:
  allowed = _found(path)
  several = isinstance(value, tuple | list)
  if isinstance(value, dict) and allowed is None:
    for key, part in value.items():
      yield from _numbers(part, (*path, str(key)))
  elif several and allowed is None:
    for part in value:
      yield from _numbers(part, path)
  elif several and path[-1] in _SEVERAL + _ONE_OR_SEVERAL:
    for part in jax.tree.leaves(value, is_leaf=_is_no_list):
      yield Number(path, part, allowed)
  elif path[-1] in _SEVERAL:
    raise ValueError(f'{".".join(path)}={value!r} must be several numbers')
  elif isinstance(value, bool):
    if allowed is not None:
      yield Number(path, value, allowed)
  elif allowed is not None or isinstance(value, int | float):
    yield Number(path, value, allowed)


def _is_no_list(value: Any) -> bool:
  return not isinstance(value, tuple | list)


def _found(path: tuple[str, ...]) -> Bounds | None:
  for start in range(len(path)):
    name = '.'.join(path[start:])
    if name in _RANGES:
      return _RANGES[name]
  # Rewards have names of their own.
  return _ANY if 'terms' in path[-2:-1] else None
