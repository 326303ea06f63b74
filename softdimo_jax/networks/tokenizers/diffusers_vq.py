"""The VQ tokenizer of Meissonic (and aMUSEd): diffusers' `VQModel`.

Source: diffusers 0.31.0, `models/autoencoders/vq_model.py` and `vae.py`. A
Taming VQGAN without attention; its coders work on images in [0, 1], and the
scaling factor in its configuration is unused.
"""

import jax

from softdimo_jax.networks.tokenizers.interface import check_images, to_grid
from softdimo_jax.networks.tokenizers.vqgan_coders import ConvolutionalVQ


class DiffusersVQ(ConvolutionalVQ):
  """VQGAN with one learned codebook; defaults are Meissonic's.

  Attributes:
    level_channels: channels of each level; the downsampling factor is
      2^(levels - 1).
    middle_attention: whether there is attention between the two middle blocks;
      False for Meissonic.
    grid: rows and columns of positions; None for a square of any size.
    remat: see `vqgan_coders`; without it, decoding at 1024 px keeps some 20 GB
      of activations.
  """

  level_channels: tuple[int, ...] = (128, 256, 256, 512, 768)
  middle_attention: bool = False
  latent_channels: int = 64
  codebook_size: int = 8192
  embedding_dim: int = 64
  grid: tuple[int, int] | None = None
  remat: str = 'none'

  @property
  def factor(self) -> int:
    """Side of a position in pixels."""
    return 2 ** (len(self.level_channels) - 1)

  def setup(self):
    self.setup_coders(
      hidden_channels=self.level_channels[0],
      level_channels=self.level_channels,
      attention_levels=(),
      middle_attention=self.middle_attention,
      remat=self.remat,
    )

  def encode_latents(self, images: jax.Array) -> jax.Array:
    check_images(images, self.in_channels, self.factor, self.grid)
    return self.encoded(images)

  def decode_embeddings(self, embeddings: jax.Array) -> jax.Array:
    return self.decoded(to_grid(embeddings, self.grid))  # [B, H, W, C]
