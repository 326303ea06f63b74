"""Taming VQGAN (Esser et al. 2021), the tokenizer of MaskGit.

Official modules: taming `models/vqgan.py:VQModel` and its copy in Di[M]O,
`MaskGit_src/Network/Taming`. The defaults are f16-1024 at 256 px.
"""

import jax
import jax.numpy as jnp

from softdimo_jax.networks.tokenizers import blocks
from softdimo_jax.networks.tokenizers.interface import (
  ImageTokenizer,
  check_images,
  to_grid,
  to_sequence,
)
from softdimo_jax.networks.tokenizers.vqgan_coders import Decoder, Encoder
from softdimo_jax.ops import quantization


class TamingVQGAN(ImageTokenizer):
  """VQGAN with one learned codebook: G = 1, V = codebook_size.

  Attributes:
    in_channels: C of the images.
    resolution: side of the images of the configuration. Other sides work;
      this one alone decides which levels hold attention.
    hidden_channels: width of the first level.
    channel_multipliers: width of each level over `hidden_channels`; the
      downsampling factor is 2^(levels - 1).
    num_res_blocks: of an encoder level; the decoder has one more.
    attention_resolutions: sides (out of resolution / 2^level) of the levels
      with attention after every residual block.
    latent_channels: width between coder and 1x1 convolutions.
    codebook_size: V.
    embedding_dim: D.
    num_norm_groups: groups of the group norms.
    dtype: of the convolutions.
  """

  in_channels: int = 3
  resolution: int = 256
  hidden_channels: int = 128
  channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
  num_res_blocks: int = 2
  attention_resolutions: tuple[int, ...] = (16,)
  latent_channels: int = 256
  codebook_size: int = 1024
  embedding_dim: int = 256
  num_norm_groups: int = 32
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    levels = range(len(self.channel_multipliers))
    options = {
      'hidden_channels': self.hidden_channels,
      'level_channels': tuple(
        self.hidden_channels * multiplier
        for multiplier in self.channel_multipliers
      ),
      'num_res_blocks': self.num_res_blocks,
      'attention_levels': tuple(
        level
        for level in levels
        if self.resolution // 2**level in self.attention_resolutions
      ),
      'middle_attention': True,
      'num_norm_groups': self.num_norm_groups,
      'dtype': self.dtype,
    }
    self.encoder = Encoder(self.latent_channels, **options)
    self.decoder = Decoder(self.in_channels, **options)
    self.quant_conv = blocks.conv1(self.embedding_dim, dtype=self.dtype)
    self.post_quant_conv = blocks.conv1(self.latent_channels, dtype=self.dtype)
    self.codebook = self.param(
      'codebook',
      blocks.codebook_init,
      (self.codebook_size, self.embedding_dim),
    )

  @property
  def factor(self) -> int:
    return 2 ** (len(self.channel_multipliers) - 1)

  def encode_latents(self, images: jax.Array) -> jax.Array:
    check_images(images, self.in_channels, self.factor)
    z = self.quant_conv(self.encoder(2 * images - 1))
    return to_sequence(z.astype(jnp.float32))  # [B, L, D]

  def quantize(self, latents: jax.Array) -> tuple[jax.Array, jax.Array]:
    tokens = quantization.nearest_code(latents, self.codebook)[..., None]
    codes = self.embed(tokens)
    return quantization.straight_through(latents, codes), tokens

  def table(self) -> jax.Array:
    return self.codebook[None]  # [1, V, D]

  def decode_embeddings(self, embeddings: jax.Array) -> jax.Array:
    x = self.decoder(self.post_quant_conv(to_grid(embeddings)))
    return (x.astype(jnp.float32) + 1) / 2  # [B, H, W, C]
