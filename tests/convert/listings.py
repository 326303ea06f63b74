"""Listings of official checkpoints: names, shapes and types of all entries."""

import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from softdimo_jax.convert import command
from softdimo_jax.errors import UserError

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'


def listing(name):
  """Metadata of a listing, and official name -> `jax.ShapeDtypeStruct`."""
  meta = json.loads((GOLDEN / f'{name}_full.json').read_text())
  return meta, {
    entry: jax.ShapeDtypeStruct(shape, dtype)
    for entry, shape, dtype in meta['entries']
  }


def count(params):
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def check_refusal(family, state, folder, message, **overrides):
  """A checkpoint is refused with these options."""
  file = folder / 'model.safetensors'
  safetensors.numpy.save_file(state, file)
  request = command.Conversion(
    family, str(file), check=True, overrides=overrides
  )
  with pytest.raises(UserError, match=message):
    command.run(request)
