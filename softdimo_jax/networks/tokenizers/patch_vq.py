"""A codebook of patches, for pictures that are grids of cells.

Not an official network: convolutions see beyond a cell, so that equal cells get
different tokens beside different neighbours, which a small teacher fails to
learn. Here a token depends on its own patch only.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.networks.tokenizers.interface import (
  CodebookTokenizer,
  check_images,
  to_grid,
)


class PatchVQ(CodebookTokenizer):
  """One code per patch: MLP encoder, nearest code, MLP decoder.

  Attributes:
    patch: side of a patch in pixels.
    hidden: hidden width of the MLPs.
  """

  patch: int = 8
  hidden: int = 128
  codebook_size: int = 64
  embedding_dim: int = 8

  def setup(self):
    dense = lambda features: layers.Dense(features, self.dtype)
    self.encoder_in, self.encoder_out = (
      dense(self.hidden), dense(self.embedding_dim),
    )  # fmt: skip
    self.decoder_in, self.decoder_mid, self.decoder_out = (
      dense(self.hidden),
      dense(self.hidden),
      dense(self.patch**2 * self.in_channels),
    )
    self.setup_codebook()

  @property
  def factor(self) -> int:
    return self.patch

  def encode_latents(self, images: jax.Array) -> jax.Array:
    check_images(images, self.in_channels, self.patch)
    batch, size, _, _ = images.shape
    cells = size // self.patch
    patches = images.reshape(
      batch, cells, self.patch, cells, self.patch, self.in_channels
    )
    patches = patches.swapaxes(2, 3).reshape(batch, cells**2, -1)
    latents = self.encoder_out(nn.relu(self.encoder_in(2 * patches - 1)))
    return latents.astype(jnp.float32)  # [B, L, D]

  def decode_embeddings(self, embeddings: jax.Array) -> jax.Array:
    batch = len(embeddings)
    x = nn.relu(self.decoder_in(embeddings))
    x = x + nn.relu(self.decoder_mid(x))
    # Initial images are white.
    pixels = 1 + self.decoder_out(x).astype(jnp.float32)
    cells = to_grid(embeddings).shape[1]
    pixels = pixels.reshape(
      batch, cells, cells, self.patch, self.patch, self.in_channels
    )
    size = cells * self.patch
    return pixels.swapaxes(2, 3).reshape(batch, size, size, -1)  # [B, H, W, C]
