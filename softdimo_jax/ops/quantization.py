"""Quantisation of latents: codebook lookup, lookup-free bits, their losses.

Vector quantisation (VQ) replaces a latent by the nearest row of a learned
codebook. Lookup-free quantisation (LFQ; Yu et al. 2024, MaskBit section 3.2)
keeps the sign of every channel: the code t in [0, 2^bits) of a position has
bit k set if channel k is positive. MaskBit's generator treats t as G groups of
e = bits / G bits each; group 0 holds the low bits, so group g covers the
channels [g e, (g + 1) e) of the latent.

Code assignments and losses are computed in float32.
"""

import chex
import jax
import jax.numpy as jnp

# Lower bound of probabilities inside the logarithm of the entropies (official
# value; it changes the fifth digit of the per-sample entropy).
ENTROPY_FLOOR = 1e-5
ASSIGNMENTS = ('softmax', 'argmax')


def l2_normalize(x: jax.Array, *, epsilon: float = 1e-12) -> jax.Array:
  """x / max(|x|, epsilon) over the last axis; no NaN at zero."""
  squared = jnp.square(x).sum(-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(squared, epsilon**2))


def code_affinity(latents: jax.Array, codebook: jax.Array) -> jax.Array:
  """2 z.e - |e|^2: the negative squared distance, up to a term in z alone.

  Args:
    latents: z [..., D].
    codebook: e [V, D].

  Returns:
    float32 [..., V]; the largest entry belongs to the nearest code, and a
    softmax over V equals that of the negative squared distances.
  """
  chex.assert_equal_shape_suffix([latents[..., None, :], codebook], 1)
  latents = latents.astype(jnp.float32)
  # Full precision on every backend, to tell close codes apart.
  products = jnp.matmul(latents, codebook.T, precision='highest')
  return 2 * products - jnp.square(codebook).sum(-1)  # [..., V]


def nearest_code(latents: jax.Array, codebook: jax.Array) -> jax.Array:
  """Index of the nearest row of `codebook` [V, D] for `latents` [..., D].

  For a cosine lookup, pass both through `l2_normalize` first.

  Returns:
    int32 [...]; ties go to the lower index.
  """
  return code_affinity(latents, codebook).argmax(-1).astype(jnp.int32)


def straight_through(latents: jax.Array, quantized: jax.Array) -> jax.Array:
  """Value of `quantized`, gradient to `latents` only; shapes must be equal."""
  chex.assert_equal_shape([latents, quantized])
  return latents + jax.lax.stop_gradient(quantized - latents)


def vq_loss(
  latents: jax.Array,
  quantized: jax.Array,
  *,
  codebook_weight: float = 1.0,
  commitment_weight: float = 0.25,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Loss of the codebook lookup (van den Oord et al. 2017, Eq. 3).

  Taming's checkpoints were trained with the two weights swapped (0.25 on the
  codebook, 1 on the commitment); the value is the same, 1.25 times the squared
  error.

  Args:
    latents: float [..., D], the encoder's output.
    quantized: float [..., D], the codebook rows without straight-through: only
      this loss trains the codebook.
    codebook_weight: weight of the term that moves the rows.
    commitment_weight: weight of the term that moves the latents.

  Returns:
    float32 scalar and the unweighted terms `codebook`, `commitment`.
  """
  chex.assert_equal_shape([latents, quantized])
  codebook = _mean_square(quantized - jax.lax.stop_gradient(latents))
  commitment = _mean_square(latents - jax.lax.stop_gradient(quantized))
  loss = codebook_weight * codebook + commitment_weight * commitment
  return loss, {'codebook': codebook, 'commitment': commitment}


def lfq_loss(
  latents: jax.Array,
  *,
  commitment_weight: float = 0.25,
  entropy_weight: float = 0.02,
  diversity: float = 1.0,
  temperature: float = 0.01,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Loss of lookup-free quantisation (MaskBit `LookupFreeQuantizer`).

  commitment_weight * commitment
    + entropy_weight * (per-sample entropy - diversity * average entropy).
  The entropy terms make each position certain of its code and the batch use
  all codes. They cover all 2^bits codes and take [..., 2^bits] floats of
  memory.

  Args:
    latents: float [..., bits], the encoder's output.
    commitment_weight: weight of the term that pulls channels to -1 and +1.
    entropy_weight: weight of the entropies; 0 does not compute them.
    diversity: official `entropy_gamma`.
    temperature: temperature of the softmax over codes.

  Returns:
    float32 scalar and the unweighted terms `commitment` and, if
    entropy_weight is not 0, `sample_entropy` and `average_entropy`.
  """
  bits = sign_bits(latents)
  commitment = _mean_square(latents - jax.lax.stop_gradient(bits))
  loss = commitment_weight * commitment
  metrics = {'commitment': commitment}
  if entropy_weight:
    num_bits = latents.shape[-1]
    codes = codes_to_bits(2**num_bits, num_bits)
    sample, average = code_entropies(
      code_affinity(latents, codes), temperature=temperature
    )
    loss += entropy_weight * (sample - diversity * average)
    metrics |= {'sample_entropy': sample, 'average_entropy': average}
  return loss, metrics


