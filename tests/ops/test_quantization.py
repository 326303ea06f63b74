import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.ops import quantization

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
SCHEDULES = np.load(GOLDEN / 'class_schedules.npz')


def test_nearest_code_is_the_brute_force_one():
  rng = np.random.default_rng(0)
  latents = rng.normal(size=(4, 5, 3)).astype(np.float32)
  codebook = rng.normal(size=(7, 3)).astype(np.float32)
  distances = ((latents[..., None, :] - codebook) ** 2).sum(-1)
  codes = quantization.nearest_code(latents, codebook)
  assert codes.dtype == jnp.int32
  np.testing.assert_array_equal(codes, distances.argmin(-1))
  affinity = quantization.code_affinity(latents, codebook)
  shift = affinity + distances  # |z|^2, the same for all codes
  np.testing.assert_allclose(shift, shift[..., :1].repeat(7, -1), rtol=1e-4)


def test_cosine_lookup_ignores_length():
  codebook = quantization.l2_normalize(jnp.array([[3.0, 0.0], [0.0, 0.1]]))
  latents = quantization.l2_normalize(jnp.array([[0.3, 0.2], [1.0, 9.0]]))
  np.testing.assert_array_equal(
    quantization.nearest_code(latents, codebook), [0, 1]
  )


def test_l2_normalize_is_finite_at_zero():
  gradient = jax.grad(lambda x: quantization.l2_normalize(x).sum())
  assert jnp.isfinite(gradient(jnp.zeros(3))).all()
  np.testing.assert_array_equal(quantization.l2_normalize(jnp.zeros(3)), 0)


def test_straight_through_passes_the_gradient_to_the_latents_alone():
  latents, quantized = jnp.array([0.2, -0.4]), jnp.array([1.0, -1.0])
  value, pullback = jax.vjp(quantization.straight_through, latents, quantized)
  np.testing.assert_array_equal(value, quantized)
  to_latents, to_quantized = pullback(jnp.array([3.0, 5.0]))
  np.testing.assert_array_equal(to_latents, [3, 5])
  np.testing.assert_array_equal(to_quantized, 0)


def test_vq_loss_moves_codes_and_latents_by_their_weights():
  latents, quantized = jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 4.0]])

  def loss(latents, quantized):
    return quantization.vq_loss(
      latents, quantized, codebook_weight=2.0, commitment_weight=0.5
    )

  (value, metrics), (to_latents, to_quantized) = jax.value_and_grad(
    loss, argnums=(0, 1), has_aux=True
  )(latents, quantized)
  assert metrics['codebook'] == metrics['commitment'] == 2.5
  assert value == 2.5 * 2.5
  np.testing.assert_allclose(to_latents, 0.5 * (latents - quantized))
  np.testing.assert_allclose(to_quantized, 2.0 * (quantized - latents))


def test_lfq_loss_is_least_for_certain_and_diverse_bits():
  codes = quantization.codes_to_bits(8, 3)
  diverse, _ = quantization.lfq_loss(codes)
  equal, terms = quantization.lfq_loss(jnp.ones((8, 3)))
  uncertain, _ = quantization.lfq_loss(0.01 * codes)
  np.testing.assert_allclose(diverse, -0.02 * np.log(8), rtol=1e-5)
  np.testing.assert_allclose(equal, 0, atol=1e-6)
  assert uncertain > diverse
  assert set(terms) == {'commitment', 'sample_entropy', 'average_entropy'}


def test_lfq_loss_without_entropy_is_the_commitment():
  loss, terms = quantization.lfq_loss(
    jnp.array([[0.5, -3.0]]), commitment_weight=2.0, entropy_weight=0
  )
  assert set(terms) == {'commitment'}
  np.testing.assert_allclose(loss, 2 * (0.25 + 4) / 2)


def test_code_entropies_of_known_distributions():
  affinity = jnp.log(jnp.array([[0.5, 0.5, 1e-9], [1e-9, 1e-9, 1.0]]))
  sample, average = quantization.code_entropies(affinity, temperature=1.0)
  np.testing.assert_allclose(sample, np.log(2) / 2, rtol=1e-5)
  expected = -(0.5 * np.log(0.25) + 0.5 * np.log(0.5))
  np.testing.assert_allclose(average, expected, rtol=1e-5)


