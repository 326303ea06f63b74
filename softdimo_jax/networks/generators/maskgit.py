"""MaskGit transformer, as distilled by Di[M]O.

Source: `MaskGit_src/Network/transformer.py` of the official Di[M]O code, the
network of Halton-MaskGIT v1.0. Sequence: L image tokens, then one class token.
One table holds codes, mask, classes and the null class.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.method.soft_embedding import hard_embedding
from softdimo_jax.networks import layers, transformer
from softdimo_jax.networks.generators.output import GeneratorOutput


class MaskGitTransformer(nn.Module):
  """Class-conditional masked generator; defaults are the 256 px teacher's.

  Attributes:
    vocab_size: V codes; id V is the mask.
    num_classes: labels 0..num_classes - 1; label num_classes is the null.
    length: L, image positions.
    width: D.
    depth: blocks.
    num_heads: attention heads.
    mlp_width: hidden width of the MLPs.
    dropout: rate when not deterministic.
    table_scale: standard deviation of the table at initialisation. The table
      is tied to the logits, so the official 1.0 starts a narrow network far
      from the uniform distribution; D^-0.5 starts it there.
    dtype: of the matrix products; parameters are float32.
    remat: what the backward pass keeps, see `layers.scan_blocks`.
    unroll: blocks per scan iteration.
  """

  vocab_size: int = 1024
  num_classes: int = 1000
  length: int = 256
  width: int = 768
  depth: int = 24
  num_heads: int = 16
  mlp_width: int = 3072
  dropout: float = 0.1
  table_scale: float = 1.0
  dtype: jnp.dtype = jnp.float32
  remat: str = 'none'
  unroll: int = 1

  num_groups = 1

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

  def table(self) -> jax.Array:
    """Embedding of every code and, last, of the mask: [1, V + 1, D]."""
    return self.tok_emb[None, : self.vocab_size + 1]

  def embed(self, tokens: jax.Array) -> jax.Array:
    """Raw table rows of int tokens [B, L, 1] -> [B, L, D]."""
    return hard_embedding(tokens, self.table())

  def sequence(self, embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """Class token last, positions added: [B, L + 1, D]."""
    classes = self.tok_emb[self.vocab_size + 1 + labels]
    x = jnp.concatenate([embeddings, classes[:, None]], axis=1)
    return x + self.pos_emb

  @nn.compact
  def backbone(
    self,
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    deterministic: bool = True,
  ) -> GeneratorOutput:
    """Everything after the table.

    Args:
      embeddings: [B, L, D], hard, soft, masked or noised.
      labels: int [B] in [0, num_classes]; num_classes drops the condition.
      deterministic: no dropout (else the rng 'dropout' is needed).

    Returns:
      GeneratorOutput with C = V + 1.
    """
    x = self._first(self.sequence(embeddings, labels), deterministic)
    blocks = layers.scan_blocks(
      transformer.Block, self.depth, remat=self.remat, unroll=self.unroll
    )
    x, hidden = blocks(
      self.num_heads,
      self.mlp_width,
      self.dropout,
      epsilon=1e-5,
      deterministic=deterministic,
      dtype=self.dtype,
      name='layers',
    )(x, None)
    x = self.drop(self.last_norm_0(x), deterministic=deterministic)
    x = layers.gelu(self.last_dense(x))
    last = self.last_norm_1(x)[:, : self.length]
    hidden = hidden[:, :, : self.length]
    return GeneratorOutput(self.logits(last), last, hidden)

  def _first(self, x: jax.Array, deterministic: bool) -> jax.Array:
    drop = lambda y: self.drop(y, deterministic=deterministic)
    x = self.first_dense_0(drop(self.first_norm_0(x)))
    x = layers.gelu(x)
    return self.first_dense_1(drop(self.first_norm_1(x)))

  def logits(
    self, last: jax.Array, positions: jax.Array | None = None
  ) -> jax.Array:
    """Of `GeneratorOutput.last` [B, P, D] at int positions [P], or at all.

    Returns:
      float32 [B, P, 1, V + 1].
    """
    codes = self.vocab_size + 1
    positions = jnp.arange(self.length) if positions is None else positions
    tied = self.tok_emb[:codes].T
    logits = layers.matmul_2d(last, tied, self.dtype).astype(jnp.float32)
    return (logits + self.logit_bias[positions, :codes])[:, :, None]

  def __call__(
    self, tokens: jax.Array, labels: jax.Array, *, deterministic: bool = True
  ) -> GeneratorOutput:
    """Int tokens [B, L, 1] (V is the mask) and labels [B] -> output."""
    embeddings = self.embed(tokens)
    return self.backbone(embeddings, labels, deterministic=deterministic)
