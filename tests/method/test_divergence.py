import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method import divergence

# Three positions of one sample, V = 4; the middle one is not masked.
TEACHER = jnp.array([[2, 0.5, -1, 0], [0.1, 0.2, 0.3, 0.4], [1, -1, 0.5, -0.5]])
AUXILIARY = jnp.array(
  [[1, 1, -0.5, 0.2], [0.4, 0.3, 0.2, 0.1], [0, 0, 1.5, -2]]
)
MASK = jnp.array([True, False, True]).reshape(1, 3, 1)
# beta: gradient at the two masked positions, official curve `loss_dm`;
# computed with the official formulas in torch.
GOLDEN = {
  0.0: (
    [-0.335913, 0.215742, 0.048139, 0.072032],
    [-0.357781, 0.082252, 0.368629, -0.093100],
    0.223108,
  ),
  1.0: (
    [-0.332383, 0.228898, 0.051074, 0.052411],
    [-0.248846, 0.053405, 0.239345, -0.043904],
    0.146109,
  ),
  -0.2: (
    [-0.336619, 0.213111, 0.047552, 0.075956],
    [-0.379569, 0.088022, 0.394486, -0.102939],
    0.242398,
  ),
  0.5: (
    [-0.334148, 0.222320, 0.049606, 0.062221],
    [-0.303314, 0.067829, 0.303987, -0.068502],
    0.180557,
  ),
}


def draw(seed, shape, scale=2.0):
  draws = np.random.default_rng(seed).normal(size=shape, scale=scale)
  return jnp.array(draws, jnp.float32)


def forward_kl(teacher, auxiliary):
  """KL(p_phi || p_psi) summed over rows, written out."""
  p, q = jax.nn.softmax(teacher), jax.nn.softmax(auxiliary)
  return (p * (jnp.log(p) - jnp.log(q))).sum()


def reverse_kl(teacher, auxiliary):
  return forward_kl(auxiliary, teacher)


@pytest.mark.parametrize('beta', GOLDEN)
def test_golden_table(beta):
  first, last, curve = GOLDEN[beta]
  gradient = divergence.logit_gradient(TEACHER, AUXILIARY, beta=beta)
  np.testing.assert_allclose(gradient[0], first, atol=1e-6)
  np.testing.assert_allclose(gradient[2], last, atol=1e-6)
  _, metrics = inject(gradient.reshape(1, 3, 1, 4), MASK)
  np.testing.assert_allclose(metrics['dimo/loss'], curve, atol=1e-6)
  expected = np.abs([first, last]).mean()
  np.testing.assert_allclose(metrics['dimo/discrepancy'], expected, atol=1e-6)


@pytest.mark.parametrize(
  ('label_smoothing', 'expected'), [(0.0, 2.186323), (0.1, 2.146322)]
)
def test_golden_cross_entropy(label_smoothing, expected):
  loss = divergence.masked_cross_entropy(
    AUXILIARY[None, :, None],
    jnp.array([2, 1, 0]).reshape(1, 3, 1),
    MASK,
    label_smoothing=label_smoothing,
  )
  np.testing.assert_allclose(loss, expected, atol=1e-6)


@pytest.mark.parametrize('beta', [0.0, 1.0, 0.5, -0.2, 0.3])
def test_gradient_is_that_of_the_closed_form(beta):
  teacher, auxiliary = draw(0, (5, 3, 2, 7)), draw(1, (5, 3, 2, 7))

  def jeffrey(auxiliary):
    return (1 - beta) * forward_kl(teacher, auxiliary) + beta * reverse_kl(
      teacher, auxiliary
    )

  gradient = divergence.logit_gradient(teacher, auxiliary, beta=beta)
  expected = jax.grad(jeffrey)(auxiliary)
  np.testing.assert_allclose(gradient, expected, atol=1e-6)
  np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-6)


def test_a_step_against_the_gradient_brings_the_auxiliary_closer():
  teacher, auxiliary = draw(0, (6, 7)), draw(1, (6, 7))
  for beta, distance in ((0.0, forward_kl), (1.0, reverse_kl)):
    gradient = divergence.logit_gradient(teacher, auxiliary, beta=beta)
    after = auxiliary - 0.1 * gradient
    assert distance(teacher, after) < distance(teacher, auxiliary)


def test_equal_models_and_shifted_logits_have_no_gradient():
  logits = draw(0, (4, 9))
  for beta in (0.0, 1.0, -0.2):
    gradient = divergence.logit_gradient(logits + 3.0, logits, beta=beta)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_gradient_of_half_precision_logits_is_float32():
  teacher, auxiliary = (draw(s, (4, 9)).astype(jnp.bfloat16) for s in (0, 1))
  gradient = divergence.logit_gradient(teacher, auxiliary, beta=0.3)
  assert gradient.dtype == jnp.float32
  np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-6)


