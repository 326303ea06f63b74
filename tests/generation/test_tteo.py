"""Test-time optimisation of a small MaskGen on a small CLIP."""

import subprocess
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from softdimo_jax import families
from softdimo_jax.families.start import Start
from softdimo_jax.generation.tteo import TTEO
from softdimo_jax.method import sampling
from softdimo_jax.networks.rewards.clip import CLIP, CLIPImageTower
from softdimo_jax.ops.preprocess import ImageTransform
from softdimo_jax.rewards import scoring
from tests.processes import environment

LENGTH, CODES, PROMPTS = 4, 6, 2
TOWER = {
  'width': 8, 'depth': 2, 'num_heads': 2, 'mlp_width': 8, 'projection_width': 8,
}  # fmt: skip
INIT = ml_collections.FrozenConfigDict(
  {
    'mask_ratio': 0.5,
    'max_mask_ratio': None,
    'noise_scale': 0.5,
    'noise_unit': 'absolute',
  }
)
START = Start.in_sampling(INIT)
CAPTIONS = np.array([[1, 2, 8, 0], [3, 4, 5, 8]])


class System:
  """A family, a reward, and random parameters of all of it."""

  def __init__(self, dtype=jnp.float32):
    self.family = families.build(
      ml_collections.ConfigDict({
        'generator': {
          'name': 'maskgen', 'vocab_size': CODES, 'num_classes': 0,
          'length': LENGTH, 'width': 8, 'depth': 2, 'num_heads': 2,
          'mlp_width': 8, 'text_width': 8, 'micro_width': 0, 'dtype': dtype,
        },
        'tokenizer': {
          'name': 'patch_vq', 'patch': 4, 'hidden': 8, 'codebook_size': CODES,
          'embedding_dim': 3, 'dtype': dtype,
        },
        'text': {'vocab_size': 9, 'length': 4, 'dtype': dtype, **TOWER},
      })
    )  # fmt: skip
    image = CLIPImageTower(resolution=8, patch=4, dtype=dtype, **TOWER)
    clip = CLIP(image, self.family.text)
    self.rewards = {
      'clip': scoring.CLIPReward(module=clip, transform=ImageTransform(size=8))
    }
    draw = self._draw
    self.params = draw(0, self.family.init)
    self.tokenizer = draw(1, self.family.init_tokenizer)
    self.clip = draw(
      2,
      lambda key: clip.init(key, jnp.zeros((1, 8, 8, 3)), CAPTIONS[:1])[
        'params'
      ],
    )
    self.text = self.family.encode_text(self.clip['text'], CAPTIONS)

  def _draw(self, seed, init):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
      lambda leaf: jnp.array(0.4 * rng.normal(size=leaf.shape), leaf.dtype),
      jax.eval_shape(init, jax.random.key(0)),
    )

  def run(self, *, prompts=PROMPTS, seed=0, **options):
    optimizer = TTEO(
      family=self.family,
      rewards=self.rewards,
      terms={'clip': 5.0},
      init=INIT,
      **options,
    )
    return optimizer(
      self.params,
      self.tokenizer,
      {'clip': self.clip},
      sampling.image_keys(seed, prompts),
      jax.tree.map(lambda x: np.asarray(x)[:prompts], self.text),
      CAPTIONS[:prompts],
    )


@pytest.fixture(scope='module')
def system():
  return System()


def test_best_of_all_starts_and_iterates(system):
  best = system.run(starts=3, steps=2)
  assert best.images.shape == best.first.shape == (PROMPTS, 8, 8, 3)
  assert best.curves.shape == (PROMPTS, 3, 3)
  np.testing.assert_array_equal(best.scores, best.curves.max((1, 2)))
  assert (best.scores >= best.curves[:, :, 0].max(1)).all()
  # The image is the one that has the score.
  score = system.rewards['clip'].score(system.clip, best.images, CAPTIONS)
  np.testing.assert_allclose(5 * score, best.scores, rtol=1e-4)


