"""The VQ tokenizer of Meissonic (and aMUSEd): diffusers' `VQModel`.

Source: diffusers 0.31.0, `models/autoencoders/vq_model.py` and `vae.py`. A
Taming VQGAN without attention whose images span [0, 1] inside as outside, and
whose configuration names a scaling factor that nothing reads.
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


class DiffusersVQ(ImageTokenizer):
  """VQGAN with one learned codebook: G = 1, V = codebook_size.

  Attributes:
    in_channels: C of the images.
    level_channels: of each level; the downsampling factor is 2^(levels - 1).
    num_res_blocks: of an encoder level; the decoder has one more.
    middle_attention: attention between the two blocks of the middle, which
      Meissonic's does not have.
    latent_channels: width between coder and 1x1 convolutions.
    codebook_size: V.
    embedding_dim: D.
    num_norm_groups: groups of the group norms.
    grid: rows and columns of positions; None is a square of any size.
    dtype: of the convolutions.
    remat: see `vqgan_coders`; a decoder of 1024 px has some 20 GB to keep.
  """

  in_channels: int = 3
  level_channels: tuple[int, ...] = (128, 256, 256, 512, 768)
  num_res_blocks: int = 2
  middle_attention: bool = False
  latent_channels: int = 64
  codebook_size: int = 8192
  embedding_dim: int = 64
  num_norm_groups: int = 32
  grid: tuple[int, int] | None = None
  dtype: jnp.dtype = jnp.float32
  remat: str = 'none'

  @property
  def factor(self) -> int:
    """Pixels a position, along a side."""
    return 2 ** (len(self.level_channels) - 1)

  def setup(self):
    options = {
      'hidden_channels': self.level_channels[0],
      'level_channels': self.level_channels,
      'num_res_blocks': self.num_res_blocks,
      'attention_levels': (),
      'middle_attention': self.middle_attention,
      'num_norm_groups': self.num_norm_groups,
      'dtype': self.dtype,
      'remat': self.remat,
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

  def encode_latents(self, images: jax.Array) -> jax.Array:
    check_images(images, self.in_channels, self.factor, self.grid)
    z = self.quant_conv(self.encoder(images))
    return to_sequence(z.astype(jnp.float32))  # [B, L, D]

  def quantize(self, latents: jax.Array) -> tuple[jax.Array, jax.Array]:
    tokens = quantization.nearest_code(latents, self.codebook)[..., None]
    codes = self.embed(tokens)
    return quantization.straight_through(latents, codes), tokens

  def table(self) -> jax.Array:
    return self.codebook[None]  # [1, V, D]

  def decode_embeddings(self, embeddings: jax.Array) -> jax.Array:
    grid = to_grid(embeddings, self.grid)
    x = self.decoder(self.post_quant_conv(grid))
    return x.astype(jnp.float32)  # [B, H, W, C]