@pytest.mark.parametrize('beta', [0.0, 0.5])
def test_confident_models_give_finite_gradients(beta):
  """RKL takes a logarithm of probabilities that underflow."""
  teacher = jnp.array([[0.0, 500.0, -500.0]])
  auxiliary = jnp.array([[500.0, 0.0, -500.0]])
  gradient = divergence.logit_gradient(teacher, auxiliary, beta=beta)
  assert np.isfinite(gradient).all()


@pytest.fixture
def problem():
  """Student logits, teacher and auxiliary logits, mask with 1 and 4 of 6."""
  student, teacher, auxiliary = (draw(s, (2, 3, 2, 5)) for s in range(3))
  mask = jnp.array([[1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 1]], bool)
  return student, teacher, auxiliary, mask.reshape(2, 3, 2)


def inject(target, mask, **options):
  """(gradient with respect to the student's logits, metrics)."""
  weight = divergence.entry_weights(mask, **options)
  gradient, *entries = divergence.injected(target, weight)
  return gradient, divergence.dimo_metrics(*entries, weight)


def test_g_over_b_is_injected_on_masked_entries_only(problem):
  _, teacher, auxiliary, mask = problem
  target = divergence.logit_gradient(teacher, auxiliary)
  gradient, _ = inject(target, mask)
  np.testing.assert_allclose(gradient[mask], target[mask] / 2, rtol=1e-6)
  np.testing.assert_array_equal(gradient[~mask], 0)
  broken = jnp.where(mask[..., None], target, jnp.nan)
  np.testing.assert_array_equal(inject(broken, mask)[0], gradient)


def test_masked_mean_divides_by_each_samples_count(problem):
  _, teacher, auxiliary, mask = problem
  target = divergence.logit_gradient(teacher, auxiliary)
  summed, _ = inject(target, mask, reduction='sum')
  mean, metrics = inject(target, mask, reduction='masked_mean')
  np.testing.assert_allclose(mean[0], summed[0] / 1, rtol=1e-6)
  np.testing.assert_allclose(mean[1], summed[1] / 4, rtol=1e-6)
  curve = 0.5 * (target[mask] ** 2).sum(-1)  # first entry: sample 0
  curve = (curve[0] + curve[1:].mean()) / 2
  np.testing.assert_allclose(metrics['dimo/loss'], curve, rtol=1e-6)


def test_masked_mean_of_a_sample_without_masks_is_zero():
  mask = jnp.array([False, True]).reshape(2, 1, 1)
  gradient, metrics = inject(
    jnp.ones((2, 1, 1, 3)), mask, reduction='masked_mean'
  )
  np.testing.assert_array_equal(gradient[:, 0, 0, 0], [0, 0.5])
  np.testing.assert_allclose(metrics['dimo/loss'], 0.75)
  np.testing.assert_allclose(metrics['dimo/discrepancy'], 1)


def test_the_gradient_is_a_constant(problem):
  _, teacher, auxiliary, _ = problem
  to_teacher, to_auxiliary = jax.grad(
    lambda *logits: (divergence.logit_gradient(*logits, beta=0.3) ** 2).sum(),
    argnums=(0, 1),
  )(teacher, auxiliary)
  np.testing.assert_array_equal(to_teacher, 0)
  np.testing.assert_array_equal(to_auxiliary, 0)


def test_guidance_is_linear_in_the_scale():
  conditional, unconditional = draw(0, (2, 3)), draw(1, (2, 3))
  guide = divergence.guide
  np.testing.assert_allclose(
    guide(conditional, unconditional, 1.0), conditional, rtol=1e-6, atol=1e-6
  )
  np.testing.assert_array_equal(
    guide(conditional, unconditional, 0.0), unconditional
  )
  np.testing.assert_allclose(
    guide(conditional, unconditional, 2.0),
    2 * conditional - unconditional,
    rtol=1e-5,
  )


def test_cross_entropy_reads_masked_entries_only(problem):
  student, _, _, mask = problem
  tokens = jax.random.randint(jax.random.key(5), mask.shape, 0, 5)
  gradient = jax.grad(
    lambda z: divergence.masked_cross_entropy(
      z, tokens, mask, label_smoothing=0.1
    )
  )(student)
  np.testing.assert_array_equal(gradient[~mask], 0)
  # Mean over all five masked entries of the batch, smoothed one-hot target.
  target = 0.9 * jax.nn.one_hot(tokens, 5) + 0.1 / 5
  expected = (jax.nn.softmax(student) - target)[mask] / 5
  np.testing.assert_allclose(gradient[mask], expected, atol=1e-6)


def test_cross_entropy_without_masked_entries_is_zero():
  loss = divergence.masked_cross_entropy(
    jnp.zeros((1, 2, 1, 3)),
    jnp.zeros((1, 2, 1), jnp.int32),
    jnp.zeros((1, 2, 1), bool),
  )
  assert loss == 0


def test_unknown_reduction_is_refused(problem):
  with pytest.raises(ValueError, match=r"'mean' is unknown.*masked_mean"):
    divergence.entry_weights(problem[-1], reduction='mean')
