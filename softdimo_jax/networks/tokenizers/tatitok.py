"""TA-TiTok (Kim et al. 2025): images as 1-D tokens, decoded with their text.

Source: `modeling/tatitok.py:TATiTok`, `modeling/modules/blocks.py` of
bytedance/1d-tokenizer. A vision transformer encodes the image into latent
tokens; another one predicts the pixels from their codes and the text features.
Only the codebook variant is implemented, not the continuous one.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers, transformer
from softdimo_jax.networks.tokenizers import blocks
from softdimo_jax.networks.tokenizers.interface import (
  CodebookTokenizer,
  to_grid,
)
from softdimo_jax.ops import quantization

_EPSILON = 1e-5
_MLP_RATIO = 4


class _Coder(nn.Module):
  """Fields and layers common to encoder and decoder.

  Attributes:
    side: patches along a side of the image.
    patch: pixels along a side of a patch.
    channels: channels of the images.
    length: number of latent tokens, N.
    width: width of the blocks, W.
    depth: number of blocks.
    num_heads: attention heads.
    dtype: dtype of the matrix products.
    attention: see `transformer.SelfAttention`.
    remat: see `layers.scan_blocks`.
    unroll: see `layers.scan_blocks`.
  """

  side: int
  patch: int
  channels: int
  length: int
  width: int
  depth: int
  num_heads: int
  dtype: jnp.dtype = jnp.float32
  attention: layers.Attention = 'xla'
  remat: str = 'none'
  unroll: int = 1

  kernel_init = staticmethod(layers.torch_linear_init)

  def rows(self, name: str, count: int) -> jax.Array:
    """Learned vectors [count, W]."""
    init = nn.initializers.normal(self.width**-0.5)
    return self.param(name, init, (count, self.width))

  def dense(self, features: int, name: str) -> layers.Dense:
    return layers.Dense(features, self.dtype, self.kernel_init, name=name)

  def with_class(self, patches: jax.Array) -> jax.Array:
    """Prepends the class token, adds positions: [B, P, W] -> [B, 1 + P, W]."""
    first = self.rows('class_emb', 1)
    first = jnp.broadcast_to(first, (len(patches), *first.shape))
    positions = self.rows('pos_emb', self.side**2 + 1)
    return jnp.concatenate([first, patches], axis=1) + positions

  def transform(self, parts: list[jax.Array], read: slice) -> jax.Array:
    """Blocks over the concatenated parts; the positions `read`, normalised."""
    norm = lambda name: layers.LayerNorm(_EPSILON, self.dtype, name=name)
    x = norm('norm_in')(jnp.concatenate(parts, axis=1))
    scanned = layers.scan_blocks(
      transformer.Block, self.depth, remat=self.remat, unroll=self.unroll
    )
    x, _ = scanned(
      self.num_heads,
      _MLP_RATIO * self.width,
      epsilon=_EPSILON,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      attention=self.attention,
      name='layers',
    )(x, None)
    return norm('norm_out')(x[:, read])


class _Encoder(_Coder):
  """[B, H, W, C] in [0, 1] -> [B, N, out_width]."""

  out_width: int = 64

  kernel_init = staticmethod(layers.normal_02)

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    patches = nn.Conv(
      self.width,
      (self.patch, self.patch),
      strides=self.patch,
      padding='VALID',
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      name='patch_in',
    )(images)
    patches = patches.reshape(len(images), -1, self.width)
    latents = self.rows('latent_tokens', self.length)
    latents = latents + self.rows('latent_pos_emb', self.length)
    latents = jnp.broadcast_to(latents, (len(images), *latents.shape))
    x = self.transform(
      [self.with_class(patches), latents], slice(-self.length, None)
    )
    return self.dense(self.out_width, 'out')(x)


class _Decoder(_Coder):
  """Codes [B, N, D] and text [B, T, E] -> [B, H, W, C]."""

  text_length: int = 77

  @nn.compact
  def __call__(self, codes: jax.Array, text: jax.Array) -> jax.Array:
    patches = self.side**2
    masks = jnp.broadcast_to(
      self.rows('mask_token', 1), (len(codes), patches, self.width)
    )
    latents = self.dense(self.width, 'latent_in')(codes)
    latents = latents + self.rows('latent_pos_emb', self.length)
    text = self.dense(self.width, 'text_in')(text)
    text = text + self.rows('text_pos_emb', self.text_length)
    x = self.transform(
      [self.with_class(masks), latents, text], slice(1, 1 + patches)
    )
    x = self.dense(self.patch**2 * self.channels, 'patch_out')(x)
    return blocks.conv3(self.channels, dtype=self.dtype, name='conv_out')(
      self._pixels(x)
    )

  def _pixels(self, x: jax.Array) -> jax.Array:
    """Assembles patches: [B, P, p p C] -> [B, H, W, C]."""
    grid = to_grid(x)
    grid = grid.reshape(*grid.shape[:3], self.patch, self.patch, -1)
    size = self.side * self.patch
    return grid.swapaxes(2, 3).reshape(len(x), size, size, -1)


class TATiTok(CodebookTokenizer):
  """Text-aware 1-D tokenizer with one codebook; defaults are BL-128 VQ's.

  The decoder also reads text features: `decode_embeddings(codes, text)`, with
  text [B, T, E], all positions of CLIP's text tower after its final norm. With
  `l2_normalized`, the decoder normalises its input embeddings, so that expected
  embeddings are normalised after mixing.

  Attributes:
    resolution: side of the images.
    encoder_patch: side of the encoder's patches.
    decoder_patch: side of the decoder's patches.
    length: number of latent tokens, L.
    encoder_width: width of the encoder's blocks.
    encoder_depth: number of encoder blocks.
    encoder_heads: attention heads of the encoder.
    decoder_width: width of the decoder's blocks.
    decoder_depth: number of decoder blocks.
    decoder_heads: attention heads of the decoder.
    l2_normalized: whether latents and codes are unit vectors (cosine lookup);
      False in all released models.
    text_width: width of the text features, E.
    text_length: number of text positions, T.
    attention: see `transformer.SelfAttention`.
    remat: key of `layers.REMAT_POLICIES`, see `layers.scan_blocks`.
    unroll: blocks per scan iteration.

  Raises:
    ValueError: at first use, if patches do not fill the image, or images, codes
      or text have a different shape.
  """

  resolution: int = 256
  encoder_patch: int = 16
  decoder_patch: int = 16
  length: int = 128
  encoder_width: int = 768
  encoder_depth: int = 12
  encoder_heads: int = 12
  decoder_width: int = 1024
  decoder_depth: int = 24
  decoder_heads: int = 16
  codebook_size: int = 8192
  embedding_dim: int = 64
  l2_normalized: bool = False
  text_width: int = 768
  text_length: int = 77
  attention: layers.Attention = 'xla'
  remat: str = 'none'
  unroll: int = 1

  reads_text = True

  def image_shape(self, length: int) -> tuple[int, int, int]:
    if length != self.length:
      raise ValueError(f'TA-TiTok has {self.length} positions, not {length}')
    return self.resolution, self.resolution, self.in_channels

  def setup(self) -> None:
    for patch in (self.encoder_patch, self.decoder_patch):
      if self.resolution % patch:
        raise ValueError(
          f'resolution {self.resolution} is not divisible by patch {patch}'
        )
    coder = {
      'channels': self.in_channels,
      'length': self.length,
      'dtype': self.dtype,
      'attention': self.attention,
      'remat': self.remat,
      'unroll': self.unroll,
    }
    self.encoder = _Encoder(
      side=self.resolution // self.encoder_patch,
      patch=self.encoder_patch,
      width=self.encoder_width,
      depth=self.encoder_depth,
      num_heads=self.encoder_heads,
      out_width=self.embedding_dim,
      **coder,
    )
    self.decoder = _Decoder(
      side=self.resolution // self.decoder_patch,
      patch=self.decoder_patch,
      width=self.decoder_width,
      depth=self.decoder_depth,
      num_heads=self.decoder_heads,
      text_length=self.text_length,
      **coder,
    )
    self.setup_codebook()

  def encode_latents(self, images: jax.Array) -> jax.Array:
    expected = (self.resolution, self.resolution, self.in_channels)
    if images.shape[1:] != expected:
      raise ValueError(
        f'images have shape {images.shape[1:]}, expected {expected}'
      )
    return self._normed(self.encoder(images).astype(jnp.float32))

  def quantize(self, latents: jax.Array) -> tuple[jax.Array, jax.Array]:
    codebook = self._normed(self.codebook)
    tokens = quantization.nearest_code(latents, codebook)[..., None]
    return quantization.straight_through(latents, self.embed(tokens)), tokens

  def embed(self, tokens: jax.Array) -> jax.Array:
    return self._normed(super().embed(tokens))

  def decode_embeddings(
    self, embeddings: jax.Array, text: jax.Array
  ) -> jax.Array:
    for name, array, expected in (
      ('codes', embeddings, (self.length, self.embedding_dim)),
      ('text', text, (self.text_length, self.text_width)),
    ):
      if array.shape[1:] != expected:
        raise ValueError(
          f'{name} must have shape {expected}, not {array.shape[1:]}'
        )
    images = self.decoder(self._normed(embeddings), text)
    return images.astype(jnp.float32)  # [B, H, W, C]

  def _normed(self, x: jax.Array) -> jax.Array:
    return quantization.l2_normalize(x) if self.l2_normalized else x
