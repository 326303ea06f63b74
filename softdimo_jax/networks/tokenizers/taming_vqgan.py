"""Taming VQGAN (Esser et al. 2021), the tokenizer of MaskGit.

Official modules: taming `models/vqgan.py:VQModel` and its copy in Di[M]O,
`MaskGit_src/Network/Taming`.
"""

import jax

from softdimo_jax.networks.tokenizers.interface import check_images, to_grid
from softdimo_jax.networks.tokenizers.vqgan_coders import ConvolutionalVQ


class TamingVQGAN(ConvolutionalVQ):
  """VQGAN with one learned codebook; defaults are f16-1024's at 256 px.

  Attributes:
    resolution: side of the images in the configuration. Images may have other
      sides; this one determines which levels have attention.
    hidden_channels: width of the first level.
    channel_multipliers: width of each level over `hidden_channels`; the
      downsampling factor is 2^(levels - 1).
    attention_resolutions: sides, resolution / 2^level, of the levels with
      attention after every residual block.
  """

  resolution: int = 256
  hidden_channels: int = 128
  channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
  attention_resolutions: tuple[int, ...] = (16,)

  def setup(self):
    self.setup_coders(
      hidden_channels=self.hidden_channels,
      level_channels=tuple(
        self.hidden_channels * multiplier
        for multiplier in self.channel_multipliers
      ),
      attention_levels=tuple(
        level
        for level in range(len(self.channel_multipliers))
        if self.resolution // 2**level in self.attention_resolutions
      ),
      middle_attention=True,
    )

  @property
  def factor(self) -> int:
    return 2 ** (len(self.channel_multipliers) - 1)

  def encode_latents(self, images: jax.Array) -> jax.Array:
    check_images(images, self.in_channels, self.factor)
    return self.encoded(2 * images - 1)

  def decode_embeddings(self, embeddings: jax.Array) -> jax.Array:
    return (self.decoded(to_grid(embeddings)) + 1) / 2  # [B, H, W, C]
