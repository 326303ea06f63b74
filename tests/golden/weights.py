"""Loading a fixture with its weights, as the library does."""

import pathlib

from softdimo_jax.parity import fixture


def load(folder, name):
  """(metadata, state dict, arrays) of fixture `name` in `folder`.

  Where the fixture holds several models the state dict is one per model.
  """
  loaded = fixture.load(pathlib.Path(folder), name)
  entries = loaded.meta['entries']
  if isinstance(entries, dict):
    state = {model: loaded.state_dict(model) for model in entries}
  else:
    state = loaded.state_dict()
  return loaded.meta, state, dict(loaded.arrays)
