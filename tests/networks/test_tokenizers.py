"""Parity of the image tokenizers with the official implementations."""

import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.convert.maskbit_tokenizer import convert_maskbit_tokenizer
from softdimo_jax.convert.taming_vqgan import convert_taming_vqgan
from softdimo_jax.method import quantization
from softdimo_jax.method.soft_embedding import soft_embedding
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer
from softdimo_jax.networks.tokenizers.taming_vqgan import TamingVQGAN
from tests.golden import parity
from tests.golden.weights import load

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'

# Compiling takes longer than running: spare it LLVM's costly passes.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)

TAMING = TamingVQGAN(
  resolution=32,
  hidden_channels=32,
  channel_multipliers=(1, 1, 2),
  num_res_blocks=1,
  attention_resolutions=(8,),
  latent_channels=32,
  codebook_size=24,
  embedding_dim=20,
)
BITS = MaskBitTokenizer(
  hidden_channels=32,
  channel_multipliers=(1, 1, 2),
  embedding_dim=10,
  num_groups=2,
)
LOOKUP = MaskBitTokenizer(
  hidden_channels=32,
  channel_multipliers=(1, 2),
  num_res_blocks=1,
  conv_downsample=False,
  embedding_dim=20,
  codebook_size=24,
)

# Official intermediates: module of ours whose output they are.
TAMING_INTERMEDIATES = {
  'enc': 'encoder',
  'enc_down0_c8': 'encoder/down_0_downsample_conv',
  'enc_down1': 'encoder/down_1_downsample_conv',
  'enc_down2': 'encoder/down_2_attn_0',
  'enc_mid_attn': 'encoder/mid_attn_1',
  'dec_up2_c8': 'decoder/up_2_upsample_conv',
  'dec_up1_c8': 'decoder/up_1_upsample_conv',
  'dec_up0_c8': 'decoder/up_0_block_1',
}
BITS_INTERMEDIATES = {
  'enc_down0_c8': 'encoder/down_0_downsample_conv',
  'enc_down1': 'encoder/down_1_downsample_conv',
  'enc_down2': 'encoder/down_2_block_1',
  'enc_mid': 'encoder/mid_block_1',
  'dec_mid': 'decoder/mid_block_1',
  'dec_stage0_c8': 'decoder/up_2_upsample_conv',
  'dec_stage1_c8': 'decoder/up_1_upsample_conv',
  'dec_stage2_c8': 'decoder/up_0_block_1',
}
LOOKUP_INTERMEDIATES = {
  'enc_down0': 'encoder/down_0_block_0',  # before the pooling
  'enc_down1': 'encoder/down_1_block_0',
  'enc_mid': 'encoder/mid_block_0',
  'dec_mid': 'decoder/mid_block_0',
  'dec_stage0_c8': 'decoder/up_1_upsample_conv',
  'dec_stage1_c8': 'decoder/up_0_block_0',
}


def to_nhwc(x):
  return jnp.asarray(x).transpose(0, 2, 3, 1)


def to_nchw(x):
  """[B, H, W, C] or a square [B, L, C] as the originals lay it out."""
  if x.ndim == 3:
    side = int(x.shape[1] ** 0.5)
    x = x.reshape(x.shape[0], side, side, -1)
  return x.transpose(0, 3, 1, 2)


def use(module, images, tokens):
  return {
    'output': module(images),
    'table': module.table(),
    'decoded': module.decode(tokens),
    'entry': module.embed(tokens),
  }


def run(module, params, scaled_params, images, tokens, logits, cotangent):
  """All that the fixtures ask of a tokenizer, in our layout.

  Returns the results and the outputs of the submodules.
  """

  @quick_jit
  def compute(variables):
    results, captured = module.apply(
      variables,
      images,
      tokens,
      method=use,
      capture_intermediates=True,
      mutable='intermediates',
    )

    def decode_soft(logits):
      embeddings = soft_embedding(jax.nn.softmax(logits), results['table'])
      return module.apply(
        variables, embeddings, method='decode_embeddings'
      ), embeddings

    results['soft_images'], pullback, results['soft_embeddings'] = jax.vjp(
      decode_soft, logits, has_aux=True
    )
    (results['soft_gradient'],) = pullback(cotangent)
    return results, captured['intermediates']

  with jax.default_matmul_precision('highest'):
    results, intermediates = compute({'params': params})
    scaled, _ = compute({'params': scaled_params})
  results['eps_z'] = scaled['output'].latents
  results['eps_decoded'] = scaled['decoded']
  return results, intermediates


def pick(intermediates, table):
  """Named module outputs, in the official layout and channel selection.

  The decoder's are those of its last run, on the fixture's codes.
  """
  picked = {}
  for name, path in table.items():
    node = intermediates
    for key in path.split('/'):
      node = node[key]
    value = to_nchw(node['__call__'][-1])
    picked[name] = value[:, ::8] if name.endswith('_c8') else value
  return picked


