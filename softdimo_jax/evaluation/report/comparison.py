"""What the papers claim, and whether it holds in the rows of a run.

Data and metrics differ, so only ratios and their order are compared.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from softdimo_jax.evaluation.report import paper
from softdimo_jax.evaluation.report.columns import COLUMNS

Rows = Sequence[Mapping[str, Any]]

_SINGLE_STEP = 'teacher, 1 step'
_SAME_GUIDANCE = 'teacher, same guidance'
_BEST_TEACHER = 'best teacher'
# Other stages have their own names.
_TITLES = {
  'dimo': 'Di[M]O',
  'softdimo': 'Soft-Di[M]O',
  'continued_dimo': 'continued Di[M]O',
  'gan_only': 'GAN only',
  'reward_only': 'reward only',
  'gumbel_gan': 'Gumbel-ST',
  'gumbel_reward': 'Gumbel-ST',
  'softdimo_tteo': 'test-time search',
}


@dataclasses.dataclass(frozen=True)
class Claim:
  """An order of two models in one metric.

  Attributes:
    metric: column of the rows.
    model: name of the row in the numerator.
    baseline: name of the row in the denominator, or one of the three kinds of
      teacher rows; the best of them counts.
    better: whether the model is the better of the two in the papers.
  """

  metric: str
  model: str
  baseline: str
  better: bool

  @property
  def lower(self) -> bool:
    """Whether the value of the model is the lower one in the papers."""
    return self.better == (self.metric == 'fid')

  @property
  def is_share(self) -> bool:
    """Whether both values are shown, since they compare across data."""
    return self.metric in ('precision', 'recall')


# Model, baseline, and whether the model is the better one.
_ORDERS = (
  ('dimo', _SINGLE_STEP, True),
  ('dimo', _SAME_GUIDANCE, False),
  ('dimo', _BEST_TEACHER, False),
  ('softdimo', _SAME_GUIDANCE, True),
  ('softdimo', _BEST_TEACHER, True),
  ('softdimo', 'dimo', True),
  ('softdimo', 'continued_dimo', True),
  ('softdimo', 'gan_only', True),
  ('softdimo', 'reward_only', True),
  ('softdimo', 'gumbel_gan', True),
  ('softdimo', 'gumbel_reward', True),
  ('softdimo_tteo', 'softdimo', True),
  ('softdimo_tteo', _BEST_TEACHER, True),
)
CLAIMS = (
  *(Claim('fid', *order) for order in _ORDERS),
  Claim('recall', 'softdimo', 'dimo', True),
  Claim('precision', 'softdimo', 'dimo', False),
  *(Claim('overall', *order) for order in _ORDERS),
  *(Claim('exact', *order) for order in _ORDERS),
)


def compare(runs: Sequence[Rows]) -> list[dict[str, str]]:
  """The table "paper / here" of one or several runs.

  Args:
    runs: rows of each run, as in results.json.

  Returns:
    One row per claim whose models are in some run: `claim`, `metric`, `paper`
    and `here` (ratios, or both values of a share; means over the runs), and
    `order_holds`: 'yes' or 'no'; for several runs, in how many of those that
    have both models. A tie does not hold. Without a number, the paper's cell
    is the order.
  """
  found = {
    claim: [values for rows in runs if (values := pair(claim, rows))]
    for claim in CLAIMS
  }
  return [
    _row(claim, pairs) | {'order_holds': _verdict(claim, pairs, len(runs))}
    for claim, pairs in found.items()
    if pairs
  ]


def pair(claim: Claim, rows: Rows) -> tuple[float, float] | None:
  """(value of the model, value of its baseline), or None if one is missing."""
  rows = [row for row in rows if row.get(claim.metric) is not None]
  for row in rows:
    if row.get('model') == claim.model:
      others = [x for x in rows if _is_baseline(claim.baseline, x, row)]
      best = min if claim.metric == 'fid' else max
      values = [other[claim.metric] for other in others]
      return (row[claim.metric], best(values)) if values else None
  return None


def _is_baseline(
  name: str, row: Mapping[str, Any], model: Mapping[str, Any]
) -> bool:
  """Whether a row is the named baseline of the row of a model."""
  same = row.get('guidance_scale') == model.get('guidance_scale')
  teacher, several = row.get('model') == 'teacher', row.get('steps', 1) > 1
  if name == _SINGLE_STEP:
    return teacher and same and not several
  if name == _SAME_GUIDANCE:
    return teacher and same and several
  if name == _BEST_TEACHER:
    return teacher and several
  return row.get('model') == name


def _row(claim: Claim, pairs: list[tuple[float, float]]) -> dict[str, str]:
  model, baseline = (
    _TITLES.get(name, name) for name in (claim.model, claim.baseline)
  )
  order = (baseline, '->', model) if claim.is_share else (model, '/', baseline)
  published = (found for x in paper.TABLES if (found := pair(claim, x)))
  found = next(published, None)
  expected = '< 1' if claim.lower else '> 1'
  return {
    'claim': ' '.join(order),
    'metric': COLUMNS[claim.metric].title or claim.metric,
    'paper': _text(claim, [found]) if found else expected,
    'here': _text(claim, pairs),
  }


def holds(claim: Claim, model: float, baseline: float) -> bool:
  """Whether two values are in the order of the papers."""
  return model < baseline if claim.lower else model > baseline


def _text(claim: Claim, pairs: list[tuple[float, float]]) -> str:
  if claim.is_share:
    model, baseline = np.mean(pairs, axis=0)
    return f'{baseline:.3g} -> {model:.3g}'
  if not all(baseline for _, baseline in pairs):
    return '-'
  return f'{np.mean([model / baseline for model, baseline in pairs]):.3g}'


def _verdict(claim: Claim, pairs: list[tuple[float, float]], runs: int) -> str:
  verdicts = [holds(claim, *values) for values in pairs]
  if runs == 1:
    return 'yes' if verdicts[0] else 'no'
  return f'{sum(verdicts)} of {len(verdicts)}'
