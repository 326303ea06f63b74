"""The source: what index i holds, whoever asks and in whatever order."""

import numpy as np
import pytest

from softdimo_jax.data import shapes
from softdimo_jax.data.batches import gathered_batches
from softdimo_jax.data.shapes import ShapesSource, World


def test_examples():
  source = ShapesSource(seed=1, num_examples=50)
  assert len(source) == 50
  example = source[7]
  assert example['image'].shape == (32, 32, 3)
  assert example['image'].dtype == np.float32
  assert example['prompt_ids'].dtype == np.int32
  scene = source.scene(7)
  np.testing.assert_array_equal(
    example['image'], shapes.render(source.world, [scene])[0]
  )
  assert shapes.untokenize(example['prompt_ids']) == scene.statement.text


def test_an_index_holds_the_same_scene_whoever_asks():
  first, second = ShapesSource(seed=2), ShapesSource(seed=2, num_examples=99)
  indices = np.array([5, 0, 98, 5])
  batch = first.gather(indices)
  pairs = [source.gather_pairs(indices) for source in (first, second)]
  for name, value in pairs[0].items():
    np.testing.assert_array_equal(value, pairs[1][name])
  for place, index in enumerate(indices):
    for name, value in second[index].items():
      np.testing.assert_array_equal(batch[name][place], value)


def test_seeds_and_indices_differ():
  scenes = {
    ShapesSource(seed=seed).scene(index)
    for seed in range(3)
    for index in range(30)
  }
  assert len(scenes) > 80


def test_pairs_hold_the_perturbed_scene():
  source = ShapesSource(seed=3)
  indices = np.arange(20)
  pairs = source.gather_pairs(indices)
  for name, value in source.gather(indices).items():
    np.testing.assert_array_equal(pairs[name], value)
  assert (pairs['wrong_prompt_ids'] != pairs['prompt_ids']).any(1).all()
  assert (pairs['wrong_image'] != pairs['image']).any((1, 2, 3)).all()


def test_batches_resume():
  source = ShapesSource(world=World(grid=5), num_examples=12)
  make = lambda: gathered_batches(len(source), source.gather, 8, seed=0)
  iterator = make()
  assert next(iterator)['image'].shape == (8, 40, 40, 3)
  state = iterator.get_state()
  expected = next(iterator)
  resumed = make()
  resumed.set_state(state)
  for name, value in next(resumed).items():
    np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize('index', [-1, 10])
def test_indices_outside_are_refused(index):
  with pytest.raises(IndexError, match=f'scene {index} of 10'):
    ShapesSource(num_examples=10)[index]
