"""Tokenizers of MaskBit (Weber et al. 2024), VQGAN+ and Google's MaskGIT.

Official modules: maskbit `modeling/conv_vqgan.py:ConvVQModel`,
`modeling/modules/autoencoder.py`, `modeling/quantizer`. One architecture
covers three releases: lookup-free bits (MaskBit), a codebook (VQGAN+), and a
codebook with average-pool downsampling (MaskGIT). It has no attention; its
residual blocks have the shortcut described in `blocks.ResBlock`. Parameter
names follow the original with list indices joined by `_`; in the decoder `up_0`
is the level of highest resolution and runs last.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks.tokenizers import blocks
from softdimo_jax.networks.tokenizers.interface import (
  CodebookTokenizer,
  check_images,
  to_grid,
  to_sequence,
)
from softdimo_jax.ops import quantization


class _Coder(nn.Module):
  """Fields and layers common to encoder and decoder."""

  out_channels: int
  hidden_channels: int
  channel_multipliers: tuple[int, ...]
  num_res_blocks: int
  num_norm_groups: int
  dtype: jnp.dtype

  def res_blocks(self, x: jax.Array, features: int, name: str) -> jax.Array:
    for b in range(self.num_res_blocks):
      x = blocks.ResBlock(
        features,
        shortcut_after_convs=True,
        bias=False,
        num_norm_groups=self.num_norm_groups,
        dtype=self.dtype,
        name=f'{name}_block_{b}',
      )(x)
    return x

  def width(self, level: int) -> int:
    return self.hidden_channels * self.channel_multipliers[level]

  def norm_out(self, x: jax.Array) -> jax.Array:
    return nn.silu(blocks.group_norm(self.num_norm_groups, 'norm_out')(x))


class _Encoder(_Coder):
  """[B, H, W, C] in [0, 1] -> [B, H / f, W / f, out_channels]."""

  conv_downsample: bool = True
  downsample_kernel: int = 3

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = blocks.conv3(
      self.hidden_channels, bias=False, dtype=self.dtype, name='conv_in'
    )(x)
    last = len(self.channel_multipliers) - 1
    for level in range(last + 1):
      x = self.res_blocks(x, self.width(level), f'down_{level}')
      if level < last:
        x = self.downsample(x, f'down_{level}_downsample_conv')
    x = self.norm_out(self.res_blocks(x, x.shape[-1], 'mid'))
    return blocks.conv1(self.out_channels, dtype=self.dtype, name='conv_out')(x)

  def downsample(self, x: jax.Array, name: str) -> jax.Array:
    if not self.conv_downsample:
      return nn.avg_pool(x, (2, 2), (2, 2))
    size = self.downsample_kernel
    return nn.Conv(
      x.shape[-1], (size, size), strides=2, dtype=self.dtype, name=name
    )(x)


class _Decoder(_Coder):
  """[B, h, w, D] -> [B, f h, f w, out_channels], nominally in [0, 1]."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = self.conv(x, self.width(-1), 'conv_in')
    x = self.res_blocks(x, x.shape[-1], 'mid')
    for level in reversed(range(len(self.channel_multipliers))):
      x = self.res_blocks(x, self.width(level), f'up_{level}')
      if level > 0:
        name = f'up_{level}_upsample_conv'
        x = self.conv(blocks.upsample(x), x.shape[-1], name)
    return self.conv(self.norm_out(x), self.out_channels, 'conv_out')

  def conv(self, x: jax.Array, features: int, name: str) -> jax.Array:
    return blocks.conv3(features, dtype=self.dtype, name=name)(x)


class MaskBitTokenizer(CodebookTokenizer):
  """Convolutional tokenizer with lookup-free bits or a codebook.

  Lookup-free: D bits per position in G = num_groups tokens, V = 2^(D / G).
  Codebook: G = 1, V = codebook_size.

  Attributes:
    hidden_channels: width of the first level.
    channel_multipliers: width of each level over `hidden_channels`; the
      downsampling factor is 2^(levels - 1).
    num_res_blocks: residual blocks per level and in the middle.
    num_res_blocks_decoder: the same for the decoder, if it differs.
    conv_downsample: whether downsampling is a strided convolution; else it is
      2x2 average pooling.
    downsample_kernel: side of that convolution's kernel; Google's is 4.
    embedding_dim: width of a code, D; the number of bits if lookup-free
      (`token_size`).
    codebook_size: number of codes; None for lookup-free quantisation.
    l2_normalized: whether latents and codes are unit vectors (cosine lookup).
    num_groups: tokens per position, G, the generator's `codebook_splits`; the
      low bits are group 0.
    num_norm_groups: groups of the group norms.

  Raises:
    ValueError: at first use, if the number of bits is not divisible by the
      groups, or a codebook has several groups.
  """

  hidden_channels: int = 128
  channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
  num_res_blocks: int = 2
  num_res_blocks_decoder: int | None = None
  conv_downsample: bool = True
  downsample_kernel: int = 3
  embedding_dim: int = 14
  codebook_size: int | None = None
  l2_normalized: bool = False
  num_groups: int = 1
  num_norm_groups: int = 32

  def setup(self):
    options = {
      'hidden_channels': self.hidden_channels,
      'channel_multipliers': self.channel_multipliers,
      'num_norm_groups': self.num_norm_groups,
      'dtype': self.dtype,
    }
    self.encoder = _Encoder(
      self.embedding_dim,
      num_res_blocks=self.num_res_blocks,
      conv_downsample=self.conv_downsample,
      downsample_kernel=self.downsample_kernel,
      **options,
    )
    self.decoder = _Decoder(
      self.in_channels,
      num_res_blocks=self.num_res_blocks_decoder or self.num_res_blocks,
      **options,
    )
    if self.codebook_size is None:
      return
    if self.num_groups != 1:
      raise ValueError('num_groups must be 1 with a codebook')
    self.setup_codebook()

  @property
  def factor(self) -> int:
    return 2 ** (len(self.channel_multipliers) - 1)

  def encode_latents(self, images: jax.Array) -> jax.Array:
    check_images(images, self.in_channels, self.factor)
    z = to_sequence(self.encoder(images).astype(jnp.float32))
    return quantization.l2_normalize(z) if self.l2_normalized else z

  def quantize(self, latents: jax.Array) -> tuple[jax.Array, jax.Array]:
    if self.codebook_size is None:
      tokens = quantization.bits_to_tokens(latents, self.num_groups)
    else:
      codebook = self.table()[0]
      tokens = quantization.nearest_code(latents, codebook)[..., None]
    return quantization.straight_through(latents, self.embed(tokens)), tokens

  def table(self) -> jax.Array:
    if self.codebook_size is None:
      return quantization.lookup_free_table(self.embedding_dim, self.num_groups)
    if self.l2_normalized:
      return quantization.l2_normalize(self.codebook)[None]
    return self.codebook[None]

  def decode_embeddings(self, embeddings: jax.Array) -> jax.Array:
    images = self.decoder(to_grid(embeddings))
    return images.astype(jnp.float32)  # [B, H, W, C]
