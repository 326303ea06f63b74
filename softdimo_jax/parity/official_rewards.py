"""Official constructor arguments of the rewards beside CLIP -> our modules."""

from softdimo_jax.networks.rewards.blip import (
  BLIPImageTower,
  BLIPScorer,
  BLIPTextEncoder,
)
from softdimo_jax.networks.rewards.head import LinearHead
from softdimo_jax.parity.official import Config

# Hidden width of the image tower's MLPs, a number in the official code.
_MLP_RATIO = 4


def image_reward(config: Config) -> BLIPScorer:
  """`ImageReward`; listings leave what is in its code to the defaults.

  Raises:
    ValueError: for an activation that BLIP does not have.
  """
  image, text = config['vit'], config['bert']
  if text['hidden_act'] != 'gelu':
    raise ValueError(
      f'hidden_act {text["hidden_act"]!r} is unknown; only gelu is known'
    )
  told = {name: config[name] for name in ('mean', 'std') if name in config}
  if 'mlp_hidden' in config:
    told['head_widths'] = tuple(config['mlp_hidden'])
  return BLIPScorer(
    BLIPImageTower(
      resolution=image['img_size'],
      patch=image['patch_size'],
      width=image['embed_dim'],
      depth=image['depth'],
      num_heads=image['num_heads'],
      mlp_width=_MLP_RATIO * image['embed_dim'],
    ),
    BLIPTextEncoder(
      vocab_size=text['vocab_size'],
      length=text['max_position_embeddings'],
      width=text['hidden_size'],
      depth=text['num_hidden_layers'],
      num_heads=text['num_attention_heads'],
      mlp_width=text['intermediate_size'],
      epsilon=text['layer_norm_eps'],
    ),
    **told,
  )


def aesthetic_head(config: Config) -> LinearHead:
  """The aesthetic predictor's `MLP`.

  Raises:
    ValueError: for an activation between the layers, which it has no more.
  """
  if config['activation'] is not None:
    raise ValueError(f'activation {config["activation"]!r} is unknown')
  return LinearHead(tuple(config['hidden']))
