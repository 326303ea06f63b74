"""MaskBit generators: groups of bits in, groups of bits out.

Source: `LFQBert` and `Bert` of markweberdev/maskbit, modeling/bert.py. A
position holds `num_groups` sub-tokens (the official `splits`) with V = 2^e
codes each. The sequence is L image positions, then one class token.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.networks.generators.interface import ClassGenerator
from softdimo_jax.ops.quantization import codes_to_bits


class MaskBitTransformer(ClassGenerator):
  """Class-conditional bit generator; defaults are the 14-bit teacher's.

  One affine map embeds the bits: -1 or +1 for codes, zeros for a masked
  sub-token. A linear head gives the logits.

  Attributes:
    num_bits: bits per position, divisible by num_groups.
    num_groups: sub-tokens per position, G; V = 2^(num_bits / G), id V is the
      mask.
    pre_norm: whether blocks are pre-norm, with a final norm; False in all
      released models.
  """

  num_bits: int = 14
  num_groups: int = 2
  width: int = 1024
  mlp_width: int = 4096
  pre_norm: bool = False

  # The head is untied, so it is frozen like Meissonic's.
  frozen = ('input_kernel', 'input_bias', 'pos_emb', 'prediction')

  @property
  def vocab_size(self) -> int:
    """Codes per group, V."""
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
    """Parameters of the input and output of codes."""
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
    rows; only group 0 includes the bias.
    """
    kernel = self.input_kernel.reshape(self.num_groups, -1, self.width)
    bits = codes_to_bits(self.vocab_size, kernel.shape[1])  # [V, e]
    rows = jnp.einsum('ve,ged->gvd', bits, kernel)
    rows = jnp.pad(rows, ((0, 0), (0, 1), (0, 0)))
    return rows.at[0].add(self.input_bias)

  def class_rows(self, labels: jax.Array) -> jax.Array:
    return self.class_emb[labels]

  def transform(
    self, features: jax.Array, labels: jax.Array, deterministic: bool
  ) -> tuple[jax.Array, jax.Array]:
    x = self.first_norm(self.sequence(features, labels))
    x, hidden = self.blocks(
      self.drop(x, deterministic=deterministic),
      deterministic,
      dropout_after_attention=True,
      pre_norm=self.pre_norm,
      epsilon=1e-12,
      kernel_init=layers.normal_02,
    )
    return self.last_layer(x[:, : self.length]), hidden[:, :, : self.length]

  def last_layer(self, x: jax.Array) -> jax.Array:
    """Layers between blocks and logits: [B, P, D] -> [B, P, D]."""
    if self.pre_norm:
      x = self.final_norm(x)
    return self.last_norm(layers.gelu(self.last_dense(x)))

  def logits(
    self, pre_logits: jax.Array, positions: jax.Array | None = None
  ) -> jax.Array:
    logits = self._all_groups(pre_logits).astype(jnp.float32)
    shape = (*pre_logits.shape[:2], self.num_groups, self.vocab_size)
    return logits.reshape(shape) + self._bias(positions)

  def _all_groups(self, pre_logits: jax.Array) -> jax.Array:
    return self.prediction(pre_logits)  # [B, P, G V]

  def _bias(self, positions: jax.Array | None) -> jax.Array | float:
    del positions
    return 0.0


class MaskBitTableTransformer(MaskBitTransformer):
  """MaskBit with learned tables instead of bits: the official `Bert`.

  There is one table per group. An embedding is the sum of its groups' rows; the
  logits are tied to the tables and have a bias per position. No weights are
  released.
  """

  frozen = ('tok_emb', 'pos_emb', 'logit_bias')

  def _setup_codes(self) -> None:
    shape = (self.num_groups, self.vocab_size + 1, self.width)
    self.tok_emb = self.param('tok_emb', layers.normal_02, shape)
    shape = (self.num_groups, self.length, self.vocab_size)
    self.logit_bias = self.param(
      'logit_bias', nn.initializers.zeros_init(), shape
    )

  def table(self) -> jax.Array:
    return self.tok_emb

  def _all_groups(self, pre_logits: jax.Array) -> jax.Array:
    tied = self.tok_emb[:, :-1].reshape(-1, self.width).T  # [D, G V]
    return layers.matmul_2d(pre_logits, tied, self.dtype)

  def _bias(self, positions: jax.Array | None) -> jax.Array:
    positions = jnp.arange(self.length) if positions is None else positions
    return self.logit_bias[:, positions].swapaxes(0, 1)  # [P, G, V]
