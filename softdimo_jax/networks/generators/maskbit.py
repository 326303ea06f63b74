"""MaskBit generators: groups of bits in, groups of bits out.

Source: `LFQBert` and `Bert` of markweberdev/maskbit, modeling/bert.py. A
position holds `num_groups` sub-tokens (the official `splits`) of V = 2^e
codes. Sequence: L image positions, then one class token.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.method.soft_embedding import hard_embedding
from softdimo_jax.networks import layers, transformer
from softdimo_jax.networks.generators.output import GeneratorOutput
from softdimo_jax.ops.quantization import codes_to_bits


class MaskBitTransformer(nn.Module):
  """Class-conditional bit generator; defaults are the 14-bit teacher's.

  Code bits enter as -1 and +1 and a masked sub-token as zeros, through one
  affine map; a linear head gives the logits.

  Attributes:
    num_bits: bits of a position, divisible by num_groups.
    num_groups: G sub-tokens a position; V = 2^(num_bits / G), id V the mask.
    num_classes: labels 0..num_classes - 1; label num_classes is the null.
    length: L, image positions.
    width: D.
    depth: blocks.
    num_heads: attention heads.
    mlp_width: hidden width of the MLPs.
    dropout: rate when not deterministic.
    pre_norm: pre-norm blocks with a final norm; no released model has them.
    dtype: of the matrix products; parameters are float32.
    remat: what the backward pass keeps, see `layers.scan_blocks`.
    unroll: blocks per scan iteration.
  """

  num_bits: int = 14
  num_groups: int = 2
  num_classes: int = 1000
  length: int = 256
  width: int = 1024
  depth: int = 24
  num_heads: int = 16
  mlp_width: int = 4096
  dropout: float = 0.1
  pre_norm: bool = False
  dtype: jnp.dtype = jnp.float32
  remat: str = 'none'
  unroll: int = 1

  @property
  def vocab_size(self) -> int:
    """V, codes of one group."""
    return 2 ** (self.num_bits // self.num_groups)

  def setup(self) -> None:
    norm = lambda: layers.LayerNorm(1e-12, self.dtype)
    self.class_emb = self.param(
      'class_emb', layers.normal_02, (self.num_classes + 1, self.width)
    )
    self.pos_emb = self.param(
      'pos_emb', layers.normal_02, (self.length + 1, self.width)
    )
    self.first_norm = norm()
    if self.pre_norm:
      self.final_norm = norm()
    self.last_dense, self.last_norm = self._dense(self.width), norm()
    self.drop = nn.Dropout(self.dropout)
    self._setup_codes()

  def _dense(self, width: int) -> layers.Dense:
    return layers.Dense(width, self.dtype, kernel_init=layers.normal_02)

  def _setup_codes(self) -> None:
    """What depends on how codes enter and leave."""
    self.input_kernel = self.param(
      'input_kernel', layers.normal_02, (self.num_bits, self.width)
    )
    self.input_bias = self.param(
      'input_bias', nn.initializers.zeros_init(), (self.width,)
    )
    self.prediction = self._dense(self.num_groups * self.vocab_size)

  def table(self) -> jax.Array:
    """Projected bits of every code, mask last: [G, V + 1, D].

    The map is affine, so a position's embedding is the sum of its groups'
    rows; the bias is counted once, with group 0.
    """
    kernel = self.input_kernel.reshape(self.num_groups, -1, self.width)
    bits = codes_to_bits(self.vocab_size, kernel.shape[1])  # [V, e]
    rows = jnp.einsum('ve,ged->gvd', bits, kernel)
    rows = jnp.pad(rows, ((0, 0), (0, 1), (0, 0)))
    return rows.at[0].add(self.input_bias)

  def embed(self, tokens: jax.Array) -> jax.Array:
    """Int tokens [B, L, G] (V is the mask) -> [B, L, D]."""
    return hard_embedding(tokens, self.table())

  def sequence(self, embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """Class token last, positions added: [B, L + 1, D]."""
    classes = self.class_emb[labels]
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
    """Everything after the input projection.

    Args:
      embeddings: [B, L, D], hard, soft, masked or noised.
      labels: int [B] in [0, num_classes]; num_classes drops the condition.
      deterministic: no dropout (else the rng 'dropout' is needed).

    Returns:
      GeneratorOutput with C = V.
    """
    x = self.first_norm(self.sequence(embeddings, labels))
    x = self.drop(x, deterministic=deterministic)
    blocks = layers.scan_blocks(
      transformer.Block, self.depth, remat=self.remat, unroll=self.unroll
    )
    x, hidden = blocks(
      self.num_heads,
      self.mlp_width,
      self.dropout,
      dropout_after_attention=True,
      pre_norm=self.pre_norm,
      epsilon=1e-12,
      kernel_init=layers.normal_02,
      deterministic=deterministic,
      dtype=self.dtype,
      name='layers',
    )(x, None)
    last = self.last_layer(x[:, : self.length])
    hidden = hidden[:, :, : self.length]
    return GeneratorOutput(self.logits(last), last, hidden)

  def last_layer(self, x: jax.Array) -> jax.Array:
    """Between the blocks and the logits: [B, P, D] -> [B, P, D]."""
    if self.pre_norm:
      x = self.final_norm(x)
    return self.last_norm(layers.gelu(self.last_dense(x)))

  def logits(
    self, last: jax.Array, positions: jax.Array | None = None
  ) -> jax.Array:
    """Of `GeneratorOutput.last` [B, P, D] at int positions [P], or at all.

    Returns:
      float32 [B, P, G, V].
    """
    logits = self._all_groups(last).astype(jnp.float32)
    shape = (*last.shape[:2], self.num_groups, self.vocab_size)
    return logits.reshape(shape) + self._bias(positions)

  def _all_groups(self, last: jax.Array) -> jax.Array:
    return self.prediction(last)  # [B, P, G V]

  def _bias(self, positions: jax.Array | None) -> jax.Array | float:
    del positions
    return 0.0

  def __call__(
    self, tokens: jax.Array, labels: jax.Array, *, deterministic: bool = True
  ) -> GeneratorOutput:
    """Int tokens [B, L, G] (V is the mask) and labels [B] -> output."""
    embeddings = self.embed(tokens)
    return self.backbone(embeddings, labels, deterministic=deterministic)


class MaskBitTableTransformer(MaskBitTransformer):
  """MaskBit with learned tables for bits: the official `Bert`.

  One table a group, whose rows are summed at a position and also read the
  logits off, with a bias per position. It has no released weights.
  """

  def _setup_codes(self) -> None:
    shape = (self.num_groups, self.vocab_size + 1, self.width)
    self.tok_emb = self.param('tok_emb', layers.normal_02, shape)
    shape = (self.num_groups, self.length, self.vocab_size)
    self.logit_bias = self.param(
      'logit_bias', nn.initializers.zeros_init(), shape
    )

  def table(self) -> jax.Array:
    """Embedding of every code and, last, of the mask: [G, V + 1, D]."""
    return self.tok_emb

  def _all_groups(self, last: jax.Array) -> jax.Array:
    tied = self.tok_emb[:, :-1].reshape(-1, self.width).T  # [D, G V]
    return layers.matmul_2d(last, tied, self.dtype)

  def _bias(self, positions: jax.Array | None) -> jax.Array:
    positions = jnp.arange(self.length) if positions is None else positions
    return self.logit_bias[:, positions].swapaxes(0, 1)  # [P, G, V]
