"""Schedules of the official samplers: counts and guidance of every step.

Everything runs on the host at trace time, in float32, because the counts of
the official implementations depend on its rounding. Cosines and arc cosines
are rounded from float64, so they are the same on every machine.
"""

from collections.abc import Callable

import numpy as np

GUIDANCE_SCHEDULES = ('constant', 'linear', 'open_linear', 'cosine')
_HALF_PI = np.float32(np.pi / 2)
# Official lower bound of the share of masked entries.
_SMALLEST_SHARE = 1e-6


def _rounded(
  function: Callable[[np.ndarray], np.ndarray], x: np.ndarray
) -> np.ndarray:
  return function(x.astype(np.float64)).astype(np.float32)


# Share of revealed entries as a function of the progress in [0, 1] ...
_RISING = {
  'root': np.sqrt,
  'linear': lambda x: x,
  'square': np.square,
}
# ... and share of masked entries.
_FALLING = {
  'cosine': lambda x: _rounded(np.cos, x * _HALF_PI),
  'arccos': lambda x: _rounded(np.arccos, x) / _HALF_PI,
}
SCHEDULES = (*_RISING, *_FALLING)


def masked_share(schedule: str, progress: np.ndarray) -> np.ndarray:
  """Share of entries that are still masked.

  Args:
    schedule: 'root', 'linear', 'square', 'cosine' or 'arccos'.
    progress: in [0, 1], any shape.

  Returns:
    float32, same shape as progress.

  Raises:
    ValueError: for an unknown schedule.
  """
  progress = np.asarray(progress, np.float32)
  if schedule in _RISING:
    return 1 - _RISING[schedule](progress)
  if schedule in _FALLING:
    return _FALLING[schedule](progress)
  raise ValueError(
    f'unmasking schedule {schedule!r} is unknown; choose one of {SCHEDULES}'
  )


def revealed_counts(
  schedule: str, progress: np.ndarray, entries: int
) -> np.ndarray:
  """Entries revealed so far, rounded down (Halton-MaskGIT's two samplers).

  The progress of the confidence sampler is `linspace(0, 1, S)`, that of the
  Halton sampler (k + 1) / S; both reveal at least k + 1 entries by step k.

  Returns:
    int64, same shape as progress.
  """
  progress = np.asarray(progress, np.float32)
  if schedule in _RISING:
    share = _RISING[schedule](progress)
  else:
    share = 1 - masked_share(schedule, progress)
  return (share * np.float32(entries)).astype(np.int64)


def halton_counts(steps: int, entries: int) -> np.ndarray:
  """Entries revealed after each step of the Halton sampler, int64 [S]."""
  counts = revealed_counts('arccos', progress_after(steps), entries)
  return np.maximum(counts, np.arange(1, steps + 1))


