"""What every image tokenizer offers, so that nothing else knows which it is.

    images --encode_latents--> z --quantize--> tokens
    tokens --embed--> embeddings --decode_embeddings--> images

The second half starts at embeddings, not tokens: an expected embedding
(method/soft_embedding.py) enters the decoder by the same door as a hard one.
What else a decoder reads (TA-TiTok: features of the text) follows, as
`condition`, wherever images are made.
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
  """One pass through a tokenizer, with what its losses need.

  images: float32 [B, H, W, C], the reconstruction, nominally in [0, 1] but
    not clipped; its gradient reaches the encoder straight through.
  tokens: int32 [B, L, G].
  latents: float32 [B, L, D], what was quantised.
  quantized: float32 [B, L, D], the codes themselves, without the
    straight-through estimator: `vq_loss(latents, quantized)` is how a
    codebook learns.
  """

  images: jax.Array
  tokens: jax.Array
  latents: jax.Array
  quantized: jax.Array


class ImageTokenizer(nn.Module):
  """Base of the image tokenizers; methods run as `apply(..., method='NAME')`.

  Subclasses define `in_channels`, `factor`, `encode_latents`, `quantize`,
  `table` and `decode_embeddings`. Those whose decoder takes the text's features
  say so by `reads_text`, and those whose positions are no grid define
  `image_shape` instead of `factor`.
  """

  reads_text = False
  grid = None

  @property
  def factor(self) -> int:
    """Pixels in a row that one position stands for."""
    raise NotImplementedError

  def image_shape(self, length: int) -> tuple[int, int, int]:
    """(H, W, C) of the images that L positions stand for.

    Raises:
      ValueError: if the positions are of no image.
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
    """Code embeddings, float32 [G, V, D]; a position's is a sum over G."""
    raise NotImplementedError

  def decode_embeddings(
    self, embeddings: jax.Array, *condition: jax.Array
  ) -> jax.Array:
    """[B, L, D] -> float32 [B, H, W, C], not clipped to [0, 1].

    L is a square where the positions are a grid, unless a field says else.
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
    """As `decode`, of expected embeddings: probabilities [B, L, G, V]."""
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
    in_channels: C of the images.
    codebook_size: V.
    embedding_dim: D.
    dtype: dtype of the matrix products and convolutions; parameters are float32.
  """

  in_channels: int = 3
  codebook_size: int | None = 1024
  embedding_dim: int = 256
  dtype: jnp.dtype = jnp.float32

  def setup_codebook(self) -> None:
    """Makes the codebook [V, D]."""
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
    grid: (h, w), by default a square.

  Raises:
    ValueError: if L is no square, or not h w.
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
  """Raises ValueError unless images are [B, H, H, channels], factor | H.

  With a grid (h, w) they are [B, factor h, factor w, channels].
  """
  shape = images.shape
  if grid is not None:
    expected = (factor * grid[0], factor * grid[1], channels)
    if shape[1:] != expected:
      raise ValueError(f'images of shape {shape[1:]}, not {expected}')
    return
  square = len(shape) == 4 and shape[1] == shape[2]
  if not square or shape[3] != channels or shape[1] % factor:
    raise ValueError(
      f'images of shape {shape} are not square with {channels} channels '
      f'and a side that is a multiple of {factor}'
    )