def code_entropies(
  affinity: jax.Array, *, temperature: float
) -> tuple[jax.Array, jax.Array]:
  """Entropies in nats of softmax(affinity / temperature) [..., V].

  Returns:
    float32 scalars: the mean entropy over positions, and the entropy of the
    mean distribution (MaskBit `entropy_loss_fn`).
  """
  flat = affinity.reshape(-1, affinity.shape[-1]).astype(jnp.float32)
  probabilities = jax.nn.softmax(flat / temperature)  # [N, V]
  return (
    _entropy(probabilities).mean(),
    _entropy(probabilities.mean(0)),
  )


def entropy_loss(
  affinity: jax.Array, *, temperature: float, assignment: str = 'softmax'
) -> jax.Array:
  """Entropy loss of Google's MaskGIT tokenizer (`losses.entropy_loss`).

  Mean cross entropy between assignment and softmax over positions, minus the
  entropy of the mean assignment: it favours certain positions and the use of
  all codes.

  Args:
    affinity: [..., V], see `code_affinity`.
    temperature: temperature of the softmax over codes.
    assignment: one of ASSIGNMENTS; 'argmax' is straight-through.

  Returns:
    float32 scalar, in nats.

  Raises:
    ValueError: for an unknown assignment.
  """
  if assignment not in ASSIGNMENTS:
    raise ValueError(
      f'assignment {assignment!r} is unknown; choose one of {ASSIGNMENTS}'
    )
  flat = affinity.reshape(-1, affinity.shape[-1]).astype(jnp.float32)
  log_p = jax.nn.log_softmax(flat / temperature)  # [N, V]
  target = jnp.exp(log_p)
  if assignment == 'argmax':
    hard = jax.nn.one_hot(flat.argmax(-1), flat.shape[-1])
    target = straight_through(target, hard)
  mean = target.mean(0)
  mean_entropy = -(mean * jnp.log(mean + ENTROPY_FLOOR)).sum()
  return -(target * log_p).sum(-1).mean() - mean_entropy


def sign_bits(latents: jax.Array) -> jax.Array:
  """float32 signs: +1 where a latent is positive, else -1 (also at zero)."""
  return jnp.where(latents > 0, 1.0, -1.0)


def bits_to_tokens(bits: jax.Array, num_groups: int = 1) -> jax.Array:
  """Codes from the signs of the channels.

  Args:
    bits: [..., num_groups * e]; only the signs matter.
    num_groups: G.

  Returns:
    int32 [..., G] in [0, 2^e): bit c of group g is channel g e + c.
  """
  grouped = bits.reshape(*bits.shape[:-1], num_groups, -1) > 0
  weights = 2 ** jnp.arange(grouped.shape[-1], dtype=jnp.int32)
  return (grouped * weights).sum(-1, dtype=jnp.int32)


def codes_to_bits(num_codes: int, num_bits: int) -> jax.Array:
  """float32 [num_codes, num_bits] of -1 and +1: row t is t, low bit first."""
  codes = jnp.arange(num_codes, dtype=jnp.int32)
  digits = codes[:, None] >> jnp.arange(num_bits, dtype=jnp.int32) & 1
  return 2.0 * digits - 1.0


def lookup_free_table(num_bits: int, num_groups: int = 1) -> jax.Array:
  """Embedding table of the grouped codes: float32 [G, 2^e, num_bits].

  Rows of group g hold +-1 in the group's e channels and zeros elsewhere, so
  the sum over groups is the full code of a position.

  Raises:
    ValueError: if the bits do not divide evenly over the groups.
  """
  e = _bits_per_group(num_bits, num_groups)
  own = codes_to_bits(2**e, e)  # [V, e]
  channels = jnp.eye(num_groups)[:, None, :, None] * own[None, :, None, :]
  return channels.reshape(num_groups, 2**e, num_bits)  # [G, V, D]


def split_tokens(
  tokens: jax.Array, *, num_bits: int, num_groups: int
) -> jax.Array:
  """Full codes int [...] in [0, 2^num_bits) -> int32 [..., G], low bits first.

  Raises:
    ValueError: if the bits do not divide evenly over the groups.
  """
  e = _bits_per_group(num_bits, num_groups)
  shifts = e * jnp.arange(num_groups, dtype=jnp.int32)
  return tokens[..., None].astype(jnp.int32) >> shifts & (2**e - 1)


def merge_tokens(groups: jax.Array, *, num_bits: int) -> jax.Array:
  """Inverse of `split_tokens`: int [..., G] -> int32 [...]."""
  num_groups = groups.shape[-1]
  e = _bits_per_group(num_bits, num_groups)
  shifts = e * jnp.arange(num_groups, dtype=jnp.int32)
  return (groups.astype(jnp.int32) << shifts).sum(-1, dtype=jnp.int32)


def _bits_per_group(num_bits: int, num_groups: int) -> int:
  if num_bits % num_groups:
    raise ValueError(f'{num_bits} bits do not split into {num_groups} groups')
  return num_bits // num_groups


def _mean_square(x: jax.Array) -> jax.Array:
  return jnp.square(x.astype(jnp.float32)).mean()


def _entropy(probabilities: jax.Array) -> jax.Array:
  logs = jnp.log(jnp.maximum(probabilities, ENTROPY_FLOOR))
  return -(probabilities * logs).sum(-1)
