"""Listings of official checkpoints: names, shapes and types of all entries."""

import json
import pathlib

import jax
import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'


def listing(name):
  """Its metadata, and official name -> `jax.ShapeDtypeStruct`."""
  meta = json.loads((GOLDEN / f'{name}_full.json').read_text())
  return meta, {
    entry: jax.ShapeDtypeStruct(shape, dtype)
    for entry, shape, dtype in meta['entries']
  }


def count(params):
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
