"""Fixtures of ImageReward and of the aesthetic predictor's head."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert.image_reward import convert_image_reward
from softdimo_jax.convert.linear_head import convert_aesthetic_head
from softdimo_jax.networks.call import call
from softdimo_jax.networks.rewards.blip import BLIPOutput, BLIPScorer
from softdimo_jax.ops.quantization import l2_normalize
from softdimo_jax.parity import official_towers, record
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays
from softdimo_jax.types import Params

# ReNO's loss is the highest human rating minus the score.
_BEST = 10

# Output, embedded text, and output of the norm after the cross-attention.
_Outputs = tuple[BLIPOutput, jax.Array, jax.Array]


def image_reward(fixture: Fixture) -> Arrays:
  """`ImageReward`: score, intermediates and gradient; BLIP's features."""
  scorer = official_towers.image_reward(fixture.config)
  state = fixture.state_dict()
  params, _ = convert_image_reward(state, scorer)
  run = functools.partial(_image_reward, scorer, fixture.arrays)
  ours = record.compiled(run)(params)
  # BLIP's similarity uses projections that the score, and so our module, lacks.
  text = ours['text_only_last_hidden'][:, 0]
  return ours | {
    'blip_image_feature': _feature(state, 'vision', ours['image_embeds'][:, 0]),
    'blip_text_feature': _feature(state, 'text', text),
  }


def aesthetic_head(fixture: Fixture) -> Arrays:
  """The head on CLIP features, normalised to unit vectors."""
  head = official_towers.aesthetic_head(fixture.config)
  params, _ = convert_aesthetic_head(fixture.state_dict(), head)
  features = l2_normalize(jnp.asarray(fixture.arrays['clip_image_features']))
  run = record.compiled(lambda params: call(head, params, features))
  score = run(params)
  return {'score': score[:, None], 'reno_loss': _BEST - score.mean()}


def _image_reward(
  scorer: BLIPScorer, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  images = record.to_nhwc(arrays['pixel_values'])
  ids, mask = arrays['input_ids'], arrays['attention_mask'] == 1

  def scored(images: jax.Array) -> tuple[jax.Array, _Outputs]:
    output, output_of = record.apply(scorer, params, images, ids, mask)
    inner = output_of('text/emb_norm'), output_of('text/layers/cross_norm')
    return output.score.sum(), (output, *inner)

  gradient, (output, embedded, cross) = jax.grad(scored, has_aux=True)(images)
  apply = functools.partial(call, scorer, params)
  read = lambda scorer, *text: scorer.text(*text)
  return {
    'image_embeds': output.image,
    'text_embeddings': embedded,
    'cross_attention_0': cross[0],
    'text_layer_0': output.text[0],
    'text_last_hidden': output.text[-1],
    'mlp_raw': output.raw[:, None],
    'score': output.score[:, None],
    'grad_pixel_values': record.to_nchw(gradient),
    'score_swapped_images': apply(images[::-1], ids, mask).score[:, None],
    'text_only_last_hidden': apply(ids, mask, method=read)[-1],
  }


def _feature(
  state: Mapping[str, np.ndarray], half: str, x: jax.Array
) -> jax.Array:
  """Official projection of one half, as unit vectors."""
  weight, bias = (
    state[f'blip.{half}_proj.{leaf}'] for leaf in ('weight', 'bias')
  )
  with jax.default_matmul_precision('highest'):
    return l2_normalize(x @ weight.T + bias)
