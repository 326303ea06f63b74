"""Coders and base class of torch's VQGANs (Taming's and diffusers').

Parameter names follow Taming's with list indices joined by `_`; in the decoder,
`up_0` is the level of highest resolution and runs last.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.networks.tokenizers import blocks
from softdimo_jax.networks.tokenizers.interface import (
  CodebookTokenizer,
  to_sequence,
)


class _Coder(nn.Module):
  """Fields and layers common to encoder and decoder.

  Attributes:
    out_channels: channels of the output.
    hidden_channels: channels between the images and the first level.
    level_channels: channels of each level.
    num_res_blocks: residual blocks per encoder level; the decoder has one more.
    attention_levels: levels with attention after every residual block.
    middle_attention: whether there is attention between the two middle blocks.
    num_norm_groups: groups of the group norms.
    dtype: dtype of the convolutions.
    remat: key of `layers.REMAT_POLICIES`, which activations of a residual block
      the backward pass keeps.
  """

  out_channels: int
  hidden_channels: int
  level_channels: tuple[int, ...]
  num_res_blocks: int
  attention_levels: tuple[int, ...]
  middle_attention: bool
  num_norm_groups: int
  dtype: jnp.dtype
  remat: str = 'none'

  def res_block(self, x: jax.Array, features: int, name: str) -> jax.Array:
    return layers.rematerialized(blocks.ResBlock, self.remat)(
      features,
      num_norm_groups=self.num_norm_groups,
      dtype=self.dtype,
      name=name,
    )(x)

  def attention(self, x: jax.Array, name: str) -> jax.Array:
    return blocks.AttentionBlock(self.num_norm_groups, self.dtype, name=name)(x)

  def level(self, x: jax.Array, level: int, depth: int, way: str) -> jax.Array:
    features = self.level_channels[level]
    for b in range(depth):
      x = self.res_block(x, features, f'{way}_{level}_block_{b}')
      if level in self.attention_levels:
        x = self.attention(x, f'{way}_{level}_attn_{b}')
    return x

  def middle(self, x: jax.Array) -> jax.Array:
    x = self.res_block(x, x.shape[-1], 'mid_block_1')
    if self.middle_attention:
      x = self.attention(x, 'mid_attn_1')
    return self.res_block(x, x.shape[-1], 'mid_block_2')

  def output(self, x: jax.Array) -> jax.Array:
    x = nn.silu(blocks.group_norm(self.num_norm_groups, 'norm_out')(x))
    return self.conv(x, self.out_channels, 'conv_out')

  def conv(
    self, x: jax.Array, features: int, name: str, *, stride: int = 1
  ) -> jax.Array:
    layer = blocks.conv3(features, stride=stride, dtype=self.dtype, name=name)
    return layer(x)


class Encoder(_Coder):
  """[B, H, W, C] -> [B, H / f, W / f, out_channels]."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = self.conv(x, self.hidden_channels, 'conv_in')
    last = len(self.level_channels) - 1
    for level in range(last + 1):
      x = self.level(x, level, self.num_res_blocks, 'down')
      if level < last:
        name = f'down_{level}_downsample_conv'
        x = self.conv(x, x.shape[-1], name, stride=2)
    return self.output(self.middle(x))


class Decoder(_Coder):
  """[B, h, w, D] -> [B, f h, f w, out_channels]."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = self.middle(self.conv(x, self.level_channels[-1], 'conv_in'))
    for level in reversed(range(len(self.level_channels))):
      x = self.level(x, level, self.num_res_blocks + 1, 'up')
      if level > 0:
        name = f'up_{level}_upsample_conv'
        x = self.conv(blocks.upsample(x), x.shape[-1], name)
    return self.output(x)


class ConvolutionalVQ(CodebookTokenizer):
  """Base of torch's VQGANs; G = 1, V = codebook_size.

  Subclasses call `setup_coders` in `setup`.

  Attributes:
    num_res_blocks: residual blocks per encoder level; the decoder has one more.
    latent_channels: channels between coders and 1x1 convolutions.
    num_norm_groups: groups of the group norms.
  """

  num_res_blocks: int = 2
  latent_channels: int = 256
  num_norm_groups: int = 32

  def setup_coders(self, **options) -> None:
    """Creates layers and codebook; `options` are fields of the coders."""
    options |= {
      'num_res_blocks': self.num_res_blocks,
      'num_norm_groups': self.num_norm_groups,
      'dtype': self.dtype,
    }
    self.encoder = Encoder(self.latent_channels, **options)
    self.decoder = Decoder(self.in_channels, **options)
    self.quant_conv = blocks.conv1(self.embedding_dim, dtype=self.dtype)
    self.post_quant_conv = blocks.conv1(self.latent_channels, dtype=self.dtype)
    self.setup_codebook()

  def encoded(self, images: jax.Array) -> jax.Array:
    """Latents of images in the encoder's range: float32 [B, L, D]."""
    z = self.quant_conv(self.encoder(images))
    return to_sequence(z.astype(jnp.float32))

  def decoded(self, grid: jax.Array) -> jax.Array:
    """Images in the decoder's range: [B, h, w, D] -> float32 [B, H, W, C]."""
    return self.decoder(self.post_quant_conv(grid)).astype(jnp.float32)
