"""Results of the Soft-Di[M]O paper, to be shown beside those of a run.

The curves are measured from the vector graphics of its ICLR 2026 poster, with
errors below 0.005. The poster does not name the teachers; MaskBit and MaskGen
follow from the text and the level of the values. Absolute values depend on
data, metric and number of images: only order, ratios and the shape of the
curves can be compared.
"""

from typing import Any

import numpy as np

from softdimo_jax.evaluation.report.plots import Curve


def _curve(
  title: str, y_label: str, thousands: list[int], **series: list[float]
) -> Curve:
  steps = 1000 * np.array(thousands)
  names = {'soft': 'Soft-Di[M]O', 'gumbel': 'Gumbel-ST'}
  names |= {'gan_only': 'GAN only', 'continued': 'Di[M]O continued'}
  return Curve(
    title=title,
    x_label='step',
    y_label=y_label,
    series={names[k]: (steps, np.array(v)) for k, v in series.items()},
  )


FID = _curve(
  'The paper (MaskBit, ImageNet): FID-5k from Di[M]O',
  'FID-5k',
  [2, 4, 6, 10, 14, 20, 30, 40, 50],
  soft=[8.185, 8.047, 8.032, 7.864, 7.711, 7.726, 7.701, 7.671, 7.578],
  gumbel=[8.247, 8.267, 8.249, 8.225, 8.148, 8.139, 8.084, 7.947, 8.083],
  gan_only=[8.089, 7.965, 7.906, 7.784, 7.778, 7.802, 7.912, 8.204, 8.280],
  continued=[8.247, 8.306, 8.296, 8.296, 8.328, 8.336, 8.255, 8.253, 8.367],
)
GENEVAL = _curve(
  'The paper (MaskGen): GenEval while tuning on rewards',
  'GenEval, overall',
  [3, 10, 15, 20, 25, 50],
  soft=[0.433, 0.452, 0.466, 0.473, 0.478, 0.509],
  gumbel=[0.431, 0.440, 0.447, 0.458, 0.468, 0.495],
)


def _ends(curve: Curve, metric: str, gumbel: str) -> list[dict[str, Any]]:
  """The last points of a curve as rows."""
  models = {'Soft-Di[M]O': 'softdimo', 'Gumbel-ST': gumbel}
  models |= {'GAN only': 'gan_only', 'Di[M]O continued': 'continued_dimo'}
  return [
    {'model': models[name], 'steps': 1, metric: float(values[-1])}
    for name, (_, values) in curve.series.items()
  ]


# Rows as in results.json; each table has its own data and metric.
TABLES: tuple[list[dict[str, Any]], ...] = (
  # ImageNet-256, MaskBit. `softdimo` is the one of the longer training; before
  # it: FID 1.96, precision 0.84, recall 0.55.
  [
    {'model': name, 'steps': n, 'fid': fid, 'precision': p, 'recall': r}
    for name, n, fid, p, r in (
      ('teacher', 64, 1.66, 0.81, 0.60),
      ('dimo', 1, 2.89, 0.87, 0.49),
      ('softdimo', 1, 1.56, 0.81, 0.60),
    )
  ],
  # GenEval, MaskGen-L. Test-time search is TTEO with best-of-N.
  [
    {'model': name, 'steps': n, 'overall': overall}
    for name, n, overall in (
      ('teacher', 16, 0.48),
      ('dimo', 1, 0.42),
      ('softdimo', 1, 0.51),
      ('softdimo_tteo', 1, 0.63),
    )
  ],
  _ends(FID, 'fid', 'gumbel_gan'),
  _ends(GENEVAL, 'overall', 'gumbel_reward'),
)
