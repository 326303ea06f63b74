"""The judge is right on every real picture and on every wrong one."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from softdimo_jax.data import shapes
from softdimo_jax.data.shapes import (
  BACKGROUND,
  Item,
  Scene,
  ShapesSource,
  World,
)
from softdimo_jax.evaluation.benchmarks import geneval_rules
from softdimo_jax.evaluation.benchmarks.scenes_judge import ShapesJudge

WORLDS = {
  'default': World(),
  'large': World(grid=6, cell=16),
  'odd': World(grid=5, cell=10, offsets=((0, 0), (1 / 16, -1 / 32))),
}
RED_CIRCLE = shapes.record_of(shapes.parse('a red circle'))


def disturbances(cell):
  rng = np.random.default_rng(0)
  noise = lambda s: lambda x: x + s * rng.standard_normal(x.shape)
  blur = lambda s: lambda x: gaussian_filter(x, (0, s * cell, s * cell, 0))
  return {
    'none': lambda x: x,
    'uint8': lambda x: np.round(255 * x) / 255,
    'noise': noise(0.05),
    'more_noise': noise(0.1),
    'clipped': lambda x: np.clip(noise(0.1)(x), 0, 1),
    'blur': blur(1 / 16),
    'more_blur': blur(0.1),
    'darker': lambda x: 0.96 * x,
  }


def examples(world, count, seed=0):
  source = ShapesSource(world=world, seed=seed, num_examples=count)
  indices = range(count)
  batch = source.gather_pairs(indices)
  records = [shapes.record_of(source.scene(i).statement) for i in indices]
  captions = map(shapes.untokenize, batch['wrong_prompt_ids'])
  others = [shapes.record_of(shapes.parse(text)) for text in captions]
  return batch['image'], batch['wrong_image'], records, others


def draw(*items, world=WORLDS['default']):
  statement = shapes.parse('a circle')
  return shapes.render(world, [Scene(statement, items)])


def test_thousands_of_scenes():
  judge = ShapesJudge()
  right, wrong, records, others = examples(World(), 4000)
  real = judge.judge(right, records)
  assert real.correct.all() and real.exact.all()
  assert not real.unrecognised.any()
  asked = [sum(e['count'] for e in record['include']) for record in records]
  np.testing.assert_array_equal(real.occupied, asked)
  perturbed = judge.judge(wrong, records)
  assert not perturbed.correct.any() and not perturbed.exact.any()
  # The wrong pictures are right for their own captions.
  assert judge.judge(wrong, others).exact.all()


@pytest.mark.parametrize('world', WORLDS)
@pytest.mark.parametrize('disturbance', disturbances(8))
def test_mild_damage_changes_no_verdict(world, disturbance):
  world = WORLDS[world]
  damage = disturbances(world.cell)[disturbance]
  judge = ShapesJudge(world=world)
  right, wrong, records, others = examples(world, 150, seed=1)
  assert judge.judge(damage(right), records).exact.all()
  assert not judge.judge(damage(wrong), records).correct.any()
  assert judge.judge(damage(wrong), others).exact.all()


def test_detections_are_the_objects():
  judge = ShapesJudge()
  items = (Item('cross', 'blue', 1, 3, 0), Item('square', 'cyan', 2, 0, 1))
  (found,) = judge.find(draw(*items))
  assert found.shapes == ('cross', 'square')
  assert found.colors == ('blue', 'cyan')
  np.testing.assert_allclose(found.boxes[:, 4], 1, atol=1e-4)
  for box, item in zip(found.boxes, items, strict=True):
    shift = 8 * World().offsets[item.offset][0]
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    expected = 8 * np.array([item.column, item.row]) + 4 + shift
    np.testing.assert_allclose(centre, expected, atol=0.51)
    assert 5 <= box[2] - box[0] <= 7 and 5 <= box[3] - box[1] <= 7


def test_every_object_is_recognised_at_every_place():
  world = World()
  for shape in shapes.SHAPES:
    for color in shapes.COLORS:
      items = [
        Item(shape, color, row, column, (row + column) % 2)
        for row in range(4)
        for column in range(4)
      ]
      (found,) = ShapesJudge(world=world).find(draw(*items))
      assert found.shapes == (shape,) * 16
      assert found.colors == (color,) * 16


def test_an_object_that_nobody_asked_for_is_not_exact():
  circle, cross = Item('circle', 'red', 0, 0, 0), Item('cross', 'blue', 2, 2, 0)
  verdicts = ShapesJudge().judge(draw(circle, cross), [RED_CIRCLE])
  assert verdicts.correct.all() and not verdicts.exact.any()
  assert verdicts.occupied == 2 and verdicts.unrecognised == 0


@pytest.mark.parametrize('kind', ['blot', 'grey', 'mixture', 'half'])
def test_what_is_no_object_is_not_exact(kind):
  (image,) = draw(Item('circle', 'red', 0, 0, 0))
  cell = image[16:24, 16:24]
  patches = World().patches()
  if kind == 'blot':
    cell[3:5, 3:5] = 0.2
  elif kind == 'grey':
    cell[:] = 0.8
  elif kind == 'mixture':
    ids = [World().patch_id(color, 'square', 0) for color in ('red', 'cyan')]
    cell[:] = patches[ids].mean(0)
  else:
    cell[:4] = patches[World().patch_id('green', 'square', 0)][:4]
  verdicts = ShapesJudge().judge(image[None], [RED_CIRCLE])
  assert verdicts.correct.all() and not verdicts.exact.any()
  assert verdicts.unrecognised == 1


@pytest.mark.parametrize('level', [BACKGROUND, 1.0])
def test_an_empty_picture_shows_nothing(level):
  image = np.full((1, 32, 32, 3), level, np.float32)
  (found,) = ShapesJudge().find(image)
  assert found.occupied == 0 and found.boxes.shape == (0, 5)
  assert not ShapesJudge().judge(image, [RED_CIRCLE]).correct.any()


def test_noise_is_unrecognised():
  images = np.random.default_rng(0).random((50, 32, 32, 3))
  records = shapes.evaluation_prompts(per_category=50)[::6]
  verdicts = ShapesJudge().judge(images, records)
  assert not verdicts.correct.any()
  np.testing.assert_array_equal(verdicts.unrecognised, 16)


def test_accepted_objects_count_in_every_category():
  blurred = gaussian_filter(draw(Item('cross', 'red', 1, 1, 0)), (0, 1, 1, 0))
  (found,) = ShapesJudge().find(blurred)
  assert geneval_rules.OFFICIAL.counting_threshold < found.boxes[0, 4] < 0.999


def test_scores():
  records = shapes.evaluation_prompts(per_category=24)
  rng = np.random.default_rng(0)
  world = World()
  scenes = [
    shapes.realise(world, rng, shapes.parse(record['prompt']))
    for record in records
  ]
  images = shapes.render(world, scenes)
  judge = ShapesJudge()
  scores = judge.score(images, records)
  assert list(scores)[:6] == list(geneval_rules.TAGS)
  assert {scores[tag] for tag in geneval_rules.TAGS} == {1.0}
  assert scores['overall'] == scores['exact'] == 1
  assert scores['overall_error'] == scores['exact_error'] == 0
  assert scores['occupied'] == pytest.approx(
    np.mean([len(scene.items) for scene in scenes])
  )
  assert scores['unrecognised'] == 0 and scores['num_images'] == 144
  assert all(isinstance(value, int | float) for value in scores.values())
  # Half of every category is spoilt.
  images[::2] = BACKGROUND
  spoilt = judge.score(images, records)
  assert spoilt['overall'] == spoilt['exact'] == spoilt['counting'] == 0.5
  assert spoilt['exact_error'] == pytest.approx(0.5 / np.sqrt(144))


def test_one_object_more_lowers_exact_only():
  records = [RED_CIRCLE] * 2
  images = np.concatenate(
    [
      draw(Item('circle', 'red', 0, 0, 0)),
      draw(Item('circle', 'red', 0, 0, 0), Item('cross', 'red', 1, 0, 0)),
    ]
  )
  scores = ShapesJudge().score(images, records)
  assert scores['overall'] == 1 and scores['exact'] == 0.5


def test_pictures_that_cannot_be_judged():
  judge = ShapesJudge()
  with pytest.raises(ValueError, match=r'\[N, 32, 32, 3\]'):
    judge.find(np.zeros((1, 40, 40, 3)))
  with pytest.raises(ValueError, match='NaN'):
    judge.find(np.full((1, 32, 32, 3), np.nan))
  with pytest.raises(ValueError):
    judge.judge(draw(), [RED_CIRCLE] * 2)
  with pytest.raises(ValueError, match='pictures'):
    judge.score(np.zeros((0, 32, 32, 3)), [])


def test_thresholds_are_settings():
  blurred = gaussian_filter(draw(Item('cross', 'red', 1, 1, 0)), (0, 1, 1, 0))
  strict = dataclasses.replace(ShapesJudge(), residual=1e-3)
  (found,) = strict.find(blurred)
  assert found.shapes == () and found.unrecognised >= 1