def test_without_steps_it_is_best_of_n(system):
  best = system.run(starts=5, steps=0)
  assert best.curves.shape == (PROMPTS, 5, 1)
  np.testing.assert_array_equal(best.scores, best.curves[..., 0].max(1))
  first = system.rewards['clip'].score(system.clip, best.first, CAPTIONS)
  np.testing.assert_allclose(5 * first, best.curves[:, 0, 0], rtol=1e-4)


def test_batches_cover_every_start(system):
  best = system.run(starts=5, steps=1, batch_size=4)
  assert best.curves.shape == (PROMPTS, 5, 2)
  assert len(np.unique(best.curves[..., 0])) > 5


def test_the_best_start_may_be_in_any_batch(system):
  best = system.run(starts=5, steps=0, batch_size=2)
  winners = best.curves[..., 0].argmax(1)
  assert (winners > 1).any()  # behind the first batch of its prompt
  np.testing.assert_array_equal(best.scores, best.curves.max((1, 2)))
  score = system.rewards['clip'].score(system.clip, best.images, CAPTIONS)
  np.testing.assert_allclose(5 * score, best.scores, rtol=1e-4)


def test_starts_do_not_depend_on_their_batch_or_number(system):
  best = system.run(starts=5, steps=1, batch_size=4)
  more = system.run(starts=7, steps=1, batch_size=14)
  near = {'rtol': 1e-4, 'atol': 1e-5}
  np.testing.assert_allclose(more.curves[:, :5], best.curves, **near)
  np.testing.assert_allclose(more.first, best.first, **near)
  one = system.run(prompts=1, starts=5, steps=1)
  np.testing.assert_allclose(one.images, best.images[:1], **near)


def split_starts(path):
  """Images and curves of 2 x 6 starts, computed by all devices together."""
  fetched, get = [], jax.device_get
  system = System()
  with mock.patch.object(
    jax, 'device_get', lambda x: fetched.append(x) or get(x)
  ):
    best = system.run(starts=6, steps=2, batch_size=8)
  devices = jax.local_device_count()
  assert len(fetched) == 2
  for leaf in jax.tree.leaves(fetched):
    shards = [shard.data.shape[0] for shard in leaf.addressable_shards]
    assert shards == [8 // devices] * devices, shards
  np.savez(path, **vars(best))


def test_all_devices_optimise_a_part_of_the_starts(tmp_path):
  code = 'import sys; from tests.generation import test_tteo as t; '
  for devices in (1, 4):
    subprocess.run(
      [
        sys.executable,
        '-c',
        f'{code}t.split_starts(sys.argv[1])',
        str(tmp_path / f'{devices}.npz'),
      ],
      env=environment(devices),
      check=True,
    )
  one, four = (np.load(tmp_path / f'{devices}.npz') for devices in (1, 4))
  assert set(one) == {'images', 'scores', 'first', 'curves'}
  for name in one:
    np.testing.assert_allclose(four[name], one[name], rtol=1e-4, atol=1e-5)


def test_gradient_of_the_soft_path_agrees_with_finite_differences():
  with jax.enable_x64(True), mock.patch.object(jnp, 'float32', jnp.float64):
    system = System(jnp.float64)
    family = system.family
    embeddings = family.initial_embeddings(
      system.params, jax.random.key(0), PROMPTS, START
    ).astype(jnp.float64)

    @jax.jit
    def score(x):
      logits = family.one_step(system.params, x, system.text, START).logits
      images = family.decode_soft(system.tokenizer, jax.nn.softmax(logits))
      return system.rewards['clip'].score(system.clip, images, CAPTIONS).sum()

    gradient = jax.grad(score)(embeddings)
    assert gradient.dtype == jnp.float64
    # JAX's attention keeps its softmax in float32, so not too small a step.
    step = 1e-3
    for seed in range(3):
      direction = jax.random.normal(jax.random.key(seed), embeddings.shape)
      difference = score(embeddings + step * direction) - score(
        embeddings - step * direction
      )
      np.testing.assert_allclose(
        difference / (2 * step), jnp.vdot(gradient, direction), rtol=1e-4
      )
