"""Fixtures of the image tokenizers."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.convert.google_maskgit import convert_google_tokenizer
from softdimo_jax.convert.maskbit_tokenizer import convert_maskbit_tokenizer
from softdimo_jax.convert.taming_vqgan import convert_taming_vqgan
from softdimo_jax.networks.tokenizers.interface import (
  ImageTokenizer,
  TokenizerOutput,
  to_grid,
  to_sequence,
)
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer
from softdimo_jax.networks.tokenizers.taming_vqgan import TamingVQGAN
from softdimo_jax.ops import quantization
from softdimo_jax.parity import official_tokenizers, record
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Array, Arrays, OutputOf
from softdimo_jax.types import Params


def maskgit_vqgan(fixture: Fixture) -> Arrays:
  """Taming's `VQModel`; NCHW, images in [-1, 1]."""
  module = official_tokenizers.taming_vqgan(fixture.config['model'])
  states = fixture.state_dict(), fixture.state_dict(scaled=True)
  params, scaled = (convert_taming_vqgan(state, module)[0] for state in states)
  return _computed(_taming, module, fixture.arrays, params, scaled)


def maskbit_tokenizer(fixture: Fixture) -> Arrays:
  """MaskBit's `ConvVQModel`, one tag per model; NCHW, images in [0, 1]."""
  ours = {}
  models = fixture.config['models']
  for tag, part in fixture.tagged(models):
    config = models[tag]['config']
    module = official_tokenizers.maskbit_tokenizer(
      config,
      num_groups=part.arrays['soft_z'].shape[2],
      legacy=models[tag].get('legacy', False),
    )
    params, _ = convert_maskbit_tokenizer(part.state_dict(tag), module)
    scaled, _ = convert_maskbit_tokenizer(
      part.state_dict(tag, scaled=True), module
    )
    results = _computed(_maskbit, module, part.arrays, params, scaled)
    latents = part.arrays.get('z', results['z'])
    results |= _maskbit_losses(module, config, latents, params)
    ours |= {f'{tag}_{name}': value for name, value in results.items()}
  return ours


def google_tokenizer(fixture: Fixture) -> Arrays:
  """Google's `VQVAE`; NHWC, images in [0, 1]."""
  module = official_tokenizers.google_tokenizer(fixture.config['model'])
  states = fixture.state_dict(), fixture.state_dict(scaled=True)
  params, scaled = (
    convert_google_tokenizer(state, module)[0] for state in states
  )
  return _computed(_google, module, fixture.arrays, params, scaled)


def _computed(
  compute: Callable[..., Arrays],
  module: ImageTokenizer,
  arrays: Arrays,
  params: Params,
  scaled: Params,
) -> dict[str, Any]:
  """Result of `compute`, and its arrays `eps_*` with scaled weights."""
  run = record.compiled(functools.partial(compute, module, arrays))
  ours, others = run(params), run(scaled)
  return ours | {f'eps_{name}': others[name] for name in ('z', 'decoded')}


def _use(
  module: ImageTokenizer,
  images: jax.Array,
  tokens: jax.Array,
  *condition: jax.Array,
) -> dict[str, Any]:
  """Tokenizer outputs in the fixtures; the last decoder run is on `tokens`."""
  return {
    'output': module(images, *condition),
    'embedded': module.embed(tokens),
    'decoded': module.decode(tokens, *condition),
  }


def run_tokenizer(
  module: ImageTokenizer,
  params: Params,
  images: jax.Array,
  tokens: jax.Array,
  logits: Array,
  cotangent: Array | None,
  *condition: Array,
) -> tuple[dict[str, Any], OutputOf]:
  """Tokenizer outputs in the fixtures, in our layout.

  Args:
    module: the tokenizer.
    params: parameters of the tokenizer.
    images: float32 [B, H, W, C].
    tokens: int [B, L, G] to decode, independent of the images.
    logits: logits of the soft path, [B, L, G, V].
    cotangent: cotangent of the soft path's images; None for no gradient.
    *condition: further inputs of the decoder.

  Returns:
    `output` (of the images), `embedded` and `decoded` (of the tokens), `soft`
    (see `record.soft_path`); and a look-up of submodules' outputs.
  """
  results, output_of = record.apply(
    module, params, images, tokens, *condition, method=_use
  )
  bound = module.bind({'params': params})
  results['soft'] = record.soft_path(
    lambda embeddings: bound.decode_embeddings(embeddings, *condition),
    bound.table(),
    logits,
    cotangent,
  )
  return results, output_of


