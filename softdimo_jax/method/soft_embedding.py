"""Soft embeddings: expectations that pass gradients to the generator.

The embedding of a position is the sum of one table row per group. The same
functions serve every table: a generator's (teacher or student) and a tokenizer
decoder's. With one-hot probabilities the soft path equals the hard one
(Soft-Di[M]O, Eq. 3: e~ = E^T softmax(z)).
"""

import chex
import flax.struct
import jax
import jax.numpy as jnp

from softdimo_jax.ops import parallel

RELAXATIONS = ('soft', 'gumbel', 'hard', 'sampled')


def soft_embedding(probabilities: jax.Array, table: jax.Array) -> jax.Array:
  """Expected embedding of every position.

  Args:
    probabilities: [B, L, G, V], each row sums to one.
    table: [G, V, D].

  Returns:
    float32 [B, L, D], differentiable with respect to both arguments.
  """
  chex.assert_rank([probabilities, table], [4, 3])
  chex.assert_equal_shape_suffix([probabilities, table[..., 0]], 2)
  if not parallel.is_split():
    return _expectation(probabilities, table)
  return parallel.split(
    lambda p, rows: jax.lax.psum(_expectation(p, rows), parallel.TENSOR),
    (probabilities, table),
    vocabulary=(3, 1),
    batched=(True, False),
    fill=0.0,
    returns_vocabulary=False,
  )


def _expectation(probabilities: jax.Array, table: jax.Array) -> jax.Array:
  batch, length, groups, codes = probabilities.shape
  # One 2-D matrix product over (group, code) is the fast path on every
  # backend and includes the sum over groups.
  flat = probabilities.reshape(batch * length, groups * codes)
  embedded = jnp.matmul(
    flat,
    table.reshape(groups * codes, -1).astype(flat.dtype),
    preferred_element_type=jnp.float32,
  )
  return embedded.reshape(batch, length, -1)  # [B, L, D]


def hard_embedding(tokens: jax.Array, table: jax.Array) -> jax.Array:
  """Embedding of token ids: the sum of their table rows over groups.

  Args:
    tokens: int [B, L, G], ids below the table's number of rows.
    table: [G, V, D]; a generator's table has an extra row for the mask.

  Returns:
    [B, L, D] in the table's dtype.
  """
  chex.assert_rank([tokens, table], [3, 3])
  groups = jnp.arange(table.shape[0])
  rows = jnp.asarray(table)[groups, tokens]
  return rows.sum(axis=2)  # [B, L, G, D] -> [B, L, D]


def soft_masked_embedding(
  probabilities: jax.Array, table: jax.Array, mask: jax.Array
) -> jax.Array:
  """Soft embedding with masked entries replaced by the mask row.

  Masked entries pass no gradient. The discriminator's fakes are built this
  way; with one-hot probabilities the result equals `hard_embedding` of the
  masked tokens.

  Args:
    probabilities: [B, L, G, V].
    table: [G, V + 1, D]; the last row is the mask.
    mask: bool [B, L, G], True where the mask replaces the token.

  Returns:
    float32 [B, L, D].
  """
  chex.assert_equal_shape_prefix([probabilities, mask], 3)
  kept = jnp.where(mask[..., None], 0.0, probabilities)
  extended = jnp.concatenate([kept, mask[..., None].astype(kept.dtype)], -1)
  return soft_embedding(extended, table)


def relax(
  key: jax.Array,
  logits: jax.Array,
  *,
  relaxation: str = 'soft',
  temperature: float = 1.0,
) -> jax.Array:
  """Differentiable assignment of every position to codes.

  Args:
    key: random key, used by 'gumbel' and 'sampled' only.
    logits: [B, L, G, V], without the mask's logit.
    relaxation: 'soft' is softmax(z / T) (Soft-Di[M]O, Eq. 3). The others are
      one-hot forward and a softmax backward: 'gumbel' is the straight-through
      Gumbel-softmax (Jang et al. 2017, the paper's baseline), which draws at
      temperature 1 whatever T; 'hard' the arg max and 'sampled' a draw from
      softmax(z / T), both with its gradient (straight-through estimator,
      Bengio et al. 2013).
    temperature: T > 0.

  Returns:
    float32 [B, L, G, V]; rows sum to one.

  Raises:
    ValueError: for an unknown relaxation.
  """
  logits = logits.astype(jnp.float32)
  if relaxation == 'gumbel':
    logits = logits + jax.random.gumbel(key, logits.shape)
  soft = jax.nn.softmax(logits / temperature)
  if relaxation == 'soft':
    return soft
  if relaxation not in RELAXATIONS:
    raise ValueError(
      f'relaxation {relaxation!r} is unknown; choose one of {RELAXATIONS}'
    )
  if relaxation == 'sampled':
    tokens = jax.random.categorical(key, logits / temperature)
  else:
    tokens = logits.argmax(-1)
  hard = jax.nn.one_hot(tokens, logits.shape[-1])
  return soft + jax.lax.stop_gradient(hard - soft)


@flax.struct.dataclass
class Concentration:
  """How close token distributions are to one-hot; scalar means over entries.

  Attributes:
    entropy: in nats.
    max_probability: probability of the likeliest code.
    delta_share: share of entries with at most one code above probability 1e-3
      (Di[M]O App. D.4).
    variance: trace of the embedding's covariance, which bounds the bias of
      the soft path (Soft-Di[M]O, theory section).
  """

  entropy: jax.Array
  max_probability: jax.Array
  delta_share: jax.Array
  variance: jax.Array


def concentration(probabilities: jax.Array, table: jax.Array) -> Concentration:
  """Concentration of probabilities [B, L, G, V] over a table [G, V, D]."""
  chex.assert_rank([probabilities, table], [4, 3])
  log_p = jnp.log(jnp.maximum(probabilities, 1e-30))
  second = jnp.einsum('blgv,gv->blg', probabilities, jnp.sum(table**2, -1))
  mean = jnp.einsum('blgv,gvd->blgd', probabilities, table)
  return Concentration(
    entropy=-(probabilities * log_p).sum(-1).mean(),
    max_probability=probabilities.max(-1).mean(),
    delta_share=((probabilities > 1e-3).sum(-1) <= 1).mean(),
    variance=(second - (mean**2).sum(-1)).sum(-1).mean(),
  )
