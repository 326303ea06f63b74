"""Rendered scenes with captions: text-to-image data that needs no download.

    world = World()                              # 4 x 4 cells of 8 pixels
    source = ShapesSource(world=world, seed=0)   # source[i]: image, caption
    scene = draw(world, np.random.default_rng(0))
    wrong, change = perturb(world, scene, np.random.default_rng(1))
    images = render(world, [scene, wrong])       # [2, 32, 32, 3]

A scene shows one object, two in a row or column, or two to four equal ones in
a row, and has a true statement about it. Captions omit each colour with
probability 1 - `World.mention_color`.
"""

from softdimo_jax.data.shapes.evaluation import (
  CATEGORIES,
  evaluation_prompts,
  record_of,
)
from softdimo_jax.data.shapes.language import (
  RELATIONS,
  Phrase,
  Statement,
  parse,
)
from softdimo_jax.data.shapes.scene import (
  KINDS,
  Item,
  Scene,
  changes,
  draw,
  patch_ids,
  perturb,
  realise,
  render,
)
from softdimo_jax.data.shapes.source import ShapesSource
from softdimo_jax.data.shapes.vocabulary import (
  null_tokens,
  tokenize,
  tokenize_all,
  untokenize,
)
from softdimo_jax.data.shapes.world import (
  BACKGROUND,
  COLORS,
  MAX_COUNT,
  SHAPES,
  World,
)

__all__ = [
  'BACKGROUND',
  'CATEGORIES',
  'COLORS',
  'KINDS',
  'MAX_COUNT',
  'RELATIONS',
  'SHAPES',
  'Item',
  'Phrase',
  'Scene',
  'ShapesSource',
  'Statement',
  'World',
  'changes',
  'draw',
  'evaluation_prompts',
  'null_tokens',
  'parse',
  'patch_ids',
  'perturb',
  'realise',
  'record_of',
  'render',
  'tokenize',
  'tokenize_all',
  'untokenize',
]