def as_sequences(tokens: Array, logits: Array) -> tuple[jax.Array, Array]:
  """Grids of tokens and logits [..., V] -> [B, L, 1] and [B, L, 1, V]."""
  batch = len(tokens)
  sequence = jnp.reshape(tokens, (batch, -1, 1))
  return sequence, logits.reshape(batch, -1, 1, logits.shape[-1])


def taming_loss(output: TokenizerOutput) -> jax.Array:
  """Codebook loss of Taming's and diffusers' codes."""
  loss, _ = quantization.vq_loss(
    output.latents,
    output.quantized,
    codebook_weight=0.25,
    commitment_weight=1.0,
  )
  return loss


def _taming(
  module: TamingVQGAN, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  codes, soft_z = arrays['codes'], arrays['soft_z']
  results, output_of = run_tokenizer(
    module,
    params,
    (record.to_nhwc(arrays['image']) + 1) / 2,
    *as_sequences(codes, soft_z),
    2 * record.to_nhwc(arrays['soft_cot']),  # official images span [-1, 1]
  )
  output, soft = results['output'], results['soft']
  signed = lambda images: record.to_nchw(2 * images - 1)
  return _taming_intermediates(module, output_of) | {
    'z': record.to_nchw(output.latents),
    'indices': _grid(output.tokens[..., 0]),
    'quant': record.to_nchw(output.quantized),
    'emb_loss': taming_loss(output),
    'reconstruction': signed(output.images),
    'decoded': signed(results['decoded']),
    'soft_quant': record.to_nchw(soft[0]),
    'soft_decoded': signed(soft[1]),
    'soft_grad_z': soft[2].reshape(soft_z.shape),
  }


def _taming_intermediates(
  module: TamingVQGAN, output_of: OutputOf
) -> dict[str, jax.Array]:
  last = len(module.channel_multipliers) - 1
  depth = module.num_res_blocks
  paths = {'enc': 'encoder', 'enc_mid_attn': 'encoder/mid_attn_1'}
  for level in range(last + 1):
    end = {'down': f'block_{depth - 1}', 'up': f'block_{depth}'}
    if output_of(f'encoder/down_{level}_attn_0') is not None:
      end = {way: part.replace('block', 'attn') for way, part in end.items()}
    if level < last:
      end['down'] = 'downsample_conv'
    if level > 0:
      end['up'] = 'upsample_conv'
    paths[f'enc_down{level}'] = f'encoder/down_{level}_{end["down"]}'
    paths[f'dec_up{level}'] = f'decoder/up_{level}_{end["up"]}'
  return {name: record.to_nchw(output_of(p)) for name, p in paths.items()}


def _maskbit(
  module: MaskBitTokenizer, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  codes = jnp.asarray(arrays['codes'])
  tokens = codes[..., None]
  if module.codebook_size is None:
    tokens = quantization.split_tokens(
      codes, num_bits=module.embedding_dim, num_groups=module.num_groups
    )
  results, output_of = run_tokenizer(
    module,
    params,
    record.to_nhwc(arrays['image']),
    tokens,
    arrays['soft_z'],
    record.to_nhwc(arrays['soft_cot']),
  )
  output, soft = results['output'], results['soft']
  indices = output.tokens[..., 0]
  if module.codebook_size is None:
    indices = quantization.merge_tokens(
      output.tokens, num_bits=module.embedding_dim
    )
  return _maskbit_intermediates(module, output_of) | {
    'z': record.to_nchw(output_of('encoder')),
    'quantized': record.to_nchw(output.quantized),
    'indices': _grid(indices),
    'reconstruction': record.to_nchw(output.images),
    'decoded': record.to_nchw(results['decoded']),
    'codebook_entry': results['embedded'],
    'soft_quantized': record.to_nchw(soft[0]),
    'soft_decoded': record.to_nchw(soft[1]),
    'soft_grad_z': soft[2],
  }


def _maskbit_intermediates(
  module: MaskBitTokenizer, output_of: OutputOf
) -> dict[str, jax.Array]:
  last = len(module.channel_multipliers) - 1
  encoder_end = f'block_{module.num_res_blocks - 1}'
  depth = module.num_res_blocks_decoder or module.num_res_blocks
  decoder_end = f'block_{depth - 1}'
  ours = {
    'enc_mid': output_of(f'encoder/mid_{encoder_end}'),
    'dec_mid': output_of(f'decoder/mid_{decoder_end}'),
  }
  for level in range(last + 1):
    down = output_of(f'encoder/down_{level}_{encoder_end}')
    if level < last and module.conv_downsample:
      down = output_of(f'encoder/down_{level}_downsample_conv')
    elif level < last:
      down = nn.avg_pool(down, (2, 2), (2, 2))
    end = 'upsample_conv' if level > 0 else decoder_end
    ours[f'enc_down{level}'] = down
    ours[f'dec_stage{last - level}'] = output_of(f'decoder/up_{level}_{end}')
  return {name: record.to_nchw(value) for name, value in ours.items()}


def _maskbit_losses(
  module: MaskBitTokenizer, config: Arrays, latents: Array, params: Params
) -> dict[str, jax.Array]:
  """Official evaluation losses and training entropies, at official latents.

  With our latents, the temperature would amplify rounding errors of the encoder
  by a factor of two hundred.
  """
  run = record.compiled(functools.partial(_quantizer, module, config))
  grid = record.to_nhwc(latents)
  loss, commitment, entropies = run(to_sequence(grid), params)
  return {
    'quantizer_loss': loss,
    'commitment_loss': config['commitment_cost'] * commitment,
    'per_sample_entropy': entropies[0],
    'avg_entropy': entropies[1],
  }


def _quantizer(
  module: MaskBitTokenizer,
  config: Arrays,
  latents: Array,
  params: Params,
) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
  cost = config['commitment_cost']
  bound = module.bind({'params': params})
  if module.codebook_size is None:
    loss, terms = quantization.lfq_loss(
      latents, commitment_weight=cost, entropy_weight=0
    )
    bits = module.embedding_dim
    codes = quantization.codes_to_bits(2**bits, bits)
  else:
    if module.l2_normalized:
      latents = quantization.l2_normalize(latents)
    _, tokens = bound.quantize(latents)
    loss, terms = quantization.vq_loss(
      latents, bound.embed(tokens), commitment_weight=cost
    )
    codes = bound.table()[0]
  if config['entropy_loss_weight'] == 0:  # Officially the entropies are zero.
    return loss, terms['commitment'], (jnp.zeros(()), jnp.zeros(()))
  entropies = quantization.code_entropies(
    quantization.code_affinity(latents, codes),
    temperature=config['entropy_loss_temperature'],
  )
  return loss, terms['commitment'], entropies


def _google(
  module: MaskBitTokenizer, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  codes, soft_z = arrays['codes'], arrays['soft_z']
  results, _ = run_tokenizer(
    module,
    params,
    arrays['image'],
    *as_sequences(codes, soft_z),
    None,
  )
  output, soft = results['output'], results['soft']
  return {
    'z': to_grid(output.latents),
    'indices': _grid(output.tokens[..., 0]),
    'quantized': to_grid(output.quantized),
    'reconstruction': output.images,
    'decoded': results['decoded'],
    'soft_quantized': to_grid(soft[0]),
    'soft_decoded': soft[1],
  }


def _grid(codes: jax.Array) -> jax.Array:
  """[B, L] -> [B, h, w]."""
  return to_grid(codes[..., None])[..., 0]
