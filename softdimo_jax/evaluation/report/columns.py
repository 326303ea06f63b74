"""Columns of result rows: their order, titles and formats, and who shows them.

A new column is one line here; rows may also have columns that are not listed,
which tables show last.
"""

import dataclasses
from collections.abc import Callable


def significant(value: float) -> str:
  """Four significant digits."""
  return f'{value:.4g}'


def _speed(value: float) -> str:
  """Whole images per second, unless there are only a few."""
  return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
  """How a column is shown.

  Attributes:
    title: None is its name, with spaces for underscores.
    text: formats a number.
    brief: whether the closing table of a run has it.
    summary: whether a summary over runs has it.
    spread: whether the summary adds the standard deviation over runs.
  """

  title: str | None = None
  text: Callable[[float], str] = significant
  brief: bool = True
  summary: bool = False
  spread: bool = False


_share = '{:.3f}'.format

COLUMNS = {
  'model': Column(summary=True),
  'steps': Column(summary=True),
  'guidance_scale': Column(title='guidance', summary=True),
  'temperature': Column(),
  'best_step': Column(),
  'num_images': Column(title='images', brief=False),
  'fid': Column(title='FID', text=_share, summary=True, spread=True),
  'sfid': Column(title='sFID', text=_share),
  'is': Column(title='IS'),
  'is_adm': Column(title='IS (ADM)'),
  'kid': Column(title='KID', text='{:.5f}'.format),
  'cmmd': Column(title='CMMD'),
  'clip_score': Column(title='CLIP score'),
  'precision': Column(text=_share, summary=True),
  'recall': Column(text=_share, summary=True),
  'density': Column(text=_share, brief=False),
  'coverage': Column(text=_share, brief=False),
  'accuracy': Column(text=_share, summary=True),
  'copy_rate': Column(title='copies', text=_share, summary=True),
  'unique_rate': Column(title='unique', text=_share, brief=False),
  'exact': Column(summary=True, spread=True),
  'exact_error': Column(brief=False),
  'overall': Column(summary=True, spread=True),
  'overall_error': Column(brief=False),
  'single_object': Column(brief=False),
  'two_object': Column(brief=False),
  'counting': Column(brief=False),
  'colors': Column(brief=False),
  'position': Column(brief=False),
  'color_attr': Column(brief=False, summary=True),
  'occupied': Column(summary=True),
  'unrecognised': Column(summary=True),
  'clip': Column(summary=True),
  'clip_held_out': Column(summary=True),
  'preference': Column(summary=True),
  'preference_held_out': Column(summary=True),
  'images_per_second': Column(title='images/s', text=_speed),
  'max_probability': Column(summary=True),
  'delta_share': Column(brief=False, summary=True),
}
# The columns that tell rows apart.
NAMES = ('model', 'steps', 'guidance_scale')