def taming_results():
  meta, state, arrays = load(GOLDEN, 'maskgit_vqgan')
  params, report = convert_taming_vqgan(state, TAMING)
  scaled_params, _ = convert_taming_vqgan(
    parity.scaled(state, meta['config']['eps_scale']), TAMING
  )
  assert len(report.used) == len(state)
  images = (to_nhwc(arrays['image']) + 1) / 2
  codes = jnp.asarray(arrays['codes']).reshape(2, -1, 1)
  results, intermediates = run(
    TAMING,
    params,
    scaled_params,
    images,
    codes,
    arrays['soft_z'].reshape(2, 64, 1, 24),
    2 * to_nhwc(arrays['soft_cot']),  # official images span [-1, 1]
  )
  output = results['output']
  loss, _ = quantization.vq_loss(
    output.latents,
    output.quantized,
    codebook_weight=0.25,
    commitment_weight=1.0,
  )
  ours = pick(intermediates, TAMING_INTERMEDIATES) | {
    'z': to_nchw(output.latents),
    'indices': output.tokens.reshape(2, 8, 8),
    'quant': to_nchw(output.quantized),
    'emb_loss': loss,
    'reconstruction': to_nchw(2 * output.images - 1),
    'decoded': to_nchw(2 * results['decoded'] - 1),
    'eps_z': to_nchw(results['eps_z']),
    'eps_decoded': to_nchw(2 * results['eps_decoded'] - 1),
    'soft_quant': to_nchw(results['soft_embeddings']),
    'soft_decoded': to_nchw(2 * results['soft_images'] - 1),
    'soft_grad_z': results['soft_gradient'].reshape(2, 8, 8, 24),
  }
  return ours, {name: arrays[name] for name in meta['output_arrays']}


def maskbit_losses(latents, output, codebook, temperature):
  """Official evaluation losses and training entropies.

  At the official latents: the temperature amplifies the rounding of an
  encoder two hundred times.
  """
  if codebook is None:
    loss, _ = quantization.lfq_loss(latents, entropy_weight=0)
    _, terms = quantization.lfq_loss(latents, temperature=temperature)
    sample, average = terms['sample_entropy'], terms['average_entropy']
  else:
    loss, terms = quantization.vq_loss(latents, output.quantized)
    sample, average = quantization.code_entropies(
      quantization.code_affinity(latents, codebook), temperature=temperature
    )
  return {
    'quantizer_loss': loss,
    'commitment_loss': 0.25 * terms['commitment'],
    'per_sample_entropy': sample,
    'avg_entropy': average,
  }


def maskbit_results(tag, module, intermediate_table):
  meta, states, arrays = load(GOLDEN, 'maskbit_tokenizer')
  state = states[tag]
  params, report = convert_maskbit_tokenizer(state, module)
  scaled_params, _ = convert_maskbit_tokenizer(
    parity.scaled(state, meta['config']['eps_scale']), module
  )
  assert len(report.used) == len(state)
  arrays = {
    name.removeprefix(f'{tag}_'): value
    for name, value in arrays.items()
    if name.startswith(f'{tag}_')
  }
  images = to_nhwc(arrays['image'])
  codes = jnp.asarray(arrays['codes'])
  tokens = codes[..., None]
  if module.codebook_size is None:
    tokens = quantization.split_tokens(codes, num_bits=10, num_groups=2)
  results, intermediates = run(
    module,
    params,
    scaled_params,
    images,
    tokens,
    arrays['soft_z'],
    to_nhwc(arrays['soft_cot']),
  )
  output = results['output']
  indices = output.tokens[..., 0]
  if module.codebook_size is None:
    indices = quantization.merge_tokens(output.tokens, num_bits=10)
  ours = pick(intermediates, intermediate_table)
  ours |= maskbit_losses(
    to_nhwc(arrays['z']).reshape(output.latents.shape),
    output,
    results['table'][0] if module.codebook_size else None,
    meta['config']['models'][tag]['config']['entropy_loss_temperature'],
  )
  ours |= {
    'z': to_nchw(output.latents),
    'quantized': to_nchw(output.quantized),
    'indices': indices.reshape(2, 8, 8),
    'reconstruction': to_nchw(output.images),
    'decoded': to_nchw(results['decoded']),
    'codebook_entry': results['entry'],
    'eps_z': to_nchw(results['eps_z']),
    'eps_decoded': to_nchw(results['eps_decoded']),
    'soft_quantized': to_nchw(results['soft_embeddings']),
    'soft_decoded': to_nchw(results['soft_images']),
    'soft_grad_z': results['soft_gradient'],
  }
  if module is LOOKUP:
    pooled = nn.avg_pool(to_nhwc(ours['enc_down0']), (2, 2), (2, 2))
    ours['enc_down0'] = to_nchw(pooled)
  expected = {
    name: arrays[name.removeprefix(f'{tag}_')]
    for name in meta['output_arrays']
    if name.startswith(f'{tag}_')
  }
  return {f'{tag}_{name}': value for name, value in ours.items()}, expected


def test_taming_parity():
  parity.check(*taming_results())


def test_maskbit_lookup_free_parity():
  parity.check(*maskbit_results('lfq10', BITS, BITS_INTERMEDIATES))


def test_maskbit_lookup_parity():
  parity.check(*maskbit_results('vq', LOOKUP, LOOKUP_INTERMEDIATES))
