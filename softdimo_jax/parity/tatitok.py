"""Fixtures of the tokenizer TA-TiTok."""

import functools

import jax
import numpy as np

from softdimo_jax.convert.tatitok import convert_tatitok
from softdimo_jax.networks.tokenizers.tatitok import TATiTok
from softdimo_jax.ops import quantization
from softdimo_jax.parity import official_tokenizers, record, tokenizers
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays
from softdimo_jax.types import Params


def tatitok(fixture: Fixture) -> Arrays:
  """`TATiTok` with a codebook; NCHW, images in [0, 1]."""
  config = fixture.config['model_config']
  module = official_tokenizers.tatitok(config, fixture.config.get('sizes'))
  params, _ = convert_tatitok(fixture.state_dict(), module)
  cost = config['model']['vq_model']['commitment_cost']
  run = functools.partial(_tatitok, module, cost, fixture.arrays)
  return record.compiled(run)(params)


def _tatitok(
  module: TATiTok, cost: float, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  results, output_of = tokenizers.run_tokenizer(
    module,
    params,
    record.to_nhwc(arrays['image']),
    arrays['tokens'][..., None],
    arrays['soft_z'][:, :, None],
    record.to_nhwc(arrays['soft_cot']),
    arrays['text_guidance'],
  )
  output, soft = results['output'], results['soft']
  loss, terms = quantization.vq_loss(
    output.latents, output.quantized, commitment_weight=cost
  )
  return {
    'enc_ln_pre': output_of('encoder/norm_in'),
    'z': _row(output_of('encoder')),
    'z_q': _row(output.quantized),
    'indices': np.swapaxes(output.tokens, 1, 2),
    'quantizer_loss': loss,
    'commitment_loss': cost * terms['commitment'],
    'codebook_loss': terms['codebook'],
    'recon': record.to_nchw(output.images),
    # The decoder's last run was on the given tokens.
    'dec_ln_pre': output_of('decoder/norm_in'),
    'dec_ln_post': output_of('decoder/norm_out'),
    'decoded': record.to_nchw(results['decoded']),
    'soft_decoded': record.to_nchw(soft[1]),
    'soft_grad_z': soft[2][:, :, 0],
  }


def _row(x: jax.Array) -> jax.Array:
  """[B, N, D] -> [B, D, 1, N]."""
  return x.swapaxes(1, 2)[:, :, None]
