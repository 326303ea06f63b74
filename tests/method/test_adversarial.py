import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method import adversarial

KINDS = pytest.mark.parametrize('kind', adversarial.ADVERSARIES)


def test_logistic_values():
  undecided = jnp.zeros(3)
  losses = adversarial.generator_losses(undecided)
  np.testing.assert_allclose(losses, np.full(3, math.log(2)), rtol=1e-6)
  loss, _ = adversarial.discriminator_loss(undecided, undecided)
  np.testing.assert_allclose(loss, 2 * math.log(2), rtol=1e-6)
  # -log sigmoid(x): the non-saturating form.
  logits = jnp.array([-3.0, 0.5, 2.0])
  np.testing.assert_allclose(
    adversarial.generator_losses(logits),
    -np.log(1 / (1 + np.exp(-logits))),
    rtol=1e-5,
  )


def test_hinge_values():
  fake = jnp.array([-3.0, 0.5])
  losses = adversarial.generator_losses(fake, kind='hinge')
  np.testing.assert_array_equal(losses, [3.0, -0.5])
  loss, _ = adversarial.discriminator_loss(
    jnp.array([0.5, 4.0]), fake, kind='hinge'
  )
  assert loss == (0.5 + 0.0) / 2 + (0.0 + 1.5) / 2


@KINDS
def test_generator_is_pushed_towards_real(kind):
  logits = jnp.array([-5.0, 0.0, 5.0])
  loss = lambda x: adversarial.generator_losses(x, kind=kind).mean()
  assert (jax.grad(loss)(logits) < 0).all()


def test_generator_learns_most_where_it_is_found_out():
  loss = lambda x: adversarial.generator_losses(x).mean()
  gradient = jax.grad(loss)(jnp.array([-8.0, 8.0]))
  np.testing.assert_allclose(gradient[0], -0.5, atol=1e-3)
  assert abs(gradient[1]) < 1e-3


@KINDS
def test_discriminator_is_pushed_to_tell_them_apart(kind):
  loss = lambda real, fake: adversarial.discriminator_loss(
    real, fake, kind=kind
  )[0]
  to_real, to_fake = jax.grad(loss, argnums=(0, 1))(
    jnp.array([-0.5, 0.5]), jnp.array([-0.5, 0.5])
  )
  assert (to_real < 0).all()
  assert (to_fake > 0).all()


def test_hinge_stops_at_its_margin():
  loss = lambda real, fake: adversarial.discriminator_loss(
    real, fake, kind='hinge'
  )[0]
  gradients = jax.grad(loss, argnums=(0, 1))(
    jnp.array([1.5]), jnp.array([-2.0])
  )
  np.testing.assert_array_equal(gradients, 0)


@KINDS
def test_accuracy(kind):
  accuracy = lambda real, fake: adversarial.discriminator_loss(
    jnp.array(real), jnp.array(fake), kind=kind
  )[1]['gan/discriminator_accuracy']
  assert accuracy([2.0, 3.0], [-1.0, -4.0]) == 1
  assert accuracy([-2.0, -3.0], [1.0, 4.0]) == 0
  assert accuracy([2.0, 3.0], [1.0, 4.0]) == 0.5


def test_unknown_kind_is_refused():
  logits = jnp.zeros(2)
  with pytest.raises(ValueError, match=r"'wgan' is unknown.*hinge"):
    adversarial.generator_losses(logits, kind='wgan')
  with pytest.raises(ValueError, match=r"'wgan' is unknown.*hinge"):
    adversarial.discriminator_loss(logits, logits, kind='wgan')


def test_r1_of_a_linear_score_is_half_its_squared_slope():
  weight = jax.random.normal(jax.random.key(0), (3, 4))
  real = jax.random.normal(jax.random.key(1), (5, 3, 4))
  score = lambda x: jnp.einsum('bld,ld->b', x, weight) + 7
  penalty = adversarial.r1_penalty(score, real)
  np.testing.assert_allclose(penalty, 0.5 * (weight**2).sum(), rtol=1e-5)


def test_r1_averages_over_samples_and_trains_the_score():
  real = jnp.array([1.0, 3.0]).reshape(2, 1, 1)
  # d/dx (a x^2 / 2) = a x, so the penalty is a^2 (1 + 9) / 4.
  penalty = lambda a: adversarial.r1_penalty(
    lambda x: a * (x**2).sum((1, 2)) / 2, real
  )
  np.testing.assert_allclose(penalty(2.0), 10, rtol=1e-6)
  np.testing.assert_allclose(jax.grad(penalty)(2.0), 10, rtol=1e-6)
