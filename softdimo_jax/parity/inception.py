"""Fixtures of the Inception network of FID."""

import functools
import re

import jax
import numpy as np

from softdimo_jax.convert.inception import convert_inception, inception_options
from softdimo_jax.convert.shapes import Shapes
from softdimo_jax.networks.inception import Inception
from softdimo_jax.networks.inception_blocks import max_pool
from softdimo_jax.ops.resize import resize_tf1
from softdimo_jax.parity import record
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays
from softdimo_jax.types import Params

# The fixtures contain only every 23rd row and 17th column of resized images.
_ROWS, _COLUMNS = 23, 17


def fid_inception(fixture: Fixture) -> Arrays:
  """`FeatureExtractorInceptionV3`, on each image set of the fixture."""
  state = fixture.state_dict()
  model = Inception(
    **inception_options(Shapes.of(state)),
    epsilon=fixture.config['bn_eps'],
  )
  params, _ = convert_inception(state, model)
  side = model.resolution
  tags = re.findall(r'\b(\w+)_images\b', ' '.join(fixture.arrays))
  resized = {
    tag: resize_tf1(part.arrays['images'], side, side)
    for tag, part in fixture.tagged(tags)
  }
  # All sets in one batch, because compiling takes longer than running.
  run = record.compiled(functools.partial(_outputs, model))
  outputs = run(params, np.concatenate(list(resized.values())))
  ours, start = {}, 0
  for tag, images in resized.items():
    rows = slice(start, start + len(images))
    ours |= {f'{tag}_{name}': x[rows] for name, x in outputs.items()}
    ours[f'{tag}_resized_sub'] = images[:, ::_ROWS, ::_COLUMNS]
    start = rows.stop
  return ours


def _outputs(
  model: Inception, params: Params, images: jax.Array
) -> dict[str, jax.Array]:
  output, output_of = record.apply(model, params, images)
  maps = {
    '64': max_pool(output_of('Conv2d_2b_3x3')),
    '192': max_pool(output_of('Conv2d_4a_3x3')),
    '768': output_of('Mixed_6e'),
  }
  return {
    **{name: x.mean((1, 2)) for name, x in maps.items()},
    '2048': output.pool,
    'spatial': output.spatial,
    'logits_unbiased': output.logits,
    'logits': output.biased_logits,
  }
