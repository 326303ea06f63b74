"""Google's MaskGIT transformer (Chang et al. 2022).

Source: `maskgit/nets/maskgit_transformer.py` of google-research/maskgit.
The sequence is one class token, then L image tokens. One table holds codes,
classes and the mask. Post-norm, tanh GELU, one logit bias for all positions.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.networks.generators.interface import ClassGenerator


class GoogleMaskGitTransformer(ClassGenerator):
  """Class-conditional masked generator; defaults are the 256 px model's.

  The released models were trained without a null class; label num_classes
  selects the mask's row instead.

  Attributes:
    vocab_size: number of codes, V; id V is the mask (officially -1, the table's
      last row).
  """

  vocab_size: int = 1024

  frozen = ('word_emb', 'pos_emb', 'logit_bias')

  def setup(self) -> None:
    rows = self.vocab_size + self.num_classes + 1
    self.word_emb = self.param(
      'word_emb', layers.truncated_normal_02, (rows, self.width)
    )
    self.pos_emb = self.param(
      'pos_emb', layers.truncated_normal_02, (self.length + 1, self.width)
    )
    self.logit_bias = self.param(
      'logit_bias', nn.initializers.zeros_init(), (rows,)
    )
    norm = lambda: layers.LayerNorm(1e-12, self.dtype)
    self.first_norm, self.last_norm = norm(), norm()
    self.last_dense = layers.Dense(
      self.width, self.dtype, kernel_init=layers.truncated_normal_02
    )
    self.drop = nn.Dropout(self.dropout)

  def table(self) -> jax.Array:
    codes, mask = self.word_emb[: self.vocab_size], self.word_emb[-1:]
    return jnp.concatenate([codes, mask])[None]

  def class_rows(self, labels: jax.Array) -> jax.Array:
    return self.word_emb[self.vocab_size + labels]

  def sequence(self, embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """Prepends the class token, adds positions, normalises: [B, L + 1, D]."""
    classes = self.class_rows(labels)
    x = jnp.concatenate([classes[:, None], embeddings], axis=1)
    return self.first_norm(x + self.pos_emb[: x.shape[1]])

  def transform(
    self, features: jax.Array, labels: jax.Array, deterministic: bool
  ) -> tuple[jax.Array, jax.Array]:
    x = self.sequence(features, labels)
    x, hidden = self.blocks(
      self.drop(x, deterministic=deterministic),
      deterministic,
      dropout_after_attention=True,
      pre_norm=False,
      epsilon=1e-12,
      activation='gelu_tanh',
      kernel_init=layers.truncated_normal_02,
      qkv_init=layers.truncated_normal_02,
    )
    return x[:, 1:], hidden[:, :, 1:]

  def logits(
    self, pre_logits: jax.Array, positions: jax.Array | None = None
  ) -> jax.Array:
    del positions
    return self.word_logits(pre_logits, self.vocab_size)[:, :, None]

  def word_logits(self, x: jax.Array, rows: int) -> jax.Array:
    """Logits of the table's first `rows`: [B, P, D] -> float32 [B, P, rows]."""
    x = self.last_norm(nn.gelu(self.last_dense(x), approximate=True))
    tied = self.word_emb[:rows].T
    logits = layers.matmul_2d(x, tied, self.dtype).astype(jnp.float32)
    return logits + self.logit_bias[:rows]
