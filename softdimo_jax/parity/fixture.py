"""Reads fixtures and compares their arrays with ours."""

import dataclasses
import pathlib
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from softdimo_jax.convert.rule_weights import rule_state_dict
from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import unique_json

# For floating-point arrays, relative to the largest value; integers are exact.
TOLERANCE = 2e-5
# Sinusoids of numbers near 650: a last bit of a frequency is 4e-5 of them.
SINUSOIDS, SINUSOID_TOLERANCE = ('micro',), 1e-4
# Suffix of arrays that contain only every eighth channel of NCHW.
_SUBSET, _STRIDE = '_c8', 8
# By prefix of a fixture's `official`: patterns of its inputs, where the JSON
# file lists none, and tolerances of its arrays, where the first match counts.
_METRICS = 'toshas/torch-fidelity'
_INCEPTION = 'torch_fidelity.feature_extractor_inceptionv3'
_CLIPS = ('transformers.CLIPModel', 'open_clip.model.CLIP')
_IMAGE_REWARD = 'ImageReward.ImageReward'
_PAIRS = r'pixel_values|input_ids|attention_mask'
_UNLISTED_INPUTS = {
  'evaluate_image': r'image|(box|mask)_\d+|rel_box_[ab]',
  _METRICS: r'(lowrank_)?(ref|gen)|logits|acts|W|emb_[xy]|isc_adm_split_size',
  _INCEPTION: r'\w+_images',
  'ReNO': r's\d+_(u8|target)',
  **dict.fromkeys((*_CLIPS, _IMAGE_REWARD), _PAIRS),
  'MLP(768)': 'clip_image_features',
}
_TOLERANCES = {
  _METRICS: {
    r'adm_\w+_fp16_\w+': 3e-3,  # sums of float16, in any order
    # The official codes compute these in float32.
    r'(mu_\w+|kid_mean|kid_std|isc_adm)_f64': TOLERANCE,
    r'\w+_f64': 1e-6,
  },
  **{
    kind: {r'.+': 1e-5}
    for kind in (*_CLIPS, _IMAGE_REWARD, _INCEPTION, 'MLP(768)')
  },
  # Sinusoids of times up to 64,000 amplify the last bit of a frequency;
  # guidance amplifies the difference of its branches.
  'src/transformer.py:Transformer2DModel': {
    r'logits_[bc]|cfg_logits|time_proj_b|soft_grad_z': 1e-4,
    r'.+': 1e-5,
  },
  'diffusers': {r'soft_grad_z': 1e-4, r'.+': 1e-5},
}
# Class of fixtures whose arrays functions of several repositories computed.
_FUNCTIONS = 'functions'
# Suffix of listings of full-size checkpoints, which have no arrays.
_LISTING = '_full'


class _Arrays(dict):
  """Arrays by name; a missing one is an error in the fixture."""

  def __missing__(self, name: str) -> np.ndarray:
    raise UserError(f'the fixture lacks the input array {name}')


@dataclasses.dataclass(frozen=True)
class Fixture:
  """A fixture, or its part with a given tag, which belongs to one model.

  Attributes:
    name: name of the files.
    meta: content of the JSON file.
    arrays: content of the NPZ file, or the arrays `TAG_NAME` as `NAME`.
  """

  name: str
  meta: Mapping[str, Any]
  arrays: Mapping[str, Any]

  @property
  def config(self) -> Mapping[str, Any]:
    """The official configuration."""
    return self.meta['config']

  @property
  def official(self) -> str:
    """Official file and class that computed the arrays, or repositories."""
    name = self.meta.get('class') or self.meta.get('cls') or 'no class'
    return str(self.meta['source'] if name == _FUNCTIONS else name)

  @property
  def outputs(self) -> list[str]:
    """Names of the arrays that the official code computed, sorted."""
    inputs = self.meta.get('input_arrays') or self._unlisted_inputs()
    listed = set(self.meta.get('output_arrays', ()))
    return sorted(listed | set(self.arrays) - set(inputs))

  def _unlisted_inputs(self) -> list[str]:
    pattern = self._by_source(_UNLISTED_INPUTS) or ''
    return [name for name in self.arrays if re.fullmatch(pattern, name)]

  def tolerance(self, name: str) -> float:
    """Largest allowed relative error of an array; 0 for integers."""
    if self.arrays[name].dtype.kind != 'f':
      return 0
    for pattern, tolerance in (self._by_source(_TOLERANCES) or {}).items():
      if re.fullmatch(pattern, name):
        return tolerance
    return SINUSOID_TOLERANCE if name in SINUSOIDS else TOLERANCE

  def _by_source(self, table: Mapping[str, Any]) -> Any:
    """The table's entry for this fixture's official code, or None."""
    for source, entry in table.items():
      if self.official.startswith(source):
        return entry
    return None

  def state_dict(
    self, model: str | None = None, *, scaled: bool = False
  ) -> dict[str, np.ndarray]:
    """Official state dict with synthetic weights.

    Args:
      model: the model, if the fixture lists several.
      scaled: whether to apply the factors of the arrays `eps_*`, whose small
        activations expose a wrong epsilon.
    """
    entries = self.meta['entries']
    return rule_state_dict(
      entries if model is None else entries[model],
      kept=self.meta.get('kept', ()),
      tied=self.meta.get('tied'),
      gain=self.meta.get('gain'),
      factors=self.config.get('eps_scale') if scaled else None,
    )

  def tagged(self, tags: Collection[str]) -> Iterator[tuple[str, 'Fixture']]:
    """Each tag with its part of the fixture: the arrays prefixed with it."""
    own = {tag: _Arrays() for tag in tags}
    for name, array in self.arrays.items():
      owners = [tag for tag in tags if name.startswith(f'{tag}_')]
      if owners:
        tag = max(owners, key=len)
        own[tag][name.removeprefix(f'{tag}_')] = array
    for tag, arrays in own.items():
      yield tag, dataclasses.replace(self, arrays=arrays)


