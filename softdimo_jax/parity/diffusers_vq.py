"""Fixtures of Meissonic's tokenizer."""

import functools

import jax

from softdimo_jax.convert.diffusers_vq import convert_diffusers_vq
from softdimo_jax.networks.tokenizers.diffusers_vq import DiffusersVQ
from softdimo_jax.networks.tokenizers.interface import to_grid
from softdimo_jax.parity import official_tokenizers, record, tokenizers
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays
from softdimo_jax.types import Params


def meissonic_vq(fixture: Fixture) -> Arrays:
  """diffusers' `VQModel`; NCHW, images in [0, 1]."""
  grid = fixture.arrays['tokens'].shape[1:]
  module = official_tokenizers.diffusers_vq(fixture.config['model'], grid)
  params, _ = convert_diffusers_vq(fixture.state_dict(), module)
  run = functools.partial(_diffusers_vq, module, fixture.arrays)
  return record.compiled(run)(params)


def _diffusers_vq(
  module: DiffusersVQ, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  tokens, soft_z = arrays['tokens'], arrays['soft_z']
  results, output_of = tokenizers.run_tokenizer(
    module,
    params,
    record.to_nhwc(arrays['image']),
    *tokenizers.as_sequences(tokens, soft_z),
    record.to_nhwc(arrays['soft_cot']),
  )
  output, soft = results['output'], results['soft']
  maps = {
    'enc_mid': output_of('encoder/mid_block_2'),
    'latents': to_grid(output.latents, module.grid),
    'z_q': to_grid(output.quantized, module.grid),
    'recon': output.images,
    # The decoder's last run was on the given tokens.
    'dec_post_quant': output_of('post_quant_conv'),
    'dec_mid': output_of('decoder/mid_block_2'),
    'decoded': results['decoded'],
    'soft_decoded': soft[1],
  }
  return {
    **{name: record.to_nchw(value) for name, value in maps.items()},
    'indices': to_grid(output.tokens, module.grid)[..., 0],
    'quant_loss': tokenizers.taming_loss(output),
    'soft_grad_z': soft[2].reshape(soft_z.shape),
  }