def linspace(start: float, stop: float, steps: int) -> np.ndarray:
  """`torch.linspace`: float32 [steps], each computed from the nearer end."""
  first, last = np.float32(start), np.float32(stop)
  step = (last - first) / np.float32(max(steps - 1, 1))
  index = np.arange(steps, dtype=np.float32)
  from_start = first + step * index
  from_stop = last - step * (np.float32(steps - 1) - index)
  return np.where(index < max(steps // 2, 1), from_start, from_stop)


def progress_after(steps: int) -> np.ndarray:
  """(k + 1) / S of every step k, float32 [S]."""
  return (np.arange(1, steps + 1) / steps).astype(np.float32)


def unmask_counts(schedule: str, steps: int, entries: int) -> np.ndarray:
  """Entries revealed at each step (official MaskGit `adap_sche`).

  Args:
    schedule: 'root', 'linear', 'square', 'cosine' or 'arccos'.
    steps: S, 1 <= S <= entries.
    entries: L * G.

  Returns:
    int64 [S], positive, with sum `entries`.

  Raises:
    ValueError: for an unknown schedule or S > entries.
  """
  if not 1 <= steps <= entries:
    raise ValueError(
      f'{steps} sampling steps for {entries} entries: each step must reveal at '
      f'least one entry, so choose between 1 and {entries} steps'
    )
  value = masked_share(schedule, linspace(1, 0, steps))
  if steps == 1:
    return np.array([entries])
  counts = np.rint(value / value.sum() * np.float32(entries)).astype(np.int64)
  counts = np.maximum(counts, 1)
  counts[-1] += entries - counts.sum()
  # With almost as many steps as entries the remainder becomes negative in the
  # official code; taking it from the largest steps keeps every step positive.
  while counts[-1] < 1:
    counts[np.argmax(counts[:-1])] -= 1
    counts[-1] += 1
  return counts


def maskbit_share(schedule: str, progress: np.ndarray) -> np.ndarray:
  """MaskBit's `get_masking_ratio`: `masked_share` clipped to [1e-6, 1]."""
  share = masked_share(schedule, progress)
  return np.clip(share, _SMALLEST_SHARE, 1, dtype=np.float32)


def maskbit_counts(schedule: str, steps: int, entries: int) -> np.ndarray:
  """Entries that stay masked after each step of MaskBit's sampler.

  floor(share * entries), but at least one and fewer than before. Once a single
  entry is left, the next count is zero, and the official code then uses the
  largest score as its threshold, which masks all entries again. This happens
  only with many steps for few entries, not in the released settings.

  Args:
    schedule: see `masked_share`.
    steps: S >= 1.
    entries: L * G.

  Returns:
    int64 [S].
  """
  share = maskbit_share(schedule, progress_after(steps))
  left, counts = entries, []
  for target in np.floor(share * np.float32(entries)).astype(int):
    left = min(max(target, 1), left - 1) or entries
    counts.append(left)
  return np.array(counts)


def falling_counts(
  share: np.ndarray, entries: int, masked: np.ndarray | int
) -> np.ndarray:
  """Entries that stay masked after each step of MaskGen and Meissonic.

  floor(share * entries), but fewer than before and at least one, and none
  after the last step. As in Meissonic's code, the minimum of one also applies
  if none were masked: a known entry is then drawn again.

  Args:
    share: float32 [S], masked share of all entries.
    entries: L * G.
    masked: int or int [B], masked entries of the input.

  Returns:
    int64 [S], or [S, B].
  """
  left, counts = np.asarray(masked), []
  for target in np.floor(np.float32(entries) * share).astype(int):
    left = np.maximum(1, np.minimum(left - 1, target))
    counts.append(left)
  return np.stack([*counts[:-1], np.zeros_like(left)])


def google_share(
  schedule: str, progress: np.ndarray, entries: np.ndarray | int
) -> np.ndarray:
  """Share of masked tokens in Google's MaskGIT (`mask_schedule.schedule`).

  Args:
    schedule: 'cosine', 'uniform', 'powX' for a number X (1 - progress^X),
      'log' or 'exp'.
    progress: in [0, 1], broadcastable against `entries`.
    entries: number of tokens masked in the input; 'log' and 'exp' need at
      least two.

  Returns:
    float32 in [1e-6, 1].

  Raises:
    ValueError: for an unknown schedule.
  """
  progress = np.asarray(progress, np.float32)
  with np.errstate(divide='ignore', invalid='ignore'):
    octaves = np.log2(np.asarray(entries, np.float32))
    if schedule == 'cosine':
      share = masked_share('cosine', progress)
    elif schedule == 'uniform':
      share = 1 - progress
    elif schedule.startswith('pow'):
      share = 1 - progress ** np.float32(_exponent(schedule))
    elif schedule == 'log':
      share = -np.log2(progress) / octaves
    elif schedule == 'exp':
      share = 1 - np.exp2(-octaves * (1 - progress))
    else:
      raise ValueError(_unknown_google_schedule(schedule))
  return np.clip(share, _SMALLEST_SHARE, 1, dtype=np.float32)


def _exponent(schedule: str) -> float:
  try:
    return float(schedule.removeprefix('pow'))
  except ValueError as error:
    raise ValueError(_unknown_google_schedule(schedule)) from error


def _unknown_google_schedule(schedule: str) -> str:
  return (
    f'schedule {schedule!r} is unknown; choose cosine, uniform, log, exp or '
    'powX with a number X'
  )


def google_counts(
  schedule: str, steps: int, masked: np.ndarray | int, *, first_step: int = 0
) -> np.ndarray:
  """Tokens that stay masked after each step of Google's parallel decoding.

  floor(share * masked), but fewer than before and at least one (the result is
  the prediction of the last step, before its re-masking).

  Args:
    schedule: see `google_share`.
    steps: S, official `num_iter`.
    masked: number of tokens masked in the input: an integer, or int [B].
    first_step: official `start_iter`; earlier steps are omitted.

  Returns:
    int64 [S - first_step], or [S - first_step, B].
  """
  masked = np.asarray(masked)
  left, counts = masked, []
  for progress in progress_after(steps)[first_step:]:
    share = google_share(schedule, progress, masked)
    target = np.floor(share * masked.astype(np.float32)).astype(int)
    fewer = np.maximum(1, np.minimum(left - 1, target))
    left = np.minimum(left, fewer)  # samples without masks get none
    counts.append(left)
  return np.stack(counts)


def guidance_scales(
  schedule: str, guidance_scale: float, steps: int, *, power: float = 1.0
) -> np.ndarray:
  """Guidance of each step as s in u + s (c - u).

  At step k, s - 1 is its full value times 1 ('constant'), k / (S - 1)
  ('linear', MaskGit), k / S, which stays below 1 ('open_linear', MaskBit's
  linear), or (1 - cos(pi (k / S)^power)) / 2 ('cosine', MaskBit). A single
  step has full guidance.

  Args:
    schedule: one of GUIDANCE_SCHEDULES.
    guidance_scale: s.
    steps: S.
    power: exponent of 'cosine'; MaskBit's `scale_pow`.

  Returns:
    float32 [S].

  Raises:
    ValueError: for an unknown schedule.
  """
  if schedule not in GUIDANCE_SCHEDULES:
    raise ValueError(
      f'guidance schedule {schedule!r} is unknown; choose one of '
      f'{GUIDANCE_SCHEDULES}'
    )
  step = np.arange(steps)
  if schedule == 'constant' or steps == 1:
    ramp = np.ones(steps)
  elif schedule == 'linear':
    ramp = step / (steps - 1)
  elif schedule == 'open_linear':
    ramp = step / steps
  else:
    ramp = (1 - np.cos(np.pi * (step / steps) ** power)) / 2
  return (1 + (guidance_scale - 1) * ramp).astype(np.float32)


def halton_order(side: int) -> np.ndarray:
  """Cells of a side x side grid in the order of the Halton sequence.

  Point i = 1, 2, ... of the sequence with bases 2 (row) and 3 (column) lies in
  a cell; cells are ordered by their first visit (Halton-MaskGIT's
  `build_halton_mask`).

  Returns:
    int64 [side^2, 2], rows and columns.
  """
  points = 10_000
  while True:
    index = np.arange(1, points + 1)
    unit = np.stack([_radical_inverse(base, index) for base in (2, 3)], -1)
    cells = np.floor(unit.astype(np.float32) * np.float32(side)).astype(int)
    first = np.unique(cells, axis=0, return_index=True)[1]
    if len(first) == side**2:
      return cells[np.sort(first)]
    points *= 2  # too few points to visit every cell


def _radical_inverse(base: int, index: np.ndarray) -> np.ndarray:
  """Radical inverse of positive indices: float64 in (0, 1)."""
  numerator, denominator = np.zeros_like(index), 1
  while index.any():
    index, digit = np.divmod(index, base)
    numerator, denominator = numerator * base + digit, denominator * base
  return numerator / denominator
