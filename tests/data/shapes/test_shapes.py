"""Scenes: true statements, one change at a time, and always the same ones."""

import collections
import dataclasses

import numpy as np
import pytest

from softdimo_jax.data import shapes
from softdimo_jax.data.shapes import Item, Phrase, Scene, Statement, World
from softdimo_jax.errors import UserError

WORLD = World()


def scenes(count, kind=None, world=WORLD):
  rng = np.random.default_rng(0)
  return [shapes.draw(world, rng, kind) for _ in range(count)]


def kinds_of(items):
  """How often every (shape, colour) is there."""
  return collections.Counter((item.shape, item.color) for item in items)


def places_of(items):
  return {(item.row, item.column) for item in items}


def relates(first, second, relation):
  """Whether the relation holds, seen from the cells."""
  return {
    'left of': first.row == second.row and first.column < second.column,
    'right of': first.row == second.row and first.column > second.column,
    'above': first.column == second.column and first.row < second.row,
    'below': first.column == second.column and first.row > second.row,
  }[relation]


def is_true(scene):
  """Whether a statement holds of the items, and they are as promised."""
  items = list(scene.items)
  assert len(places_of(items)) == len(items)
  for phrase in scene.statement.phrases:
    spoken, items = items[: phrase.count], items[phrase.count :]
    if [item.shape for item in spoken] != [phrase.shape] * phrase.count:
      return False
    if len({item.color for item in spoken}) != 1:
      return False
    if phrase.color not in (None, spoken[0].color):
      return False
  if items:
    return False
  relation = scene.statement.relation
  return relation is None or relates(*scene.items, relation)


@pytest.mark.parametrize('kind', shapes.KINDS)
def test_statements_are_true(kind):
  for world in (WORLD, World(grid=7), World(apart=True)):
    for scene in scenes(300, kind, world):
      assert is_true(scene)
      for item in scene.items:
        assert 0 <= item.row < world.grid and 0 <= item.column < world.grid


def test_pairs_are_aligned_and_differ_in_shape():
  for scene in scenes(200, 'and'):
    first, second = scene.items
    assert first.shape != second.shape
    assert (first.row == second.row) != (first.column == second.column)


def test_everything_is_drawn_equally_often():
  drawn = scenes(4000)
  count = collections.Counter(
    'counting'
    if scene.statement.phrases[0].count > 1
    else scene.statement.relation or len(scene.statement.phrases)
    for scene in drawn
  )
  assert count['counting'] == pytest.approx(1000, abs=110)
  assert count[1] == pytest.approx(1000, abs=110)
  assert count['left of'] == pytest.approx(250, abs=60)
  phrases = [p for scene in drawn for p in scene.statement.phrases]
  named = np.mean([phrase.color is not None for phrase in phrases])
  assert named == pytest.approx(0.6, abs=0.03)
  items = [item for scene in drawn for item in scene.items]
  for field, options in (('shape', 4), ('color', 6), ('row', 4), ('offset', 2)):
    values = collections.Counter(getattr(item, field) for item in items)
    assert len(values) == options
    shares = np.array(list(values.values())) / len(items)
    np.testing.assert_allclose(shares, 1 / options, atol=0.02)


def half(index, world):
  """0 or 1; the middle of an odd grid belongs to neither."""
  return np.sign(2 * index - world.grid + 1)


@pytest.mark.parametrize('grid', [2, 4, 5])
def test_apart_objects_share_no_half_or_quarter(grid):
  world = World(grid=grid, apart=True)
  rng = np.random.default_rng(3)
  seen = set()
  for kind, change in (('counting', 'count'), ('relation', 'relation')):
    for scene in scenes(200, kind, world):
      for items in (
        scene.items, shapes.perturb(world, scene, rng, change)[0].items
      ):  # fmt: skip
        quarters = [(half(x.row, world), half(x.column, world)) for x in items]
        assert len(set(quarters)) == len(items)
        seen |= places_of(items)
      if kind == 'relation':
        first, second = scene.items
        assert (
          half(first.row, world) * half(second.row, world) == -1
          or half(first.column, world) * half(second.column, world) == -1
        )
  assert len(seen) >= grid**2 - grid % 2 * (2 * grid - 1)


@pytest.mark.parametrize('change', ['shape', 'color', 'swap', 'count'])
def test_only_the_stated_attribute_changes(change):
  rng = np.random.default_rng(1)
  tried = [s for s in scenes(1500) if change in shapes.changes(s)]
  assert len(tried) > 50
  for scene in tried:
    other, what = shapes.perturb(WORLD, scene, rng, change)
    assert what == change and is_true(other)
    assert other.statement != scene.statement
    removed = kinds_of(scene.items) - kinds_of(other.items)
    added = kinds_of(other.items) - kinds_of(scene.items)
    if change == 'count':
      ours, theirs = set(scene.items), set(other.items)
      assert ours < theirs or theirs < ours
      assert len(kinds_of(other.items)) == 1
      continue
    assert places_of(other.items) == places_of(scene.items)
    assert [i.offset for i in other.items] == [i.offset for i in scene.items]
    index = {'shape': 1, 'color': 0}.get(change)
    if index is not None:  # What is left of the changed kind's name stays.
      ((old, _),), ((new, _),) = removed.items(), added.items()
      assert old[index] == new[index] and old != new
    if change == 'color':
      untouched = [p for p in scene.statement.phrases if p.color is None]
      assert set(untouched) <= set(other.statement.phrases)
    if change == 'swap':
      assert [i.color for i in other.items] == [
        i.color for i in reversed(scene.items)
      ]


