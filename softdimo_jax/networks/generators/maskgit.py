"""MaskGit transformer, as distilled by Di[M]O.

Source: `MaskGit_src/Network/transformer.py` of the official Di[M]O code, the
network of Halton-MaskGIT v1.0. The sequence is L image tokens, then one class
token. One table holds codes, mask, classes and the null class.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.networks.generators.interface import ClassGenerator


class MaskGitTransformer(ClassGenerator):
  """Class-conditional masked generator; defaults are the 256 px teacher's.

  C = V + 1: the mask has a logit, too.

  Attributes:
    vocab_size: number of codes, V; id V is the mask.
    table_scale: standard deviation of the table at initialisation. The logits
      are tied to the table, so the official 1.0 starts a narrow network far
      from the uniform distribution; D^-0.5 starts close to it.
  """

  vocab_size: int = 1024
  table_scale: float = 1.0

  frozen = ('tok_emb', 'pos_emb', 'logit_bias')

  def setup(self) -> None:
    rows = self.vocab_size + 1 + self.num_classes + 1
    self.tok_emb = self.param(
      'tok_emb', nn.initializers.normal(self.table_scale), (rows, self.width)
    )
    self.pos_emb = self.param(
      'pos_emb', layers.normal_02, (self.length + 1, self.width)
    )
    self.logit_bias = self.param(
      'logit_bias', nn.initializers.zeros_init(), (self.length + 1, rows)
    )
    dense = lambda: layers.Dense(self.width, self.dtype)
    norm = lambda: layers.LayerNorm(1e-12, self.dtype)
    self.first_norm_0, self.first_dense_0 = norm(), dense()
    self.first_norm_1, self.first_dense_1 = norm(), dense()
    self.last_norm_0, self.last_dense, self.last_norm_1 = (
      norm(), dense(), norm(),
    )  # fmt: skip
    self.drop = nn.Dropout(self.dropout)

  def class_rows(self, labels: jax.Array) -> jax.Array:
    return self.tok_emb[self.vocab_size + 1 + labels]

  def transform(
    self, features: jax.Array, labels: jax.Array, deterministic: bool
  ) -> tuple[jax.Array, jax.Array]:
    x = self._first(self.sequence(features, labels), deterministic)
    x, hidden = self.blocks(x, deterministic, epsilon=1e-5)
    x = self.drop(self.last_norm_0(x), deterministic=deterministic)
    x = layers.gelu(self.last_dense(x))
    return self.last_norm_1(x)[:, : self.length], hidden[:, :, : self.length]

  def _first(self, x: jax.Array, deterministic: bool) -> jax.Array:
    drop = lambda y: self.drop(y, deterministic=deterministic)
    x = self.first_dense_0(drop(self.first_norm_0(x)))
    x = layers.gelu(x)
    return self.first_dense_1(drop(self.first_norm_1(x)))

  def logits(
    self, pre_logits: jax.Array, positions: jax.Array | None = None
  ) -> jax.Array:
    codes = self.vocab_size + 1
    positions = jnp.arange(self.length) if positions is None else positions
    tied = self.tok_emb[:codes].T
    logits = layers.matmul_2d(pre_logits, tied, self.dtype).astype(jnp.float32)
    return (logits + self.logit_bias[positions, :codes])[:, :, None]
