"""The common interface of the image tokenizers.

    images --encode_latents--> z --quantize--> tokens
    tokens --embed--> embeddings --decode_embeddings--> images

The decoder starts from embeddings, not tokens, so that it accepts expected
embeddings (method/soft_embedding.py) and hard ones alike. Methods that make
images take any further inputs of the decoder as `condition` (TA-TiTok: text
features).
"""

import math

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from softdimo_jax.method.soft_embedding import (
  hard_embedding,
  soft_embedding,
)
from softdimo_jax.networks.tokenizers import blocks
from softdimo_jax.ops import quantization


@flax.struct.dataclass
class TokenizerOutput:
  """One pass through a tokenizer, with the inputs of its losses.

  Attributes:
    images: the reconstruction, float32 [B, H, W, C], nominally in [0, 1] but
      not clipped; its gradient reaches the encoder by the straight-through
      estimator.
    tokens: int32 [B, L, G].
    latents: encoder output before quantisation, float32 [B, L, D].
    quantized: the codes, float32 [B, L, D], without the straight-through
      estimator; `vq_loss(latents, quantized)` trains the codebook.
  """

  images: jax.Array
  tokens: jax.Array
  latents: jax.Array
  quantized: jax.Array


class ImageTokenizer(nn.Module):
  """Base of the image tokenizers; methods run as `apply(..., method='NAME')`.

  Subclasses define `in_channels`, `factor`, `encode_latents`, `quantize`,
  `table` and `decode_embeddings`. They set `reads_text` if the decoder takes
  text features, and define `image_shape` instead of `factor` if the positions
  do not form a grid.
  """

  reads_text = False
  grid = None

  @property
  def factor(self) -> int:
    """Side of a position in pixels."""
    raise NotImplementedError

  def image_shape(self, length: int) -> tuple[int, int, int]:
    """(H, W, C) of the images with L positions.

    Raises:
      ValueError: if no image has this number of positions.
    """
    rows, columns = _grid(length, self.grid)
    return rows * self.factor, columns * self.factor, self.in_channels

  def encode_latents(self, images: jax.Array) -> jax.Array:
    """float32 [B, H, W, C] in [0, 1] -> float32 [B, L, D]."""
    raise NotImplementedError

  def quantize(self, latents: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B, L, D] -> straight-through codes [B, L, D], int32 [B, L, G]."""
    raise NotImplementedError

  def table(self) -> jax.Array:
    """Code embeddings, float32 [G, V, D], to be summed over G per position."""
    raise NotImplementedError

  def decode_embeddings(
    self, embeddings: jax.Array, *condition: jax.Array
  ) -> jax.Array:
    """[B, L, D] -> float32 [B, H, W, C], not clipped to [0, 1].

    If the positions form a grid, it is square unless `grid` is set.
    """
    raise NotImplementedError

  def encode(self, images: jax.Array) -> jax.Array:
    """float32 [B, H, W, C] in [0, 1] -> tokens int32 [B, L, G]."""
    return self.quantize(self.encode_latents(images))[1]

  def embed(self, tokens: jax.Array) -> jax.Array:
    """Tokens int [B, L, G] -> float32 [B, L, D]."""
    return hard_embedding(tokens, self.table())

  def decode(self, tokens: jax.Array, *condition: jax.Array) -> jax.Array:
    """Tokens int [B, L, G] -> float32 [B, H, W, C], not clipped."""
    return self.decode_embeddings(self.embed(tokens), *condition)

  def decode_soft(
    self, probabilities: jax.Array, *condition: jax.Array
  ) -> jax.Array:
    """Like `decode`, for expected embeddings: probabilities [B, L, G, V]."""
    embeddings = soft_embedding(probabilities, self.table())
    return self.decode_embeddings(embeddings, *condition)

  def __call__(
    self, images: jax.Array, *condition: jax.Array
  ) -> TokenizerOutput:
    """Training pass over float32 images [B, H, W, C] in [0, 1]."""
    latents = self.encode_latents(images)
    straight_through, tokens = self.quantize(latents)
    return TokenizerOutput(
      images=self.decode_embeddings(straight_through, *condition),
      tokens=tokens,
      latents=latents,
      quantized=self.embed(tokens),
    )


class CodebookTokenizer(ImageTokenizer):
  """Base of the tokenizers with one learned codebook: G = 1.

  Subclasses call `setup_codebook` in `setup`.

  Attributes:
    in_channels: channels of the images, C.
    codebook_size: number of codes, V.
    embedding_dim: width of a code, D.
    dtype: dtype of matrix products and convolutions; parameters are float32.
  """

  in_channels: int = 3
  codebook_size: int | None = 1024
  embedding_dim: int = 256
  dtype: jnp.dtype = jnp.float32

  def setup_codebook(self) -> None:
    """Creates the codebook, [V, D]."""
    self.codebook = self.param(
      'codebook',
      blocks.codebook_init,
      (self.codebook_size, self.embedding_dim),
    )

  def quantize(self, latents: jax.Array) -> tuple[jax.Array, jax.Array]:
    tokens = quantization.nearest_code(latents, self.codebook)[..., None]
    return quantization.straight_through(latents, self.embed(tokens)), tokens

  def table(self) -> jax.Array:
    return self.codebook[None]  # [1, V, D]


def to_grid(
  embeddings: jax.Array, grid: tuple[int, int] | None = None
) -> jax.Array:
  """[B, L, D] -> [B, h, w, D], row-major.

  Args:
    embeddings: [B, L, D].
    grid: (h, w); a square by default.

  Raises:
    ValueError: if L is not a square, or not h w.
  """
  batch, length, width = embeddings.shape
  return embeddings.reshape(batch, *_grid(length, grid), width)


def _grid(length: int, grid: tuple[int, int] | None) -> tuple[int, int]:
  if grid is not None:
    if math.prod(grid) != length:
      raise ValueError(f'{length} positions do not form a grid of {grid}')
    return grid
  side = math.isqrt(length)
  if side * side != length:
    raise ValueError(f'{length} positions do not form a square grid')
  return side, side


def to_sequence(grid: jax.Array) -> jax.Array:
  """[B, h, w, D] -> [B, h w, D], row-major."""
  return grid.reshape(grid.shape[0], -1, grid.shape[-1])


def check_images(
  images: jax.Array,
  channels: int,
  factor: int,
  grid: tuple[int, int] | None = None,
) -> None:
  """Raises ValueError unless images are [B, H, H, channels] with factor | H.

  With a grid (h, w), images must be [B, factor h, factor w, channels].
  """
  shape = images.shape
  if grid is not None:
    expected = (factor * grid[0], factor * grid[1], channels)
    if shape[1:] != expected:
      raise ValueError(f'images have shape {shape[1:]}, expected {expected}')
    return
  square = len(shape) == 4 and shape[1] == shape[2]
  if not square or shape[3] != channels or shape[1] % factor:
    raise ValueError(
      f'images of shape {shape} are not square with {channels} channels '
      f'and a side that is a multiple of {factor}'
    )
