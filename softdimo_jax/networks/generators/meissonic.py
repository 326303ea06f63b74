"""Meissonic (Bai et al. 2024) at 1024 px, and at 512 px as Monetico.

Source: `src/transformer.py:Transformer2DModel` of viiika/Meissonic. Joint
blocks over image and text are followed by single blocks over both as one
sequence; the pooled text, micro-conditions and a time modulate all of them. At
1024 px the blocks see a quarter of the positions, between a convolution that
merges 2 x 2 positions and one that splits them again.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.networks import layers, rotary
from softdimo_jax.networks.generators import meissonic_parts as parts
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.networks.generators.interface import TextGenerator
from softdimo_jax.networks.joint_block import EPSILON, JointBlock, Streams
from softdimo_jax.networks.single_block import SingleBlock

TIMESTEP_MODES = ('zero', 'ratio')
# Side of the grid that the blocks of the released models see.
BLOCK_SIDE = 32
# Micro-conditions: width, height, two crop offsets, aesthetic score.
NUM_MICRO = 5
_TIME_SCALE = 1000


class MeissonicTransformer(TextGenerator):
  """Text-conditional masked generator; defaults are the 1024 px model's.

  Monetico has `downsample=False` and `grid=(32, 32)`. Kernels are initialised
  by torch's defaults; only biases start at zero.

  P = D: the pooled text features are as wide as the blocks.

  Attributes:
    spare_rows: number of unused rows of the table.
    grid: rows and columns of tokens; L is their product.
    downsample: whether the blocks see L' = L / 4 positions; else L' = L.
    joint_depth: number of joint blocks.
    single_depth: number of single blocks.
    rope_axes: channels of a head that rotate with time, row and column.
    timestep_mode: time of a condition without `time`: 'zero' is 0, as for
      Di[M]O's student and teacher; 'ratio' refuses it. Official times are 1000
      times the masked share in training (`GeneratorCalls.timed`) and the steps
      still to come in sampling (`meissonic_plan`).

  Raises:
    ValueError: at first use, if sizes are inconsistent, `timestep_mode` is
      unknown or the condition is incomplete.
  """

  spare_rows: int = 63
  grid: tuple[int, int] = (2 * BLOCK_SIDE, 2 * BLOCK_SIDE)
  downsample: bool = True
  joint_depth: int = 14
  single_depth: int = 28
  num_heads: int = 8
  rope_axes: tuple[int, ...] = (16, 56, 56)
  timestep_mode: str = 'zero'

  frozen = ('tok_emb', 'emb_norm', 'emb_dense', 'head')

  @property
  def reads_time(self) -> bool:
    return self.timestep_mode == 'ratio'

  @property
  def length(self) -> int:
    """Number of image positions, L."""
    return math.prod(self.grid)

  @property
  def depth(self) -> int:
    """Number of blocks, and of hidden states."""
    return self.joint_depth + self.single_depth

  @property
  def block_grid(self) -> tuple[int, int]:
    """Rows and columns that the blocks see; L' is their product."""
    factor = 2 if self.downsample else 1
    return self.grid[0] // factor, self.grid[1] // factor

  def condition_shape(self, text_length: int = 1) -> TextCondition:
    shape: Callable[..., Any] = lambda *sizes: jax.ShapeDtypeStruct(
      (1, *sizes), jnp.float32
    )
    return TextCondition(
      states=shape(text_length, self.text_width),
      pooled=shape(self.width),
      micro=shape(NUM_MICRO),
      time=shape() if self.reads_time else None,
    )

  def setup(self) -> None:
    self._check()
    dense = lambda features, **options: layers.Dense(
      features, self.dtype, **options
    )
    bare = lambda features, **options: dense(
      features, use_bias=False, **options
    )
    norm = lambda: layers.RMSNorm(EPSILON, self.dtype)
    width = self.width
    self.tok_emb = self.param(
      'tok_emb',
      nn.initializers.normal(1.0),
      (self.vocab_size + 1 + self.spare_rows, width),
    )
    self.emb_norm, self.emb_dense = norm(), bare(width)
    self.text_in, self.text_norm = dense(width), norm()
    self.time_in = parts.Perceptron(width, self.dtype)
    self.pooled_in = parts.Perceptron(width, self.dtype)
    self.micro_in = parts.Perceptron(width, self.dtype, use_bias=False)
    self.in_norm, self.in_dense = norm(), bare(width)
    self.out_norm, self.out_dense = norm(), bare(width)
    if self.downsample:
      self.down_norm, self.down = norm(), bare(width)
      self.up_norm = norm()
      self.up = bare(4 * width, kernel_init=parts.transposed_init)
    self.head = parts.Head(self.vocab_size, self.dtype)

  def _check(self) -> None:
    if sum(self.rope_axes) * self.num_heads != self.width:
      raise ValueError(
        f'{self.num_heads} heads with {sum(self.rope_axes)} rotary channels do '
        f'not add up to the width {self.width}'
      )
    if self.downsample and (self.grid[0] % 2 or self.grid[1] % 2):
      raise ValueError(f'downsampling needs an even grid, not {self.grid}')
    if self.timestep_mode not in TIMESTEP_MODES:
      raise ValueError(
        f'timestep_mode {self.timestep_mode!r} is unknown; choose one of '
        f'{TIMESTEP_MODES}'
      )

  def features(self, embeddings: jax.Array) -> jax.Array:
    """Normalised and projected embeddings, the end of the official `embed`.

    The noise is added to them (the official `generate_one_step`).
    """
    return self.emb_dense(self.emb_norm(embeddings))

  def sequence(self, features: jax.Array) -> jax.Array:
    """Image input of the blocks: [B, L, D] -> [B, L', D]."""
    x = features.astype(self.dtype)
    if self.downsample:
      x = self.down(parts.merge(self.down_norm(x), self.grid))
    return self.in_dense(self.in_norm(x))

  def last_layer(self, x: jax.Array) -> jax.Array:
    """Layers between blocks and head: [B, L', D] -> [B, L, D]."""
    x = self.out_dense(self.out_norm(x))
    if self.downsample:
      x = parts.part(self.up(self.up_norm(x)), self.block_grid)
    return x

  def time_features(self, times: jax.Array) -> jax.Array:
    """Sinusoids of times [B] -> float32 [B, 256]."""
    return parts.sinusoids(_TIME_SCALE * times.astype(jnp.float32))

  def micro_features(self, micro: jax.Array) -> jax.Array:
    """Sinusoids of micro-conditions [B, 5] -> [B, 1280]."""
    return parts.sinusoids(micro.reshape(-1)).reshape(len(micro), -1)

  def modulator(self, condition: TextCondition) -> jax.Array:
    """The vector that modulates all blocks: [B, D]."""
    micro = condition.micro
    if micro is None or micro.shape[-1] != NUM_MICRO:
      raise ValueError(
        f'Meissonic needs condition.micro [B, {NUM_MICRO}]: width, height, two '
        'crop offsets and the aesthetic score'
      )
    micro = self.micro_features(micro).astype(condition.pooled.dtype)
    known = jnp.concatenate([condition.pooled, micro], axis=-1)
    time = self.time_features(self._time(condition))
    return self.time_in(time) + self.pooled_in(self.micro_in(known))

  def _time(self, condition: TextCondition) -> jax.Array:
    """Times [B], or [1] for the whole batch."""
    if condition.time is not None:
      return condition.time
    if self.reads_time:
      raise ValueError("timestep_mode 'ratio' needs condition.time [B]")
    return jnp.zeros(1)

  def positions(self, text_length: int = 0) -> np.ndarray:
    """Time, row and column: int [T + L', 3]; the text is at the origin."""
    rows, columns = np.indices(self.block_grid).reshape(2, -1)
    image = np.stack([np.zeros_like(rows), rows, columns], axis=-1)
    return np.pad(image, ((text_length, 0), (0, 0)))

  def rotation(self, text_length: int = 0) -> rotary.Rotation:
    """Rotation for the text positions, then the image positions."""
    return rotary.tables(self.positions(text_length), self.rope_axes)

  def transform(
    self, features: jax.Array, condition: TextCondition, deterministic: bool
  ) -> tuple[jax.Array, jax.Array]:
    """See base class; hidden states are [depth, B, L', D]."""
    del deterministic
    text = self.text_norm(self.text_in(condition.states))
    modulator = nn.silu(self.modulator(condition))
    x, hidden = self._blocks((self.sequence(features), text), modulator)
    return self.last_layer(x), hidden

  def logits(
    self, pre_logits: jax.Array, positions: jax.Array | None = None
  ) -> jax.Array:
    del positions
    return self.head(pre_logits).astype(jnp.float32)[:, :, None]

  def _blocks(
    self, streams: Streams, condition: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Image after the last block [B, L', D] and after all [depth, B, L', D]."""
    sizes = self.num_heads, self.mlp_width
    options = {
      'kernel_init': layers.torch_linear_init,
      'dtype': self.dtype,
      'attention': self.attention,
    }
    joint = self.scanned(JointBlock, self.joint_depth)(
      *sizes, qk_norm=True, **options, name='joint_layers'
    )
    single = self.scanned(SingleBlock, self.single_depth)(
      *sizes, **options, name='single_layers'
    )
    length = streams[1].shape[1]
    # Only the image rotates: rows and columns of the text are all 0.
    (image, text), joint_hidden = joint(streams, condition, self.rotation())
    x = jnp.concatenate([text, image], axis=1)
    x, single_hidden = single(x, condition, self.rotation(length))
    hidden = jnp.concatenate([joint_hidden, single_hidden[:, :, length:]])
    return x[:, length:], hidden