def test_a_changed_relation_moves_the_objects_only():
  rng = np.random.default_rng(2)
  for scene in scenes(300, 'relation'):
    other, _ = shapes.perturb(WORLD, scene, rng, 'relation')
    assert is_true(other)
    assert other.statement.phrases == scene.statement.phrases
    assert other.statement.relation != scene.statement.relation
    assert not relates(*other.items, scene.statement.relation)
    unplaced = [
      [dataclasses.replace(item, row=0, column=0) for item in s.items]
      for s in (scene, other)
    ]
    assert unplaced[0] == unplaced[1]


def test_a_change_falsifies_the_statement():
  rng = np.random.default_rng(3)
  seen = set()
  for scene in scenes(2000):
    other, change = shapes.perturb(WORLD, scene, rng)
    seen.add(change)
    assert is_true(other)
    assert not is_true(Scene(scene.statement, other.items))
  assert seen == {'shape', 'color', 'swap', 'count', 'relation'}


def test_what_is_not_stated_cannot_change():
  scene = Scene(
    Statement((Phrase('circle'),)), (Item('circle', 'red', 0, 0, 0),)
  )
  assert shapes.changes(scene) == ('shape',)
  with pytest.raises(ValueError, match="'color'"):
    shapes.perturb(WORLD, scene, np.random.default_rng(0), 'color')
  with pytest.raises(ValueError, match='kind must be one of'):
    shapes.draw(WORLD, np.random.default_rng(0), 'many')


class TestRendering:
  def test_patches(self):
    patches = WORLD.patches()
    assert patches.shape == (49, 8, 8, 3) and patches.dtype == np.float32
    assert len({patch.tobytes() for patch in patches}) == 49
    assert patches.min() >= 0 and patches.max() <= 1
    assert not patches.flags.writeable
    lists = World(offsets=[list(offset) for offset in WORLD.offsets])
    np.testing.assert_array_equal(lists.patches(), patches)

  @pytest.mark.parametrize('cell', [8, 10, 16])
  def test_objects_end_inside_their_cells_and_are_smooth(self, cell):
    world = World(cell=cell)
    patches = world.patches()[1:]
    border = np.ones((cell, cell), bool)
    border[1:-1, 1:-1] = False
    touched = abs(patches[:, border] - shapes.BACKGROUND).max()
    assert touched < 0.8  # Partly covered at most.
    assert len(np.unique(patches[0])) > 6  # Neither in nor out: anti-aliased.

  @pytest.mark.parametrize('cell', [8, 16])
  def test_areas_and_colours(self, cell):
    areas = []
    for shape in shapes.SHAPES:
      patch = World(cell=cell).patches()[
        World(cell=cell).patch_id('blue', shape, 0)
      ]
      red = np.array(shapes.COLORS['blue'])[0]
      covered = (patch[..., 0] - shapes.BACKGROUND) / (red - shapes.BACKGROUND)
      areas.append(covered.sum() / cell**2)
      np.testing.assert_allclose(
        patch[cell // 2, cell // 2 - 1], shapes.COLORS['blue'], atol=1e-6
      )
    exact = 0.3875**2 * np.array([np.pi * 1.06, 3.24, 2, 2.3936])
    np.testing.assert_allclose(areas, exact, rtol=0.05)

  def test_images_show_items_where_they_are(self):
    world = World(grid=5)
    items = (Item('cross', 'red', 1, 3, 1), Item('circle', 'cyan', 4, 0, 0))
    scene = Scene(Statement((Phrase('cross'), Phrase('circle'))), items)
    (image,) = shapes.render(world, [scene])
    assert image.shape == (40, 40, 3) and image.dtype == np.float32
    patches = world.patches()
    for item in items:
      cell = image[8 * item.row :, 8 * item.column :][:8, :8]
      patch = world.patch_id(item.color, item.shape, item.offset)
      np.testing.assert_array_equal(cell, patches[patch])
    ids = shapes.patch_ids(world, [scene])
    assert np.count_nonzero(ids) == 2 and ids.shape == (1, 5, 5)
    differs = (image != np.float32(shapes.BACKGROUND)).any(-1)
    assert not differs[:8].any() and not differs[:, 8:24].any()

  def test_no_scenes_are_no_images(self):
    assert shapes.render(WORLD, []).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
  ('sizes', 'message'),
  [
    ({'grid': 1}, 'grid=1'),
    ({'cell': 6}, 'cell=6'),
    ({'cell': 9}, 'cell=9'),
    ({'offsets': ()}, 'offsets'),
    ({'offsets': ((0.2, 0),)}, 'offsets'),
    ({'mention_color': 1.5}, 'mention_color=1.5'),
  ],
)
def test_impossible_worlds_are_refused(sizes, message):
  with pytest.raises(UserError, match=message):
    World(**sizes)


def test_counted_objects_are_anywhere():
  drawn = [s for s in scenes(400, 'counting') if len(s.items) == 2]
  lines = [len({item.row for item in s.items}) == 1 for s in drawn]
  # Of 15 cells beside the first object, 3 are in its row.
  assert np.mean(lines) == pytest.approx(3 / 15, abs=0.1)
