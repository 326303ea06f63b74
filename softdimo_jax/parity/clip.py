"""Fixtures of whole CLIP models, with gradients with respect to the images."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from softdimo_jax.convert.clip import convert_clip
from softdimo_jax.networks.call import call
from softdimo_jax.networks.rewards.clip import CLIP, CLIPOutput, ImageOutput
from softdimo_jax.networks.text.clip import TextOutput
from softdimo_jax.parity import official_towers, record
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays
from softdimo_jax.types import Params

# The official score of a batch, one number per image.
Score = Callable[[CLIPOutput], jax.Array]


def clip_model(fixture: Fixture) -> Arrays:
  """`CLIPModel` of transformers, scored like PickScore."""
  model = official_towers.clip(fixture.config)
  return _compute(model, fixture, functools.partial(_clip_model, model))


def openclip_model(fixture: Fixture) -> Arrays:
  """`CLIP` of open_clip, scored like HPSv2."""
  model = official_towers.openclip(fixture.config)
  return _compute(model, fixture, functools.partial(_openclip_model, model))


def _compute(
  model: CLIP, fixture: Fixture, run: Callable[[Arrays, Params], Arrays]
) -> Arrays:
  params, _ = convert_clip(fixture.state_dict(), model)
  return record.compiled(functools.partial(run, fixture.arrays))(params)


def _clip_model(
  model: CLIP, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  ours, output, image, text = _common(model, _pick_score, arrays, params)
  # Without the mask only the states of padding differ.
  tower = lambda model, *inputs: model.text(*inputs)
  ids, mask = arrays['input_ids'], arrays['attention_mask'] == 1
  masked = call(model, params, ids, mask, method=tower)
  return ours | {
    **_numbered('vision_hidden', image.hidden),
    'vision_hidden_last': image.hidden[-1],
    'vision_last_hidden': image.hidden[-1],
    'vision_pooled': image.final,
    **_numbered('text_hidden', masked.hidden),
    'text_last_hidden': masked.final,
    'text_pooled': _at_end(masked),
    'text_pooled_nomask': _at_end(text),
    'logits_per_image': output.logits,
    'cosine': output.image @ output.text.T,
    'pair_score': _pick_score(output),
  }


def _openclip_model(
  model: CLIP, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  ours, output, image, text = _common(model, _hps_score, arrays, params)
  return ours | {
    **_numbered('vision_block', image.hidden[1:]),
    **_numbered('text_block', text.hidden[1:]),
    'logit_scale_exp': output.scale,
    'hps_score': _hps_score(output),
    'hps_benchmark': 100 * _hps_score(output),
  }


def _common(
  model: CLIP, score: Score, arrays: Arrays, params: Params
) -> tuple[dict[str, jax.Array], CLIPOutput, ImageOutput, TextOutput]:
  """Arrays common to both kinds; outputs of the model and of its towers."""

  def scored(images: jax.Array) -> tuple[jax.Array, tuple]:
    ids = arrays['input_ids']
    output, output_of = record.apply(model, params, images, ids)
    towers = output_of('image'), output_of('text')
    return score(output).sum(), (output, *towers)

  images = record.to_nhwc(arrays['pixel_values'])
  gradient, (output, image, text) = jax.grad(scored, has_aux=True)(images)
  embed = lambda model, images: model.image.embed(images)
  ours = {
    'vision_embed_preln': model.apply({'params': params}, images, method=embed),
    'image_features': image.pooled,
    'text_features': text.pooled,
    'image_embeds': output.image,
    'text_embeds': output.text,
    'grad_pixel_values': record.to_nchw(gradient),
  }
  return ours, output, image, text


def _pick_score(output: CLIPOutput) -> jax.Array:
  return output.scale * output.cosines


def _hps_score(output: CLIPOutput) -> jax.Array:
  return output.cosines


def _numbered(name: str, outputs: jax.Array) -> dict[str, jax.Array]:
  return {f'{name}_{i}': output for i, output in enumerate(outputs)}


def _at_end(text: TextOutput) -> jax.Array:
  """States of the end-of-text tokens after the final norm, [B, D]."""
  return text.final[jnp.arange(len(text.end)), text.end]
