"""Curves of the Soft-Di[M]O paper, to be shown beside those of a run.

Measured from the vector graphics of its ICLR 2026 poster, with errors below
0.005. The poster does not name the teachers; MaskBit and MaskGen follow from
the text and the level of the values. Absolute values depend on data, metric and
number of images: only the order and the shape of the curves can be compared.
"""

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
