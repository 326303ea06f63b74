"""Google's MaskGIT transformer (Chang et al. 2022).

Source: `maskgit/nets/maskgit_transformer.py` of google-research/maskgit.
Sequence: one class token, then L image tokens. One table holds codes, classes
and the mask. Post-norm, tanh GELU, one logit bias for all positions.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.method.soft_embedding import hard_embedding
from softdimo_jax.networks import layers, transformer
from softdimo_jax.networks.generators.output import GeneratorOutput


class GoogleMaskGitTransformer(nn.Module):
  """Class-conditional masked generator; defaults are the 256 px model's.

  Attributes:
    vocab_size: V codes; id V is the mask (the official -1, which names the
      table's last row).
    num_classes: labels 0..num_classes - 1. The released models were trained
      without a null class; label num_classes puts the mask in its place.
    length: L, image positions.
    width: D.
    depth: blocks.
    num_heads: attention heads.
    mlp_width: hidden width of the MLPs.
    dropout: rate when not deterministic.
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
  dtype: jnp.dtype = jnp.float32
  remat: str = 'none'
  unroll: int = 1

  num_groups = 1

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
    """Embedding of every code and, last, of the mask: [1, V + 1, D]."""
    codes, mask = self.word_emb[: self.vocab_size], self.word_emb[-1:]
    return jnp.concatenate([codes, mask])[None]

  def embed(self, tokens: jax.Array) -> jax.Array:
    """Raw table rows of int tokens [B, L, 1] -> [B, L, D]."""
    return hard_embedding(tokens, self.table())

  def sequence(self, embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """Class token first, positions added, normed: [B, L + 1, D]."""
    classes = self.word_emb[self.vocab_size + labels]
    x = jnp.concatenate([classes[:, None], embeddings], axis=1)
    return self.first_norm(x + self.pos_emb[: x.shape[1]])

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
      labels: int [B] in [0, num_classes].
      deterministic: no dropout (else the rng 'dropout' is needed).

    Returns:
      GeneratorOutput with C = V.
    """
    x = self.sequence(embeddings, labels)
    x = self.drop(x, deterministic=deterministic)
    blocks = layers.scan_blocks(
      transformer.Block, self.depth, remat=self.remat, unroll=self.unroll
    )
    x, hidden = blocks(
      self.num_heads,
      self.mlp_width,
      self.dropout,
      dropout_after_attention=True,
      pre_norm=False,
      epsilon=1e-12,
      activation='gelu_tanh',
      kernel_init=layers.truncated_normal_02,
      qkv_init=layers.truncated_normal_02,
      deterministic=deterministic,
      dtype=self.dtype,
      name='layers',
    )(x, None)
    last = x[:, 1:]
    return GeneratorOutput(self.logits(last), last, hidden[:, :, 1:])

  def logits(
    self, last: jax.Array, positions: jax.Array | None = None
  ) -> jax.Array:
    """Of `GeneratorOutput.last` [B, P, D], whatever their positions.

    Returns:
      float32 [B, P, 1, V].
    """
    del positions
    return self.word_logits(last, self.vocab_size)[:, :, None]

  def word_logits(self, x: jax.Array, rows: int) -> jax.Array:
    """Logits of the table's first `rows`: [B, P, D] -> float32 [B, P, rows]."""
    x = self.last_norm(nn.gelu(self.last_dense(x), approximate=True))
    tied = self.word_emb[:rows].T
    logits = layers.matmul_2d(x, tied, self.dtype).astype(jnp.float32)
    return logits + self.logit_bias[:rows]

  def __call__(
    self, tokens: jax.Array, labels: jax.Array, *, deterministic: bool = True
  ) -> GeneratorOutput:
    """Int tokens [B, L, 1] (V is the mask) and labels [B] -> output."""
    embeddings = self.embed(tokens)
    return self.backbone(embeddings, labels, deterministic=deterministic)
