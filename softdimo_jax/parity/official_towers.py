"""Official constructor arguments of CLIP and the rewards, see `official`."""

from softdimo_jax.networks.rewards.blip import (
  BLIPImageTower,
  BLIPScorer,
  BLIPTextEncoder,
)
from softdimo_jax.networks.rewards.clip import CLIP, CLIPImageTower
from softdimo_jax.networks.rewards.head import LinearHead
from softdimo_jax.networks.text.clip import CLIPTextTower
from softdimo_jax.parity.official import (
  BERT_SIZES,
  Config,
  check_known,
  renamed,
)

_OPENCLIP_MLP_RATIO, _OPENCLIP_HEAD_WIDTH = 4, 64
# Hidden width of BLIP's image MLPs, a constant in the official code.
_BLIP_MLP_RATIO = 4
_OPENCLIP_TEXT_OPTIONS = {
  'no_causal_mask': False,
  'final_ln_after_pool': False,
  'pool_type': 'argmax',
  'act_kwargs': None,
  'norm_kwargs': None,
}
# End-of-text id in old configurations, which means the largest id.
_LEGACY_END = 2
_HF_ACTIVATIONS = {
  'gelu': 'gelu',
  'gelu_new': 'gelu_tanh',
  'gelu_pytorch_tanh': 'gelu_tanh',
  'quick_gelu': 'quick_gelu',
}
_TEXT_SIZES = BERT_SIZES | {'epsilon': 'layer_norm_eps'}
_IMAGE_SIZES = {
  ours: theirs
  for ours, theirs in _TEXT_SIZES.items()
  if ours not in ('vocab_size', 'length')
} | {'resolution': 'image_size', 'patch': 'patch_size'}
_OPENCLIP_TEXT = {
  'vocab_size': 'vocab_size', 'length': 'context_length',
  'width': 'width', 'depth': 'layers', 'num_heads': 'heads',
}  # fmt: skip
_OPENCLIP_IMAGE = {
  'resolution': 'image_size', 'patch': 'patch_size',
  'width': 'width', 'depth': 'layers',
}  # fmt: skip
_BLIP_IMAGE = {
  'resolution': 'img_size', 'patch': 'patch_size',
  'width': 'embed_dim', 'depth': 'depth', 'num_heads': 'num_heads',
}  # fmt: skip


def clip_text(config: Config) -> CLIPTextTower:
  """`CLIPTextModelWithProjection` of transformers.

  Raises:
    ValueError: if no CLIP has the activation.
  """
  end = config['eos_token_id']
  return CLIPTextTower(
    projection_width=config['projection_dim'],
    activation=_hf_activation(config),
    end_token=None if end == _LEGACY_END else end,
    **renamed(config, _TEXT_SIZES),
  )


def clip(config: Config) -> CLIP:
  """`CLIPModel` of transformers, whose projections have the same width.

  Raises:
    ValueError: if no CLIP has the activation.
  """
  image, width = config['vision'], config['proj']
  return CLIP(
    CLIPImageTower(
      projection_width=width,
      activation=_hf_activation(image),
      **renamed(image, _IMAGE_SIZES),
    ),
    clip_text({**config['text'], 'projection_dim': width}),
  )


def _hf_activation(config: Config) -> str:
  activation = config['hidden_act']
  if activation not in _HF_ACTIVATIONS:
    raise ValueError(
      f'hidden_act {activation!r} is unknown; choose one of '
      f'{tuple(_HF_ACTIVATIONS)}'
    )
  return _HF_ACTIVATIONS[activation]


def openclip_text(config: Config) -> CLIPTextTower:
  """The text half of open_clip's `CLIP`.

  Raises:
    ValueError: if no CLIP has these options.
  """
  text = config['text_cfg']
  check_known(text, _OPENCLIP_TEXT_OPTIONS)
  return CLIPTextTower(
    **renamed(text, _OPENCLIP_TEXT), **_openclip_options(config, text)
  )


def openclip(config: Config) -> CLIP:
  """`CLIP` of open_clip, OpenAI and HPSv2.

  Raises:
    ValueError: if no CLIP has these options of the text half.
  """
  image = config['vision_cfg']
  head_width = image.get('head_width', _OPENCLIP_HEAD_WIDTH)
  return CLIP(
    CLIPImageTower(
      num_heads=image['width'] // head_width,
      **renamed(image, _OPENCLIP_IMAGE),
      **_openclip_options(config, image),
    ),
    openclip_text(config),
  )


def _openclip_options(config: Config, tower: Config) -> Config:
  ratio = tower.get('mlp_ratio', _OPENCLIP_MLP_RATIO)
  return {
    'mlp_width': int(tower['width'] * ratio),
    'projection_width': config['embed_dim'],
    'activation': 'quick_gelu' if config.get('quick_gelu') else 'gelu',
  }


def image_reward(config: Config) -> BLIPScorer:
  """`ImageReward`; constants in its code, absent from listings, are defaults.

  Raises:
    ValueError: if the activation is not BLIP's.
  """
  image, text = config['vit'], config['bert']
  if text['hidden_act'] != 'gelu':
    raise ValueError(
      f'hidden_act {text["hidden_act"]!r} is unknown; choose gelu'
    )
  given = {name: config[name] for name in ('mean', 'std') if name in config}
  if 'mlp_hidden' in config:
    given['head_widths'] = tuple(config['mlp_hidden'])
  return BLIPScorer(
    BLIPImageTower(
      mlp_width=_BLIP_MLP_RATIO * image['embed_dim'],
      **renamed(image, _BLIP_IMAGE),
    ),
    BLIPTextEncoder(**renamed(text, _TEXT_SIZES)),
    **given,
  )


def aesthetic_head(config: Config) -> LinearHead:
  """The aesthetic predictor's `MLP`.

  Raises:
    ValueError: if there is an activation between the layers.
  """
  if config['activation'] is not None:
    raise ValueError(f'activation {config["activation"]!r} is unknown')
  return LinearHead(tuple(config['hidden']))
