"""Scenes: random, with one stated thing changed, and rendered."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from softdimo_jax.data.shapes.language import RELATIONS, Phrase, Statement
from softdimo_jax.data.shapes.world import COLORS, MAX_COUNT, SHAPES, World

KINDS = ('single', 'and', 'relation', 'counting')


@dataclasses.dataclass(frozen=True)
class Item:
  """One object.

  Attributes:
    shape: one of `SHAPES`.
    color: one of `COLORS`.
    row: row of its cell, from the top.
    column: column of its cell, from the left.
    offset: index into the world's offsets.
  """

  shape: str
  color: str
  row: int
  column: int
  offset: int


@dataclasses.dataclass(frozen=True)
class Scene:
  """Objects and a true statement about them.

  Attributes:
    statement: statement of the caption; colours it does not state are random.
    items: all objects, in the order of the statement's phrases.
  """

  statement: Statement
  items: tuple[Item, ...]


def draw(
  world: World, rng: np.random.Generator, kind: str | None = None
) -> Scene:
  """Draws a random scene.

  Args:
    world: sizes.
    rng: generator; the scene is a function of its state.
    kind: one of `KINDS`; uniformly random if None.

  Raises:
    ValueError: for an unknown kind.
  """
  kind = _choose(rng, KINDS) if kind is None else kind
  shapes = _shuffled(rng, SHAPES)
  if kind == 'counting':
    phrases = (
      _phrase(world, rng, shapes[0], int(rng.integers(2, MAX_COUNT + 1))),
    )
  elif kind == 'single':
    phrases = (_phrase(world, rng, shapes[0]),)
  elif kind in ('and', 'relation'):
    phrases = tuple(_phrase(world, rng, shape) for shape in shapes[:2])
  else:
    raise ValueError(f'kind must be one of {KINDS}, got {kind!r}')
  relation = _choose(rng, RELATIONS) if kind == 'relation' else None
  return realise(world, rng, Statement(phrases, relation))


def realise(
  world: World, rng: np.random.Generator, statement: Statement
) -> Scene:
  """Draws a random scene that makes a statement true.

  Two objects share a row or column even if no relation is stated; a single one
  is anywhere, and so are counted ones unless `world.apart`.

  Args:
    world: sizes.
    rng: draws everything that the statement does not fix.
    statement: one phrase with at most `MAX_COUNT` objects, or two with one
      object each.
  """
  cells = _cells(world, rng, statement)
  items = []
  for phrase in statement.phrases:
    color = phrase.color or _choose(rng, tuple(COLORS))
    for _ in range(phrase.count):
      item = Item(phrase.shape, color, *cells[len(items)], 0)
      items.append(_placed(world, rng, item))
  return Scene(statement, tuple(items))


def perturb(
  world: World,
  scene: Scene,
  rng: np.random.Generator,
  change: str | None = None,
) -> tuple[Scene, str]:
  """Changes exactly one thing that the caption states.

  Objects not affected by the change keep their look and place.

  Args:
    world: sizes.
    scene: the original, whose statement is false for the result.
    rng: draws the change and its outcome.
    change: one of `changes(scene)`; uniformly random if None.

  Returns:
    (scene with its own true statement, the change).

  Raises:
    ValueError: if `change` is not in `changes(scene)`.
  """
  possible = changes(scene)
  change = _choose(rng, possible) if change is None else change
  if change not in possible:
    raise ValueError(f'this scene can change {possible}, not {change!r}')
  return _CHANGES[change](world, scene, rng), change


def changes(scene: Scene) -> tuple[str, ...]:
  """Changes that `perturb` can make to a scene, at least 'shape'.

  Only counting captions state a number: by GenEval's rules two circles do not
  contradict "a circle".
  """
  phrases = scene.statement.phrases
  colors = [phrase.color for phrase in phrases]
  conditions = {
    'shape': True,
    'color': any(colors),
    'swap': all(colors) and len(set(colors)) == 2,
    'count': phrases[0].count > 1,
    'relation': scene.statement.relation is not None,
  }
  return tuple(change for change, holds in conditions.items() if holds)


def patch_ids(world: World, scenes: Sequence[Scene]) -> np.ndarray:
  """Indices into `world.patches()`: int32 [N, grid, grid], 0 if empty."""
  ids = np.zeros((len(scenes), world.grid, world.grid), np.int32)
  for index, scene in enumerate(scenes):
    for item in scene.items:
      patch = world.patch_id(item.color, item.shape, item.offset)
      ids[index, item.row, item.column] = patch
  return ids


def render(world: World, scenes: Sequence[Scene]) -> np.ndarray:
  """Images of scenes: float32 [N, H, W, 3] in [0, 1]."""
  patches = world.patches()[patch_ids(world, scenes)]  # [N, g, g, P, P, 3]
  images = patches.transpose(0, 1, 3, 2, 4, 5)
  return images.reshape(len(scenes), world.size, world.size, 3)


def _choose(rng: np.random.Generator, options: Sequence[str]) -> str:
  return options[int(rng.integers(len(options)))]


def _other(
  rng: np.random.Generator, options: Sequence[str], but: Sequence[str | None]
) -> str:
  return _choose(rng, [option for option in options if option not in but])


def _shuffled(rng: np.random.Generator, options: Sequence[str]) -> list[str]:
  order: list[int] = rng.permutation(len(options)).tolist()
  return [options[index] for index in order]


def _phrase(
  world: World, rng: np.random.Generator, shape: str, count: int = 1
) -> Phrase:
  color = _choose(rng, tuple(COLORS))
  mentioned = rng.random() < world.mention_color
  return Phrase(shape, color if mentioned else None, int(count))


def _placed(world: World, rng: np.random.Generator, item: Item) -> Item:
  offset = int(rng.integers(len(world.offsets)))
  return dataclasses.replace(item, offset=offset)


def _cells(
  world: World, rng: np.random.Generator, statement: Statement
) -> list[tuple[int, int]]:
  """(row, column) of every object."""
  if len(statement.phrases) == 1:
    return _free(world, rng, statement.phrases[0].count, [])
  relation = statement.relation or _choose(rng, RELATIONS)
  line = int(rng.integers(world.grid))
  if world.apart:
    positions = [_in_half(world, rng, half) for half in (0, 1)]
  else:
    positions = sorted(int(index) for index in rng.permutation(world.grid)[:2])
  if relation in ('right of', 'below'):
    positions.reverse()
  if relation in ('above', 'below'):
    return [(position, line) for position in positions]
  return [(line, position) for position in positions]


def _in_half(world: World, rng: np.random.Generator, half: int) -> int:
  """A row or column in the first (0) or second half; never the middle one."""
  size = world.grid // 2
  return int(rng.integers(size)) + half * (world.grid - size)


def _free(
  world: World,
  rng: np.random.Generator,
  count: int,
  taken: Sequence[tuple[int, int]],
) -> list[tuple[int, int]]:
  """Random cells (row, column) for `count` more objects of one kind."""
  if count + len(taken) == 1 or not world.apart:
    cells = [divmod(int(x), world.grid) for x in rng.permutation(world.grid**2)]
    return [cell for cell in cells if cell not in taken][:count]
  half = lambda index: int(index >= world.grid / 2)
  used = {(half(row), half(column)) for row, column in taken}
  quarters = [divmod(int(x), 2) for x in rng.permutation(4)]
  return [
    (_in_half(world, rng, top), _in_half(world, rng, left))
    for top, left in quarters
    if (top, left) not in used
  ][:count]


def _change_shape(
  world: World, scene: Scene, rng: np.random.Generator
) -> Scene:
  phrases = scene.statement.phrases
  index = int(rng.integers(len(phrases)))
  # Differs from the other object's shape too, so pairs stay pairs.
  shape = _other(rng, SHAPES, [phrase.shape for phrase in phrases])
  return _repainted(scene, index, shape=shape)


def _change_color(
  world: World, scene: Scene, rng: np.random.Generator
) -> Scene:
  phrases = scene.statement.phrases
  stated = [i for i, phrase in enumerate(phrases) if phrase.color]
  index = stated[rng.integers(len(stated))]
  color = _other(rng, tuple(COLORS), [phrases[index].color])
  return _repainted(scene, index, color=color)


def _swap_colors(world: World, scene: Scene, rng: np.random.Generator) -> Scene:
  first, second = (phrase.color for phrase in scene.statement.phrases)
  return _repainted(_repainted(scene, 0, color=second), 1, color=first)


def _repainted(scene: Scene, index: int, **attribute: str | None) -> Scene:
  """The scene with an attribute of one phrase and its objects replaced."""
  phrases, relation = scene.statement.phrases, scene.statement.relation
  changed = tuple(
    dataclasses.replace(phrase, **attribute) if i == index else phrase
    for i, phrase in enumerate(phrases)
  )
  items = tuple(
    dataclasses.replace(item, **attribute)
    if item.shape == phrases[index].shape
    else item
    for item in scene.items
  )
  return Scene(Statement(changed, relation), items)


def _change_count(
  world: World, scene: Scene, rng: np.random.Generator
) -> Scene:
  (phrase,) = scene.statement.phrases
  counts = [n for n in range(2, MAX_COUNT + 1) if n != phrase.count]
  count = counts[rng.integers(len(counts))]
  items = [scene.items[i] for i in rng.permutation(phrase.count)][:count]
  taken = [(item.row, item.column) for item in items]
  for row, column in _free(world, rng, count - len(items), taken):
    item = dataclasses.replace(scene.items[0], row=row, column=column)
    items.append(_placed(world, rng, item))
  statement = Statement((dataclasses.replace(phrase, count=count),))
  return Scene(statement, tuple(items))


def _change_relation(
  world: World, scene: Scene, rng: np.random.Generator
) -> Scene:
  old = scene.statement
  statement = Statement(old.phrases, _other(rng, RELATIONS, [old.relation]))
  cells = _cells(world, rng, statement)
  items = tuple(
    dataclasses.replace(item, row=row, column=column)
    for item, (row, column) in zip(scene.items, cells, strict=True)
  )
  return Scene(statement, items)


_CHANGES: dict[str, Callable[[World, Scene, np.random.Generator], Scene]] = {
  'shape': _change_shape,
  'color': _change_color,
  'swap': _swap_colors,
  'count': _change_count,
  'relation': _change_relation,
}
