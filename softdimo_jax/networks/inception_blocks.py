"""Layers and blocks of the Inception network of FID.

Channel counts are those of the released network; `Unit` scales them to its
width.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

# Channels of the first layer of the released network.
WIDTH = 32
# The lower default precision of accelerators would change the FID.
PRECISION = jax.lax.Precision.HIGHEST

# Channels in the released network, kernel height and width, optional stride.
Layer = tuple[int, int, int] | tuple[int, int, int, int]


def max_pool(x: jax.Array) -> jax.Array:
  """3 x 3 max pooling of [B, H, W, C] with stride 2, without padding."""
  return nn.max_pool(x, (3, 3), (2, 2))


def max_pool_same(x: jax.Array) -> jax.Array:
  """3 x 3 max pooling of [B, H, W, C] with stride 1 and SAME padding."""
  return nn.max_pool(x, (3, 3), padding='SAME')


def average_pool_same(x: jax.Array) -> jax.Array:
  """3 x 3 mean pooling of [B, H, W, C], stride 1; padding is not counted."""
  return nn.avg_pool(x, (3, 3), padding='SAME', count_include_pad=False)


class FrozenBatchNorm(nn.Module):
  """Batch norm whose training statistics are parameters.

  Attributes:
    epsilon: added to the variance.
  """

  epsilon: float = 1e-3

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[..., C] -> [..., C]."""
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    scale = self.param('scale', ones, x.shape[-1:])
    bias = self.param('bias', zeros, x.shape[-1:])
    mean = self.param('running_mean', zeros, x.shape[-1:])
    variance = self.param('running_var', ones, x.shape[-1:])
    factor = scale / jnp.sqrt(variance + self.epsilon)  # [C], not [..., C]
    return x * factor + (bias - mean * factor)


class Unit(nn.Module):
  """Convolution without bias, batch norm, ReLU.

  Attributes:
    channels: output channels in the released network.
    kernel: height and width of the kernel.
    stride: stride in both directions.
    padding: 'SAME' or 'VALID'.
    width: width of the network, see `Inception`.
    epsilon: epsilon of the norm.
  """

  channels: int
  kernel: tuple[int, int]
  stride: int = 1
  padding: str = 'SAME'
  width: int = WIDTH
  epsilon: float = 1e-3

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """float [B, H, W, C] -> float [B, H', W', C'], >= 0."""
    x = nn.Conv(
      self.channels * self.width // WIDTH,
      self.kernel,
      strides=self.stride,
      padding=self.padding,
      use_bias=False,
      precision=PRECISION,
      kernel_init=nn.initializers.he_normal(),
      name='conv',
    )(x)
    return nn.relu(FrozenBatchNorm(self.epsilon, name='norm')(x))


MakeUnit = Callable[..., Unit]


class _Branches(nn.Module):
  """Base of the blocks: branches whose channels are concatenated.

  Attributes:
    unit: factory of `Unit`.
  """

  unit: MakeUnit

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return jnp.concatenate(self.parts(x), -1)

  def parts(self, x: jax.Array) -> tuple[jax.Array, ...]:
    """Outputs of the branches."""
    raise NotImplementedError

  def branch(self, x: jax.Array, name: str, *layers: Layer) -> jax.Array:
    """A chain of units: `name` if it is one, else `name_1`, `name_2`, ..."""
    for number, (channels, height, width, *stride) in enumerate(layers, 1):
      x = self.unit(
        channels,
        (height, width),
        *stride,
        padding='VALID' if stride else 'SAME',
        name=f'{name}_{number}' if len(layers) > 1 else name,
      )(x)
    return x


class Grid35(_Branches):
  """Mixed_5b to 5d, on maps of 35 x 35.

  Attributes:
    pooled: channels of the branch after the pool.
  """

  pooled: int

  def parts(self, x: jax.Array) -> tuple[jax.Array, ...]:
    return (
      self.branch(x, 'branch1x1', (64, 1, 1)),
      self.branch(x, 'branch5x5', (48, 1, 1), (64, 5, 5)),
      self.branch(x, 'branch3x3dbl', (64, 1, 1), (96, 3, 3), (96, 3, 3)),
      self.branch(average_pool_same(x), 'branch_pool', (self.pooled, 1, 1)),
    )


class Reduction35(_Branches):
  """Mixed_6a, from 35 x 35 to 17 x 17."""

  def parts(self, x: jax.Array) -> tuple[jax.Array, ...]:
    return (
      self.branch(x, 'branch3x3', (384, 3, 3, 2)),
      self.branch(x, 'branch3x3dbl', (64, 1, 1), (96, 3, 3), (96, 3, 3, 2)),
      max_pool(x),
    )


class Grid17(_Branches):
  """Mixed_6b to 6e, on maps of 17 x 17.

  Attributes:
    inner: hidden channels of the 7 x 7 branches.
  """

  inner: int

  def parts(self, x: jax.Array) -> tuple[jax.Array, ...]:
    first, row, column = (
      (self.inner, *size) for size in ((1, 1), (1, 7), (7, 1))
    )
    last_row, last_column = (192, 1, 7), (192, 7, 1)
    return (
      self.branch(x, 'branch1x1', (192, 1, 1)),
      self.branch(x, 'branch7x7', first, row, last_column),
      self.branch(x, 'branch7x7dbl', first, column, row, column, last_row),
      self.branch(average_pool_same(x), 'branch_pool', (192, 1, 1)),
    )


class Reduction17(_Branches):
  """Mixed_7a, from 17 x 17 to 8 x 8."""

  def parts(self, x: jax.Array) -> tuple[jax.Array, ...]:
    first, row, column = (192, 1, 1), (192, 1, 7), (192, 7, 1)
    return (
      self.branch(x, 'branch3x3', first, (320, 3, 3, 2)),
      self.branch(x, 'branch7x7x3', first, row, column, (192, 3, 3, 2)),
      max_pool(x),
    )


class Grid8(_Branches):
  """Mixed_7b and 7c, on maps of 8 x 8; two branches fork into two kernels.

  Attributes:
    pool: pooling of the last branch; Mixed_7c alone uses the maximum.
  """

  pool: Callable[[jax.Array], jax.Array]

  def parts(self, x: jax.Array) -> tuple[jax.Array, ...]:
    row, column = (384, 1, 3), (384, 3, 1)
    short = self.branch(x, 'branch3x3_1', (384, 1, 1))
    long = self.branch(x, 'branch3x3dbl_1', (448, 1, 1))
    long = self.branch(long, 'branch3x3dbl_2', (384, 3, 3))
    return (
      self.branch(x, 'branch1x1', (320, 1, 1)),
      self.branch(short, 'branch3x3_2a', row),
      self.branch(short, 'branch3x3_2b', column),
      self.branch(long, 'branch3x3dbl_3a', row),
      self.branch(long, 'branch3x3dbl_3b', column),
      self.branch(self.pool(x), 'branch_pool', (192, 1, 1)),
    )
