"""Rule-made weights for the golden fixtures of this folder (NumPy only).

A fixture is NAME.json (source, configuration, the official state dict's names
and shapes) and NAME.npz (inputs and outputs, computed by the official
implementation holding the weights that `state_dict` makes).
"""

import json
import math
import pathlib
import zlib

import numpy as np

_SCALE_ENDINGS = ('weight', 'scale', 'gamma', 'logit_scale')


def entry(name, shape):
  """float32 weights of one state-dict entry: a function of name and shape."""
  rng = np.random.default_rng(zlib.crc32(name.encode('utf-8')))
  w = rng.standard_normal(shape, dtype=np.float32)
  if len(shape) >= 2:
    return (w / np.float32(math.sqrt(math.prod(shape[1:])))).astype(np.float32)
  if name.endswith('running_var'):
    return np.asarray(1 + np.float32(0.1) * np.abs(w), np.float32)
  if name.endswith(_SCALE_ENDINGS):
    return np.asarray(1 + np.float32(0.1) * w, np.float32)
  return np.asarray(np.float32(0.1) * w, np.float32)


def state_dict(entries, *, kept=(), tied=None, gain=None):
  """State dict of `entries` ([name, shape, dtype] each) without `kept`."""
  tied = tied or {}
  state = {}
  for name, shape, dtype in entries:
    if name in kept or not dtype.startswith('float'):
      continue
    w = entry(tied.get(name, name), tuple(shape))
    if gain and w.ndim >= gain['min_ndim']:
      w = w * np.float32(gain['factor'])
    state[name] = w
  return state


def load(folder, name):
  """Returns (metadata, state dict, arrays) of fixture `name` in `folder`.

  Where the metadata's "entries" is a dict (several models in one fixture),
  the state dict is one per key.
  """
  folder = pathlib.Path(folder)
  meta = json.loads((folder / f'{name}.json').read_text())
  options = {
    'kept': set(meta.get('kept', ())),
    'tied': meta.get('tied'),
    'gain': meta.get('gain'),
  }
  entries = meta['entries']
  if isinstance(entries, dict):
    state = {tag: state_dict(e, **options) for tag, e in entries.items()}
  else:
    state = state_dict(entries, **options)
  with np.load(folder / f'{name}.npz', allow_pickle=False) as arrays:
    return meta, state, dict(arrays)
