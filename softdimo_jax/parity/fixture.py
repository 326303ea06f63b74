"""Reading fixtures, and comparing their arrays with ours."""

import dataclasses
import json
import pathlib
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from softdimo_jax.convert.rule_weights import rule_state_dict
from softdimo_jax.errors import UserError

# Of floating-point arrays, relative to the largest value; integers are exact.
TOLERANCE = 2e-5
# Sinusoids of numbers near 650: the last bit of a frequency is 4e-5 of them.
SINUSOIDS, SINUSOID_TOLERANCE = ('micro',), 1e-4
# Arrays whose names end so hold every eighth channel of NCHW.
_SUBSET, _STRIDE = '_c8', 8
# By the beginning of what computed a fixture: inputs of those whose JSON files
# list none, and tolerances of arrays that allow other ones, first match first.
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
    r'adm_\w+_fp16_\w+': 3e-3,  # sums of float16, in whatever order
    # The official codes compute these in float32.
    r'(mu_\w+|kid_mean|kid_std|isc_adm)_f64': TOLERANCE,
    r'\w+_f64': 1e-6,
  },
  **{
    kind: {r'.+': 1e-5}
    for kind in (*_CLIPS, _IMAGE_REWARD, _INCEPTION, 'MLP(768)')
  },
  # Sinusoids of times up to 64,000 amplify the last bit of a frequency, and
  # guidance the difference of its branches.
  'src/transformer.py:Transformer2DModel': {
    r'logits_[bc]|cfg_logits|time_proj_b|soft_grad_z': 1e-4,
    r'.+': 1e-5,
  },
  'diffusers': {r'soft_grad_z': 1e-4, r'.+': 1e-5},
}
# What stands for the class where several repositories computed the arrays.
_FUNCTIONS = 'functions'
# Listings of full-size checkpoints: no arrays, nothing to compare.
_LISTING = '_full'


class _Arrays(dict):
  """Arrays by name; a missing one is a mistake of the fixture."""

  def __missing__(self, name: str) -> np.ndarray:
    raise UserError(f'the fixture lacks the input array {name}')


@dataclasses.dataclass(frozen=True)
class Fixture:
  """One fixture, or with a tag the part of it that belongs to one model.

  Attributes:
    name: of the files.
    meta: the JSON file.
    arrays: the NPZ file, or the arrays of the tag without `TAG_`.
  """

  name: str
  meta: Mapping[str, Any]
  arrays: Mapping[str, np.ndarray]

  @property
  def config(self) -> Mapping[str, Any]:
    """The official configuration."""
    return self.meta['config']

  @property
  def official(self) -> str:
    """What computed the arrays: official file and class, or repositories."""
    name = self.meta.get('class') or self.meta.get('cls') or 'no class'
    return str(self.meta['source'] if name == _FUNCTIONS else name)

  @property
  def outputs(self) -> list[str]:
    """Arrays that the official code computed, in the order of their names."""
    inputs = self.meta.get('input_arrays') or self._unlisted_inputs()
    listed = set(self.meta.get('output_arrays', ()))
    return sorted(listed | set(self.arrays) - set(inputs))

  def _unlisted_inputs(self) -> list[str]:
    pattern = self._by_source(_UNLISTED_INPUTS) or ''
    return [name for name in self.arrays if re.fullmatch(pattern, name)]

  def tolerance(self, name: str) -> float:
    """Largest relative error of an array; integers must be exact."""
    if self.arrays[name].dtype.kind != 'f':
      return 0
    for pattern, tolerance in (self._by_source(_TOLERANCES) or {}).items():
      if re.fullmatch(pattern, name):
        return tolerance
    return SINUSOID_TOLERANCE if name in SINUSOIDS else TOLERANCE

  def _by_source(self, table: Mapping[str, Any]) -> Any:
    """The table's entry for what computed this fixture, or None."""
    for source, entry in table.items():
      if self.official.startswith(source):
        return entry
    return None

  def state_dict(
    self, model: str | None = None, *, scaled: bool = False
  ) -> dict[str, np.ndarray]:
    """Official state dict with weights by rule.

    Args:
      model: which one, where the fixture lists several.
      scaled: with the factors of the arrays `eps_*`, whose small activations
        expose a wrong epsilon.
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
    """Each tag with the part of the fixture whose arrays it begins."""
    own = {tag: _Arrays() for tag in tags}
    for name, array in self.arrays.items():
      owners = [tag for tag in tags if name.startswith(f'{tag}_')]
      if owners:
        tag = max(owners, key=len)
        own[tag][name.removeprefix(f'{tag}_')] = array
    for tag, arrays in own.items():
      yield tag, dataclasses.replace(self, arrays=arrays)


def names(folder: pathlib.Path) -> list[str]:
  """Fixtures of a folder; listings of checkpoints are none.

  Raises:
    UserError: if there is no folder or no fixture.
  """
  if not folder.is_dir():
    raise UserError(f'{folder} is not a folder')
  stems = {
    file.stem for file in folder.iterdir() if file.suffix in ('.json', '.npz')
  }
  found = sorted(stem for stem in stems if not stem.endswith(_LISTING))
  if not found:
    raise UserError(f'{folder} holds no fixture (NAME.json and NAME.npz)')
  return found


def load(folder: pathlib.Path, name: str) -> Fixture:
  """Reads a fixture.

  Raises:
    UserError: if a file is missing or broken.
  """
  try:
    meta = json.loads((folder / f'{name}.json').read_text('utf-8'))
    with np.load(folder / f'{name}.npz', allow_pickle=False) as arrays:
      return Fixture(name, meta, _Arrays(arrays))
  except FileNotFoundError as error:
    raise UserError(f'{error.filename} is missing') from error
  except (ValueError, OSError, zipfile.BadZipFile) as error:
    raise UserError(f'fixture {name} cannot be read: {error}') from error


@dataclasses.dataclass(frozen=True)
class Row:
  """How one array compares.

  Attributes:
    name: of the array.
    error: max|a - b| / max|b|, or None where there is nothing to compare.
    tolerance: largest error allowed.
    reason: why there is nothing to compare.
  """

  name: str
  error: float | None
  tolerance: float
  reason: str = ''

  @property
  def ok(self) -> bool:
    """Whether the arrays agree; NaN does not."""
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
