"""GenEval's rules against the official verdicts, and rule by rule."""

import numpy as np
import pytest

from softdimo_jax.evaluation.benchmarks import geneval_rules
from softdimo_jax.evaluation.benchmarks.geneval_rules import (
  Rules,
  judge,
  relations,
)
from softdimo_jax.parity import benchmarks, fixture
from tests.golden import parity

FIXTURE = fixture.load(parity.GOLDEN, 'geneval_rules')


def box(x0, y0, x1, y1, score=1.0):
  return [x0, y0, x1, y1, score]


def record(*include, tag='single_object', exclude=()):
  return {
    'tag': tag,
    'include': list(include),
    'exclude': list(exclude),
    'prompt': '',
  }


def entry(name, count=1, **more):
  return {'class': name, 'count': count, **more}


def no_colors(name, indices):
  raise AssertionError(f'nobody asked for the colour of {name}')


def verdict(asked, detections, colors=no_colors, **rules):
  boxes = {
    name: np.array(some, np.float32).reshape(-1, 5)
    for name, some in detections.items()
  }
  return judge(asked, boxes, colors, Rules(**rules))


class TestOfficialVerdicts:
  def test_all_arrays_agree(self):
    parity.check('geneval_rules')

  def test_the_same_detections_are_kept(self):
    assert len(FIXTURE.meta['cases']) == 120
    for case in FIXTURE.meta['cases']:
      ours = benchmarks.geneval_verdict(FIXTURE.config, case)
      kept = {
        name: np.float32(case['detections'][name])[indices].tolist()
        for name, indices in ours.kept.items()
      }
      assert kept == case['expected']['details']
      assert ours.correct == case['expected']['correct']
      expected = case['expected']['reason']
      assert len(ours.reasons) == len(expected.split('\n') if expected else ())


class TestKeep:
  def test_thresholds_are_exclusive_and_in_single_precision(self):
    boxes = np.array([box(0, 0, 1, 1, s) for s in (0.3, 0.31, 0.2)])
    assert geneval_rules.keep(boxes, 0.3).tolist() == [1]

  def test_best_first_and_of_equals_the_last_first(self):
    boxes = np.array([box(0, 0, 1, 1, s) for s in (0.5, 0.9, 0.5, 0.7)])
    assert geneval_rules.keep(boxes, 0.3).tolist() == [1, 3, 2, 0]

  def test_a_class_has_a_largest_number(self):
    boxes = np.array([box(i, 0, i + 1, 1) for i in range(20)])
    assert len(geneval_rules.keep(boxes, 0.3)) == 16
    assert len(geneval_rules.keep(boxes, 0.3, Rules(max_objects=3))) == 3

  def test_overlapping_weaker_ones_are_dropped_when_asked(self):
    boxes = np.array(
      [box(0, 0, 9, 9, 0.8), box(1, 0, 10, 9, 0.9), box(50, 0, 59, 9, 0.4)]
    )
    assert geneval_rules.keep(boxes, 0.3).tolist() == [1, 0, 2]
    rules = Rules(max_overlap=0.5)
    assert geneval_rules.keep(boxes, 0.3, rules).tolist() == [1, 2]

  def test_nothing_is_kept_of_nothing(self):
    assert geneval_rules.keep(np.zeros((0, 5)), 0.3).tolist() == []


class TestJudge:
  def test_other_objects_do_not_matter(self):
    boxes = {'dog': [box(0, 0, 1, 1, 0.4)] * 2, 'cat': [box(0, 0, 1, 1)]}
    assert verdict(record(entry('dog')), boxes).correct

  def test_counting_wants_the_number_with_certainty(self):
    asked = record(entry('dog', 2), tag='counting', exclude=[entry('dog', 3)])
    sure, unsure = box(0, 0, 1, 1, 0.95), box(0, 0, 1, 1, 0.9)
    assert verdict(asked, {'dog': [sure] * 2}).correct
    assert verdict(asked, {'dog': [sure] * 2 + [unsure]}).correct
    assert not verdict(asked, {'dog': [sure, unsure]}).correct
    assert not verdict(asked, {'dog': [sure] * 3}).correct

  def test_the_colour_of_the_best_detection_decides(self):
    boxes = {'dog': [box(0, 0, 1, 1, 0.5), box(0, 0, 1, 1, 0.8)]}
    colors = lambda name, indices: [('red', 'blue')[i] for i in indices]
    assert verdict(record(entry('dog', color='blue')), boxes, colors).correct
    wrong = verdict(record(entry('dog', color='red')), boxes, colors)
    assert wrong.reasons == ('dog: blue, must be red',)

  def test_all_counted_objects_need_the_colour(self):
    asked = record(entry('dog', 2, color='red'))
    boxes = {'dog': [box(0, 0, 1, 1)] * 2}
    one_red = lambda name, indices: ['red', 'blue']
    assert not verdict(asked, boxes, one_red).correct

  def test_all_pairs_need_the_relation(self):
    asked = record(
      entry('cat'), entry('dog', 2, position=['left of', 0]), tag='position'
    )
    cat, left = box(50, 0, 60, 10), box(0, 0, 10, 10)
    right = box(90, 0, 99, 10)
    assert verdict(asked, {'cat': [cat], 'dog': [left, left]}).correct
    assert not verdict(asked, {'cat': [cat], 'dog': [left, right]}).correct

  def test_a_target_that_does_not_match_is_no_target(self):
    asked = record(
      entry('cat', color='red'),
      entry('dog', position=['left of', 0]),
      tag='position',
    )
    boxes = {'cat': [box(50, 0, 60, 10)], 'dog': [box(0, 0, 10, 10)]}
    colors = lambda name, indices: ['blue']
    wrong = verdict(asked, boxes, colors)
    assert len(wrong.reasons) == 2
    assert wrong.reasons[1] == 'dog: no object to be left of'


