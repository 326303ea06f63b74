"""Fixtures of CLIP's text towers."""

import jax
import jax.numpy as jnp

from softdimo_jax.convert.clip_text import convert_clip_text
from softdimo_jax.networks.call import call
from softdimo_jax.networks.text.clip import CLIPTextTower, TextOutput
from softdimo_jax.parity import official_towers, record
from softdimo_jax.parity.fixture import Fixture


def clip_text(fixture: Fixture) -> dict[str, jax.Array]:
  """`CLIPTextModelWithProjection` of transformers."""
  output = _run(official_towers.clip_text(fixture.config['model']), fixture)
  batch = jnp.arange(len(output.end))
  return {
    'embeddings': output.hidden[0],
    'last_hidden_state': output.final,
    'penultimate': output.penultimate,
    'pooled': output.final[batch, output.end],
    'text_embeds': output.pooled,
  }


def openclip_text(fixture: Fixture) -> dict[str, jax.Array]:
  """open_clip's text half, as used by MaskGen and TA-TiTok."""
  output = _run(official_towers.openclip_text(fixture.config['model']), fixture)
  return {
    'guidance': output.final,
    'penultimate': output.penultimate,
    'pooled': output.pooled[:, None],
  }


def _run(tower: CLIPTextTower, fixture: Fixture) -> TextOutput:
  params, _ = convert_clip_text(fixture.state_dict(), tower)
  run = record.compiled(lambda params, ids: call(tower, params, ids))
  return run(params, fixture.arrays['input_ids'])
