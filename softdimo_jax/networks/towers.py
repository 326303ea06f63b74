"""Bases of the networks of equal blocks, and of towers over text or images."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers, transformer

_CHANNELS = 3


class BlockNetwork(nn.Module):
  """Base of the networks of equal blocks.

  Attributes:
    width: width of the blocks, D.
    num_heads: attention heads.
    mlp_width: hidden width of the MLPs.
    dtype: dtype of the matrix products; parameters are float32.
    remat: key of `layers.REMAT_POLICIES`, see `layers.scan_blocks`.
    unroll: blocks per scan iteration.
  """

  width: int = 1024
  num_heads: int = 16
  mlp_width: int = 4096
  dtype: jnp.dtype = jnp.float32
  remat: str = 'none'
  unroll: int = 1

  def scanned(self, block: type[nn.Module], depth: int) -> type[nn.Module]:
    """`layers.scan_blocks` with the network's options."""
    return layers.scan_blocks(
      block, depth, remat=self.remat, unroll=self.unroll
    )


class Tower(BlockNetwork):
  """Base of the towers.

  Attributes:
    depth: number of blocks.
    epsilon: epsilon of the norms.
  """

  depth: int = 24
  epsilon: float = 1e-5

  def blocks(self, **options) -> nn.Module:
    """Scanned blocks; `options` are further fields of `transformer.Block`."""
    return self.scanned(transformer.Block, self.depth)(
      self.num_heads,
      self.mlp_width,
      epsilon=self.epsilon,
      dtype=self.dtype,
      **options,
    )


class TextTower(Tower):
  """Base of the towers over token ids.

  Attributes:
    vocab_size: rows of the token table.
    length: maximum number of tokens of a prompt.
  """

  vocab_size: int = 49408
  length: int = 77

  def embedded(self, ids: jax.Array, pos_init: layers.Initializer) -> jax.Array:
    """Token plus position embeddings: int [B, T] -> float32 [B, T, D].

    Raises:
      ValueError: if T > length.
    """
    length = ids.shape[1]
    if length > self.length:
      raise ValueError(
        f'prompts have {length} tokens, more than the {self.length} positions'
      )
    token_emb = self.param(
      'token_emb', layers.normal_02, (self.vocab_size, self.width)
    )
    pos_emb = self.param('pos_emb', pos_init, (self.length, self.width))
    return token_emb[ids] + pos_emb[:length]


class ImageTower(Tower):
  """Base of the towers over patches of square images with three channels.

  Attributes:
    resolution: side of the images.
    patch: pixels along a side of a patch; P = (resolution // patch)^2.
    attention: see `transformer.SelfAttention`.
  """

  resolution: int = 224
  patch: int = 16
  attention: layers.Attention = 'xla'

  @property
  def patch_shape(self) -> tuple[int, int]:
    """Shape of the kernel that embeds flat patches.

    Raises:
      ValueError: if a patch is larger than the image.
    """
    if self.resolution < self.patch:
      raise ValueError(
        f'images with a side of {self.resolution} pixels are smaller than a '
        f'patch of {self.patch}'
      )
    return self.patch**2 * _CHANNELS, self.width

  @property
  def positions(self) -> int:
    """Number of positions, 1 + P: the class token and the patches."""
    return 1 + (self.resolution // self.patch) ** 2

  def patches(self, images: jax.Array) -> jax.Array:
    """Flat patches of images: [B, H, H, 3] -> [B, P, p p 3].

    Raises:
      ValueError: if the images have a different shape.
    """
    side = self.resolution
    if images.shape[1:] != (side, side, _CHANNELS):
      raise ValueError(
        f'images of shape {images.shape} are not '
        f'[B, {side}, {side}, {_CHANNELS}]'
      )
    return flat_patches(images, self.patch)

  def with_class(
    self, patches: jax.Array, class_emb: jax.Array, pos_emb: jax.Array
  ) -> jax.Array:
    """Prepends the class token and adds positions: `dtype` [B, 1 + P, D]."""
    first = jnp.broadcast_to(class_emb, (len(patches), 1, self.width))
    x = jnp.concatenate([first, patches], axis=1) + pos_emb
    return x.astype(self.dtype)


def flat_patches(images: jax.Array, patch: int) -> jax.Array:
  """[B, H, W, C] -> [B, P, p p C], patches and their pixels row-major.

  As with the official convolutions, pixels at the right and bottom edges that
  do not fill a patch are dropped.
  """
  batch, height, width, channels = images.shape
  rows, columns = height // patch, width // patch
  grid = images[:, : rows * patch, : columns * patch].reshape(
    batch, rows, patch, columns, patch, channels
  )
  return grid.swapaxes(2, 3).reshape(batch, -1, patch**2 * channels)