class TestRelations:
  @pytest.mark.parametrize(
    ('move', 'expected'),
    [
      ((-20, 0), {'left of'}),
      ((20, 3), {'right of'}),
      ((0, -20), {'above'}),
      ((0, 20), {'below'}),
      ((20, 20), {'right of', 'below'}),
      ((1.9, 0), set()),  # Within a tenth of both widths.
      ((0, 0), set()),
    ],
  )
  def test_moved_boxes(self, move, expected):
    still = np.array([100, 100, 110, 110], np.float32)
    moved = still + np.tile(move, 2).astype(np.float32)
    assert relations(moved, still) == expected

  def test_the_official_margin_can_be_changed(self):
    a, b = np.array([0, 0, 10, 10]), np.array([5, 0, 15, 10])
    assert relations(a, b) == {'left of'}
    assert relations(a, b, margin=0.2) == set()


class TestCrop:
  IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)

  def test_borders_round_to_even(self):
    part = geneval_rules.crop(self.IMAGE, np.array([0.5, 1.5, 2.5, 3.4]))
    np.testing.assert_array_equal(part, self.IMAGE[2:3, 0:2])

  def test_outside_is_black(self):
    part = geneval_rules.crop(self.IMAGE, np.array([-1, -2, 3, 2]))
    assert part.shape == (4, 4, 3)
    np.testing.assert_array_equal(part[2:, 1:], self.IMAGE[:2, :3])
    assert not part[:2].any() and not part[:, 0].any()
    far = geneval_rules.crop(self.IMAGE, np.array([7, 9, 9, 12]))
    assert far.shape == (3, 2, 3) and not far.any()

  def test_behind_the_mask_is_grey(self):
    mask = np.zeros((4, 5), bool)
    mask[1, 1] = True
    part = geneval_rules.crop(self.IMAGE, np.array([0, 0, 5, 4]), mask)
    np.testing.assert_array_equal(part[1, 1], self.IMAGE[1, 1])
    assert (part[~mask] == 0x99).all()


@pytest.mark.parametrize(
  ('distance', 'expected'), [(9e-4, set()), (1.1e-3, {'left of'})]
)
def test_objects_within_a_thousandth_of_a_pixel_are_in_one_place(
  distance, expected
):
  point = np.array([5.0, 5, 5, 5])
  moved = point + np.array([distance, 0, distance, 0])
  assert geneval_rules.relations(point, moved) == expected


class TestSummary:
  def test_categories_weigh_the_same_however_many_images_they_have(self):
    tags = ['colors'] * 8 + ['single_object'] * 2
    correct = [True] * 2 + [False] * 6 + [True] * 2
    scores = geneval_rules.summarise(tags, correct)
    assert list(scores.categories.items()) == [
      ('single_object', 1.0),
      ('colors', 0.25),
    ]
    assert scores.overall == pytest.approx(0.625)
    assert scores.num_images == 10
    expected = np.sqrt(0.25 * 0.75 / 8) / 2
    assert scores.standard_error == pytest.approx(expected)

  def test_the_standard_error_is_that_of_repeated_draws(self):
    rng = np.random.default_rng(0)
    tags = ['colors'] * 30 + ['counting'] * 60
    chances = np.array([0.3] * 30 + [0.6] * 60)
    draws = [
      geneval_rules.summarise(tags, rng.random(90) < chances)
      for _ in range(2000)
    ]
    spread = np.std([scores.overall for scores in draws])
    mean_error = np.mean([scores.standard_error for scores in draws])
    assert mean_error == pytest.approx(spread, rel=0.06)

  @pytest.mark.parametrize(('tags', 'correct'), [([], []), (['a'], [1, 0])])
  def test_no_pictures(self, tags, correct):
    with pytest.raises(ValueError, match='pictures'):
      geneval_rules.summarise(tags, correct)