def test_code_entropies_are_the_official_ones():
  entropies = quantization.code_entropies(
    SCHEDULES['ent_affinity'], temperature=0.01
  )
  official = [
    SCHEDULES['maskbit_per_sample_entropy'],
    SCHEDULES['maskbit_avg_entropy'],
  ]
  np.testing.assert_allclose(entropies, official, rtol=2e-6)


def test_zero_has_bit_zero():
  latents = jnp.array([[-0.1, 0.0, 0.1]])
  np.testing.assert_array_equal(quantization.sign_bits(latents), [[-1, -1, 1]])
  np.testing.assert_array_equal(quantization.bits_to_tokens(latents), [[4]])


@pytest.mark.parametrize('sizes', [(10, 1), (10, 2), (12, 3), (18, 2)])
def test_tokens_split_and_merge(sizes):
  num_bits, num_groups = sizes
  tokens = np.random.default_rng(num_bits).integers(0, 2**num_bits, (3, 4))
  groups = quantization.split_tokens(
    jnp.asarray(tokens), num_bits=num_bits, num_groups=num_groups
  )
  e = num_bits // num_groups
  np.testing.assert_array_equal(groups[..., 0], tokens % 2**e)
  np.testing.assert_array_equal(groups[..., -1], tokens // 2 ** (num_bits - e))
  merged = quantization.merge_tokens(groups, num_bits=num_bits)
  np.testing.assert_array_equal(merged, tokens)
  official = SCHEDULES[f'maskbit_split_{num_bits}_{num_groups}']
  np.testing.assert_array_equal(
    quantization.split_tokens(
      SCHEDULES[f'factor_tokens_{num_bits}_{num_groups}'],
      num_bits=num_bits,
      num_groups=num_groups,
    ),
    official,
  )


@pytest.mark.parametrize('num_groups', [1, 2, 3])
def test_lookup_free_table_spells_the_latent_signs(num_groups):
  latents = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
  table = quantization.lookup_free_table(6, num_groups)
  assert table.shape == (num_groups, 2 ** (6 // num_groups), 6)
  tokens = quantization.bits_to_tokens(latents, num_groups)
  embedded = sum(table[g][tokens[:, g]] for g in range(num_groups))
  np.testing.assert_array_equal(embedded, np.sign(latents))
  np.testing.assert_array_equal(
    quantization.split_tokens(
      quantization.bits_to_tokens(latents)[:, 0],
      num_bits=6,
      num_groups=num_groups,
    ),
    tokens,
  )


def test_codes_to_bits_counts_low_bit_first():
  np.testing.assert_array_equal(
    quantization.codes_to_bits(4, 2), [[-1, -1], [1, -1], [-1, 1], [1, 1]]
  )


def test_uneven_groups_are_refused():
  with pytest.raises(ValueError, match='10 bits do not split into 3 groups'):
    quantization.lookup_free_table(10, 3)


def test_entropy_loss_wants_certain_positions_and_all_codes():
  loss = lambda affinity, **options: quantization.entropy_loss(
    affinity, temperature=0.01, **options
  )
  every_code = jnp.eye(4)
  np.testing.assert_allclose(loss(every_code), -np.log(4), rtol=1e-3)
  one_code = jnp.tile(every_code[:1], (4, 1))
  np.testing.assert_allclose(loss(one_code), 0, atol=1e-4)
  uncertain = jnp.zeros((4, 4))
  np.testing.assert_allclose(loss(uncertain), 0, atol=1e-4)
  # The arg max names one code for all, at the price of log V nats each.
  hard = loss(uncertain, assignment='argmax')
  np.testing.assert_allclose(hard, np.log(4), rtol=1e-3)


def test_unknown_assignments_are_refused():
  with pytest.raises(ValueError, match=r"'hard' is unknown.*argmax"):
    quantization.entropy_loss(jnp.eye(2), temperature=1, assignment='hard')
