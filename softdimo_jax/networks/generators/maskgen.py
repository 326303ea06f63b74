"""MaskGen-VQ (Kim et al. 2025), from text to the 1-D tokens of TA-TiTok.

Source: `modeling/maskgen.py:MaskGen_VQ` of bytedance/1d-tokenizer. Joint blocks
process text states and image tokens, modulated by the pooled text and an
aesthetic score. The null condition is not learned: it is the text features of
the empty prompt.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.networks.generators.interface import TextGenerator
from softdimo_jax.networks.joint_block import JointBlock, Modulation, modulate

# Official constants of the aesthetic score's sinusoids.
_SCORE_SCALE = 100
_MAX_PERIOD = 1000


class MaskGenTransformer(TextGenerator):
  """Text-conditional masked generator; defaults are MaskGen-VQ-L's.

  XL has width 1280, depth 20 and mlp_width 5120.

  P = E: the pooled text features are as wide as the states.

  Attributes:
    num_classes: number of classes; the table has num_classes + 1 unused rows
      for them.
    length: number of image positions, L.
    depth: number of blocks.
    micro_width: number of features of the aesthetic score; 0 omits it.
    tied: whether the logits are tied to the table; else a layer with bias
      gives them.
  """

  num_classes: int = 1000
  length: int = 128
  depth: int = 16
  text_width: int = 768
  micro_width: int = 256
  tied: bool = True

  frozen = ('tok_emb', 'pos_emb')  # the head is tied

  def condition_shape(self, text_length: int = 1) -> TextCondition:
    shape: Callable[..., Any] = lambda *sizes: jax.ShapeDtypeStruct(
      (1, *sizes), jnp.float32
    )
    return TextCondition(
      states=shape(text_length, self.text_width),
      pooled=shape(self.text_width),
      micro=shape(1) if self.micro_width else None,
    )

  def setup(self) -> None:
    dense = lambda features: layers.Dense(
      features, self.dtype, kernel_init=layers.normal_02
    )
    rows = self.vocab_size + 1 + self.num_classes + 1
    self.tok_emb = self.param('tok_emb', layers.normal_02, (rows, self.width))
    self.pos_emb = self.param(
      'pos_emb', layers.normal_02, (self.length, self.width)
    )
    self.text_in, self.pooled_in = dense(self.width), dense(self.width)
    self.final_modulation = Modulation(
      2, self.dtype, nn.initializers.zeros_init()
    )
    if not self.tied:
      self.head = dense(self.vocab_size)

  def sequence(self, embeddings: jax.Array) -> jax.Array:
    """Adds positions: [B, L, D] -> `dtype` [B, L, D]."""
    positions = self.pos_emb[: embeddings.shape[1]]
    return (embeddings + positions).astype(self.dtype)

  def score_features(self, scores: jax.Array) -> jax.Array:
    """Sinusoids of aesthetic scores [B] -> float32 [B, micro_width]."""
    angle = layers.sinusoid_angles(
      _SCORE_SCALE * scores, self.micro_width // 2, max_period=_MAX_PERIOD
    )
    odd = self.micro_width % 2
    features = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return jnp.pad(features, ((0, 0), (0, odd)))

  def modulator(self, condition: TextCondition) -> jax.Array:
    """The vector that modulates all blocks: [B, D].

    Raises:
      ValueError: if the network reads an aesthetic score and there is none.
    """
    pooled = condition.pooled
    if self.micro_width:
      if condition.micro is None:
        raise ValueError('MaskGen needs an aesthetic score in condition.micro')
      scores = self.score_features(condition.micro[:, 0])
      pooled = jnp.concatenate([pooled, scores.astype(pooled.dtype)], axis=-1)
    return self.pooled_in(pooled)

  def last_layer(self, x: jax.Array, modulator: jax.Array) -> jax.Array:
    """Layers between blocks and logits: [B, L, D] -> [B, L, D]."""
    shift, scale = self.final_modulation(nn.silu(modulator))
    return modulate(x, shift, scale, self.dtype)

  def transform(
    self, features: jax.Array, condition: TextCondition, deterministic: bool
  ) -> tuple[jax.Array, jax.Array]:
    """See base class; the condition's `micro` is the aesthetic score [B, 1]."""
    del deterministic
    modulator = self.modulator(condition)
    streams = self.sequence(features), self.text_in(condition.states)
    x, hidden = self._blocks(streams, nn.silu(modulator))
    return self.last_layer(x, modulator), hidden

  def _blocks(
    self, streams: tuple[jax.Array, jax.Array], condition: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Image after the last block [B, L, D], and after all [depth, B, L, D]."""
    sizes = self.num_heads, self.mlp_width
    options = {'dtype': self.dtype, 'attention': self.attention}
    outputs = []
    if self.depth > 1:
      blocks = self.scanned(JointBlock, self.depth - 1)
      streams, hidden = blocks(*sizes, **options, name='layers')(
        streams, condition
      )
      outputs.append(hidden)
    last = JointBlock(*sizes, last=True, **options, name='last')
    _, x = last(streams, condition)
    return x, jnp.concatenate([*outputs, x[None]])

  def logits(
    self, pre_logits: jax.Array, positions: jax.Array | None = None
  ) -> jax.Array:
    del positions
    if self.tied:
      tied = self.tok_emb[: self.vocab_size].T
      logits = layers.matmul_2d(pre_logits, tied, self.dtype)
    else:
      logits = self.head(pre_logits)
    return logits.astype(jnp.float32)[:, :, None]