def names(folder: pathlib.Path) -> list[str]:
  """Names of the fixtures in a folder, without listings of checkpoints.

  Raises:
    UserError: if there is no folder or no fixture.
  """
  if not folder.is_dir():
    raise UserError(f'{folder} is not a folder')
  stems = {
    file.stem for file in folder.iterdir() if file.suffix in ('.json', '.npz')
  }
  fixtures = sorted(stem for stem in stems if not stem.endswith(_LISTING))
  if not fixtures:
    raise UserError(f'{folder} contains no fixture (NAME.json and NAME.npz)')
  return fixtures


def load(folder: pathlib.Path, name: str) -> Fixture:
  """Reads a fixture.

  Raises:
    UserError: if a file is missing or damaged.
  """
  try:
    meta = unique_json((folder / f'{name}.json').read_text('utf-8'))
    with np.load(folder / f'{name}.npz', allow_pickle=False) as arrays:
      return Fixture(name, meta, _Arrays(arrays))
  except FileNotFoundError as error:
    raise UserError(f'{error.filename} is missing') from error
  except (ValueError, OSError, zipfile.BadZipFile) as error:
    raise UserError(f'fixture {name} cannot be read: {error}') from error


@dataclasses.dataclass(frozen=True)
class Row:
  """The comparison of one array.

  Attributes:
    name: name of the array.
    error: max|a - b| / max|b|, or None if there is nothing to compare.
    tolerance: largest allowed error.
    reason: why there is nothing to compare.
  """

  name: str
  error: float | None
  tolerance: float
  reason: str = ''

  @property
  def ok(self) -> bool:
    """Whether the arrays agree; NaN never does."""
    return self.error is not None and self.error <= self.tolerance

  def __str__(self) -> str:
    verdict = 'ok' if self.ok else f'FAIL {self.reason}'.rstrip()
    error = '-' if self.error is None else f'{self.error:.1e}'
    return f'{self.name} {error} {self.tolerance:g} {verdict}'


def compare(fixture: Fixture, ours: Mapping[str, Any]) -> list[Row]:
  """One row for every output array of the fixture."""
  return [_compare(name, fixture, ours) for name in fixture.outputs]


def _compare(name: str, fixture: Fixture, ours: Mapping[str, Any]) -> Row:
  if name not in fixture.arrays:
    return Row(name, None, 0, 'listed, but not in the NPZ')
  theirs = fixture.arrays[name]
  tolerance = fixture.tolerance(name)
  mine = _counterpart(name, ours)
  if mine is None:
    return Row(name, None, tolerance, 'has no counterpart')
  if mine.shape != theirs.shape:
    reason = f'has shape {theirs.shape}, ours {mine.shape}'
    return Row(name, None, tolerance, reason)
  return Row(name, _relative_error(mine, theirs), tolerance)


def _counterpart(name: str, ours: Mapping[str, Any]) -> np.ndarray | None:
  if name in ours:
    return np.asarray(ours[name])
  whole = name.removesuffix(_SUBSET)
  if whole in ours and whole != name:
    return np.asarray(ours[whole])[:, ::_STRIDE]
  return None


def _relative_error(mine: np.ndarray, theirs: np.ndarray) -> float:
  if not theirs.size:
    return 0.0
  mine, theirs = mine.astype(np.float64), theirs.astype(np.float64)
  error, largest = np.abs(mine - theirs).max(), np.abs(theirs).max()
  return float(error / largest if largest > 0 else error)
