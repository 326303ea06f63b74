"""Configuration files beside CLIP weights: what shapes do not determine.

transformers writes config.json, open_clip open_clip_config.json. Where both are
there, they must agree.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from softdimo_jax.convert.shapes import Options, Shapes
from softdimo_jax.convert.state_dict import say
from softdimo_jax.convert.tree import ConversionError
from softdimo_jax.networks import layers
from softdimo_jax.ops.preprocess import CLIP_MEAN
from softdimo_jax.runtime.files import unique_json

Config = Mapping[str, Any]

# transformers' names -> ours.
_ACTIVATIONS = {
  'gelu': 'gelu',
  'quick_gelu': 'quick_gelu',
  'gelu_new': 'gelu_tanh',
  'gelu_pytorch_tanh': 'gelu_tanh',
}
# Values of open_clip's options that our towers compute.
_ONLY: Mapping[str, tuple[Any, ...]] = {
  'attentional_pool': (False,),
  'embed_cls': (False,),
  'final_ln_after_pool': (False,),
  'global_average_pool': (False,),
  'hf_model_name': (None, ''),
  'no_causal_mask': (False,),
  'no_ln_pre': (False,),
  'norm_kwargs': (None, {}),
  'pool_type': ('tok', 'argmax'),
  'timm_model_name': (None, ''),
}
_EPSILON, _TOLERANCE = 1e-5, 1e-3


@dataclasses.dataclass(frozen=True)
class _Tower:
  """What a configuration says of a tower."""

  activation: str
  num_heads: int
  width: int


_Towers = Mapping[str, _Tower]  # 'image' and 'text', if known


def checked(activation: str | None) -> str:
  """An activation.

  Raises:
    ConversionError: if it is None: neither flag nor configuration gave it.
  """
  if activation is None:
    raise ConversionError(
      "a CLIP's shapes do not tell its activation, quick_gelu (OpenAI's and "
      "others) or gelu (LAION's, HPSv2, PickScore): put the released "
      'config.json or open_clip_config.json beside the weights, or convert '
      'them with python -m softdimo_jax.convert and --activation'
    )
  if activation not in layers.ACTIVATIONS:
    raise ConversionError(f'the activation {activation} is unknown')
  return activation


def of_model(folder: pathlib.Path, shapes: Shapes) -> Options:
  """Options of a whole CLIP from the files in the folder of its weights.

  Raises:
    ConversionError: if they are of another network, or of a CLIP that the
      modules do not compute.
  """
  _check_preprocessing(folder)
  towers = _read(folder)
  _check_width(folder, shapes, towers)
  options: Options = {}
  for name, option in (('image', 'num_heads'), ('text', 'text_heads')):
    if name in towers:
      options[option] = towers[name].num_heads
      activation = towers[name].activation
      if options.setdefault('activation', activation) != activation:
        raise ConversionError(
          f'the configuration in {folder} gives the towers two activations'
        )
  return options


def of_text(folder: pathlib.Path, shapes: Shapes) -> Options:
  """Options of a text tower; as `of_model`."""
  towers = _read(folder)
  if 'text' not in towers:
    return {}
  _check_width(folder, shapes, {'text': towers['text']})
  text = towers['text']
  return {'num_heads': text.num_heads, 'activation': text.activation}


def _read(folder: pathlib.Path) -> _Towers:
  readers: Mapping[str, Callable[[Config], _Towers]] = {
    'config.json': _transformers,
    'open_clip_config.json': _open_clip,
  }
  found: dict[str, _Towers] = {}
  for name, reader in readers.items():
    config = _json(folder / name)
    try:
      towers = reader(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise ConversionError(
        f'{folder / name}: {error}'
        if isinstance(error, ConversionError)
        else f'{folder / name} is not the configuration of a CLIP '
        f'({type(error).__name__}: {error})'
      ) from error
    if towers:
      found[name] = towers
  first, *others = found.values() or ({},)
  for other in others:
    if any(first[name] != other[name] for name in first.keys() & other.keys()):
      raise ConversionError(
        f'{folder} has a {" and an ".join(found)} that do not agree; keep the '
        'one of these weights'
      )
  for name, towers in found.items():
    kinds = {tower.activation for tower in towers.values()}
    say(f'{folder / name}: the activation is {" and ".join(sorted(kinds))}')
  return first


def _json(path: pathlib.Path) -> Config:
  if not path.is_file():
    return {}
  try:
    config = unique_json(path.read_text('utf-8'))
  except (OSError, ValueError) as error:
    raise ConversionError(f'{path} cannot be read ({error})') from error
  return config if isinstance(config, dict) else {}


def _transformers(config: Config) -> _Towers:
  """Towers of `CLIPConfig`, `CLIPTextConfig` or `CLIPVisionConfig`.

  Absent fields have transformers' defaults.
  """
  kind = str(config.get('model_type', ''))
  if not kind.startswith('clip'):
    return {}
  if kind == 'clip_text_model':
    return {'text': _transformers_tower(config, 8, 512)}
  if kind == 'clip_vision_model':
    return {'image': _transformers_tower(config, 12, 768)}
  part = lambda name: (
    (config.get(name) or {}) | (config.get(f'{name}_dict') or {})
  )
  return {
    'image': _transformers_tower(part('vision_config'), 12, 768),
    'text': _transformers_tower(part('text_config'), 8, 512),
  }


def _transformers_tower(config: Config, heads: int, width: int) -> _Tower:
  activation = config.get('hidden_act', 'quick_gelu')
  epsilon = config.get('layer_norm_eps', _EPSILON)
  if epsilon != _EPSILON:
    raise ConversionError(f'layer_norm_eps {epsilon} is not supported')
  if activation not in _ACTIVATIONS:
    raise ConversionError(f'hidden_act {activation} is not supported')
  return _Tower(
    _ACTIVATIONS[activation],
    config.get('num_attention_heads', heads),
    config.get('hidden_size', width),
  )


def _open_clip(config: Config) -> _Towers:
  """Towers of open_clip's model configuration."""
  model = config.get('model_cfg', config)
  if 'vision_cfg' not in model:
    return {}
  image, text = model['vision_cfg'], model['text_cfg']
  for option, values in _ONLY.items():
    for tower in (image, text):
      if option in tower and tower[option] not in values:
        raise ConversionError(f'{option} {tower[option]!r} is not supported')
  activation = 'quick_gelu' if model.get('quick_gelu') else 'gelu'
  kinds = []
  for tower in (image, text):
    approximate = (tower.get('act_kwargs') or {}).get('approximate', 'none')
    tanh = approximate == 'tanh' and activation == 'gelu'
    kinds.append('gelu_tanh' if tanh else activation)
  width = image.get('width', 768)
  return {
    'image': _Tower(kinds[0], width // image.get('head_width', 64), width),
    'text': _Tower(kinds[1], text.get('heads', 8), text.get('width', 512)),
  }


def _check_width(folder: pathlib.Path, shapes: Shapes, towers: _Towers) -> None:
  """Raises ConversionError for the configuration of another network."""
  entries = {
    'image': (
      'visual.class_embedding',
      'vision_model.embeddings.class_embedding',
    ),
    'text': ('ln_final.weight', 'text_model.final_layer_norm.weight'),
  }
  for name, tower in towers.items():
    for entry in entries[name]:
      if entry in shapes and shapes[entry][0] != tower.width:
        raise ConversionError(
          f'the configuration in {folder} is of another network, whose {name} '
          f'tower has the width {tower.width} instead of {shapes[entry][0]}; '
          'move the weights to a folder of their own'
        )


def _check_preprocessing(folder: pathlib.Path) -> None:
  """Raises ConversionError for images that are not normalised as CLIP's."""
  open_clip = _json(folder / 'open_clip_config.json')
  transformers = _json(folder / 'preprocessor_config.json')
  for mean in (
    (open_clip.get('preprocess_cfg') or {}).get('mean'),
    transformers.get('image_mean'),
  ):
    if isinstance(mean, list) and any(
      abs(ours - theirs) > _TOLERANCE
      for ours, theirs in zip(CLIP_MEAN, mean, strict=False)
    ):
      raise ConversionError(
        f'the configuration in {folder} normalises images by the mean {mean}, '
        "which is not CLIP's and not supported"
      )
