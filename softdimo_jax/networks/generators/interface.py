"""The common interface of the generators.

    tokens --embed--> embeddings --features, transform--> pre_logits --logits

`backbone` is everything after `embed`: one entry point for hard tokens,
expected embeddings, masked mixtures and noise.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from softdimo_jax.method.soft_embedding import hard_embedding
from softdimo_jax.networks import layers, transformer
from softdimo_jax.networks.generators.condition import Condition, TextCondition
from softdimo_jax.networks.towers import BlockNetwork


@flax.struct.dataclass
class GeneratorOutput:
  """Logits and hidden states of one forward pass.

  Attributes:
    logits: float32 [B, L, G, C], the generator's `logits` of `pre_logits`, with
      C >= V (MaskGit has a logit for the mask). Under jit they cost nothing
      unless they are used.
    pre_logits: [B, L, D], the input of the generator's `logits`.
    hidden: [depth, B, L, D], output of every block at the image positions; the
      discriminator's heads read some of them. Meissonic's blocks see a quarter
      of the positions if it downsamples.
  """

  logits: jax.Array
  pre_logits: jax.Array
  hidden: jax.Array


class MaskedGenerator(BlockNetwork):
  """Base of the generators; methods run as `apply(..., method='NAME')`.

  Subclasses define the fields or properties `vocab_size` (V codes per group; id
  V is the mask), `length` (L) and `depth`, and the methods `condition_shape`,
  `transform` and `logits`. They may override the class attributes

    frozen: top-level parameters that distillation keeps from the teacher (the
      official `fix_emb_layer`, paper Tab. 5b).
    num_groups: tokens per position, G.
    grid: rows and columns of the positions; None fits any grid.
    reads_text: whether the condition is text rather than a class label.
    reads_time: whether the generator requires the condition's `time`.
  """

  frozen = ()
  num_groups = 1
  grid = None
  reads_text = False
  reads_time = False

  def condition_shape(self) -> Condition:
    """Shapes of the condition of one image."""
    raise NotImplementedError

  def table(self) -> jax.Array:
    """Embeddings of the codes and, last, of the mask: [G, V + 1, D]."""
    return self.tok_emb[None, : self.vocab_size + 1]

  def embed(self, tokens: jax.Array) -> jax.Array:
    """Sum over G of the table rows of int tokens: [B, L, G] -> [B, L, D]."""
    return hard_embedding(tokens, self.table())

  def features(self, embeddings: jax.Array) -> jax.Array:
    """Features that the one-step generator perturbs: [B, L, D] -> same."""
    return embeddings

  def transform(
    self, features: jax.Array, condition: Condition, deterministic: bool
  ) -> tuple[jax.Array, jax.Array]:
    """`pre_logits` and `hidden` of `GeneratorOutput`, for `from_features`."""
    raise NotImplementedError

  def logits(
    self, pre_logits: jax.Array, positions: jax.Array | None = None
  ) -> jax.Array:
    """Logits float32 [B, P, G, C].

    Args:
      pre_logits: `GeneratorOutput.pre_logits` [B, P, D] at P positions.
      positions: indices of these positions, int [P]; None for all L.
    """
    raise NotImplementedError

  def backbone(
    self,
    embeddings: jax.Array,
    condition: Condition,
    *,
    deterministic: bool = True,
  ) -> GeneratorOutput:
    """Everything after the table.

    Args:
      embeddings: [B, L, D], hard, soft, masked or noised.
      condition: condition of B images: labels, int [B] in [0, num_classes], or
        text.
      deterministic: whether dropout is off; otherwise the rng 'dropout' is
        required.
    """
    features = self.features(embeddings)
    return self.from_features(features, condition, deterministic=deterministic)

  @nn.compact
  def from_features(
    self,
    features: jax.Array,
    condition: Condition,
    *,
    deterministic: bool = True,
  ) -> GeneratorOutput:
    """Everything after `features`, [B, L, D], with or without noise."""
    pre_logits, hidden = self.transform(features, condition, deterministic)
    return GeneratorOutput(self.logits(pre_logits), pre_logits, hidden)

  def __call__(
    self,
    tokens: jax.Array,
    condition: Condition,
    *,
    deterministic: bool = True,
  ) -> GeneratorOutput:
    """Output for int tokens [B, L, G] (V is the mask) and a condition."""
    embeddings = self.embed(tokens)
    return self.backbone(embeddings, condition, deterministic=deterministic)


class ClassGenerator(MaskedGenerator):
  """Base of the class-conditional generators; the sequence has a class token.

  Subclasses define `pos_emb` and `class_rows`.

  Attributes:
    num_classes: number of classes; label num_classes is the null class.
    length: number of image positions, L.
    depth: number of blocks.
    dropout: dropout rate when not deterministic.
  """

  num_classes: int = 1000
  length: int = 256
  width: int = 768
  depth: int = 24
  mlp_width: int = 3072
  dropout: float = 0.1

  def condition_shape(self) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1,), jnp.int32)

  def class_rows(self, labels: jax.Array) -> jax.Array:
    """Embeddings of labels: int [B] -> [B, D]."""
    raise NotImplementedError

  def sequence(self, embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """Appends the class token and adds positions: [B, L + 1, D]."""
    classes = self.class_rows(labels)
    x = jnp.concatenate([embeddings, classes[:, None]], axis=1)
    return x + self.pos_emb

  def blocks(
    self, x: jax.Array, deterministic: bool, **options
  ) -> tuple[jax.Array, jax.Array]:
    """Output of the last block [B, L + 1, D], and of all [depth, B, L + 1, D].

    `options` are fields of `transformer.Block`.
    """
    blocks = self.scanned(transformer.Block, self.depth)
    return blocks(
      self.num_heads,
      self.mlp_width,
      self.dropout,
      deterministic=deterministic,
      dtype=self.dtype,
      name='layers',
      **options,
    )(x, None)


class TextGenerator(MaskedGenerator):
  """Base of the text-conditional generators, which have no dropout.

  Attributes:
    vocab_size: number of codes, V; id V is the mask.
    text_width: width of the text states, E.
    attention: see `JointBlock`.
  """

  vocab_size: int = 8192
  text_width: int = 1024
  attention: layers.Attention = 'xla'

  reads_text = True

  def condition_shape(self, text_length: int = 1) -> TextCondition:
    raise NotImplementedError
