"""The training loop of every stage, from its last checkpoint to its end."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import grain
import jax
import numpy as np
from absl import logging

from softdimo_jax.errors import UserError
from softdimo_jax.runtime import distributed, memory, sharding
from softdimo_jax.runtime.checkpoint import Checkpoints
from softdimo_jax.runtime.curves import MetricWriter, SilentWriter
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.runtime.progress import Progress, SilentProgress
from softdimo_jax.training.points import Evaluate, Points
from softdimo_jax.training.state import TrainState
from softdimo_jax.types import Batch, Metrics, Params

StepFn = Callable[
  [TrainState, Batch, Params, jax.Array],
  tuple[TrainState, dict[str, jax.Array]],
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """A stage as the loop sees it.

  Attributes:
    name: also the name of its folder.
    steps: number of steps.
    step: pure function (state, batch, frozen, key) -> (state, metrics).
    init: start -> state at step 0; runs under jit.
    start: loads the argument of `init`, parameters or a key. Called once, so
      that the host's copy of large parameters is freed before the first step.
    frozen: loads the parameters that the step does not train, or None.
    batches: opens the iterator over batches of host arrays, with this
      process's rows; None for data-free stages.
    key: random key of the stage.
    headline: metrics on the progress line.
    evaluate: measures a state for the points of `LoopOptions.evaluate_every`;
      None for stages without.
  """

  name: str
  steps: int
  step: StepFn
  init: Callable[[Any], TrainState]
  start: Callable[[], Any]
  frozen: Callable[[], Params | None]
  batches: Callable[[], grain.DatasetIterator] | None
  key: jax.Array
  headline: tuple[str, ...] = ()
  evaluate: Evaluate | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopOptions:
  """Intervals and limits of the loop.

  Attributes:
    log_every: steps between points of the curves (means over these steps).
    checkpoint_every: steps between checkpoints.
    max_skipped: consecutive skipped updates after which the run gives up.
    split_frozen: whether frozen parameters are sharded like the state; if not,
      every device has a copy.
    evaluate_every: steps between evaluations of the state; 0 for none.
    keep_best: metric of the evaluations by which the best state is stored
      beside the last one; empty for none.
  """

  log_every: int
  checkpoint_every: int
  max_skipped: int
  split_frozen: bool = True
  evaluate_every: int = 0
  keep_best: str = ''


def compile_once(
  step: StepFn, layout: TrainState, mesh: jax.sharding.Mesh
) -> StepFn:
  """Jits a step, for the loop as for the planner.

  Args:
    step: of a Stage.
    layout: shardings of the state, which is donated and returned with them.
    mesh: devices.
  """
  replicated = jax.NamedSharding(mesh, sharding.REPLICATED)
  return jax.jit(step, donate_argnums=0, out_shardings=(layout, replicated))


def run(
  stage: Stage,
  folder: pathlib.Path,
  mesh: jax.sharding.Mesh,
  options: LoopOptions,
  notice: PreemptionNotice,
) -> TrainState:
  """Trains to the end of the stage, from its last checkpoint if there is one.

  Interruptions do not change the resulting parameters, not by a bit: keys
  derive from the step's index, and the data position is saved with the state.

  Args:
    stage: what to train.
    folder: for checkpoints and metrics; absolute.
    mesh: devices; batches are split over its `data` axis.
    options: intervals and limits.
    notice: checked after every step.

  Returns:
    The final state.

  Raises:
    Preempted: after saving, if a signal arrived.
    UserError: if files cannot be read or written, or updates are not finite.
  """
  checkpoints = Checkpoints(
    folder / 'checkpoints', interval=options.checkpoint_every
  )
  try:
    with jax.set_mesh(mesh):
      return _run(stage, folder, mesh, options, notice, checkpoints)
  finally:
    with notice.saving():
      checkpoints.close()


def _run(
  stage: Stage,
  folder: pathlib.Path,
  mesh: jax.sharding.Mesh,
  options: LoopOptions,
  notice: PreemptionNotice,
  checkpoints: Checkpoints,
) -> TrainState:
  iterator = stage.batches() if stage.batches else None
  state, window, layout = _state(stage, iterator, mesh, checkpoints)
  # state.step is read only here: in the loop it would wait for the device.
  first = int(jax.device_get(state.step))
  frozen = sharding.place(stage.frozen(), mesh, split=options.split_frozen)
  key = sharding.put_replicated(stage.key, mesh)
  step_fn = compile_once(stage.step, layout, mesh)
  writer, progress = _outputs(stage, folder, first)
  points = _points(stage, folder, options)
  if first == 0:
    points.take(0, state, writer)
  compiled = None
  for step in range(first + 1, stage.steps + 1):
    rows = next(iterator) if iterator is not None else {}
    with jax.transfer_guard('disallow'):  # except explicit transfers
      batch = sharding.put_batch(rows, mesh)
      if compiled is None:  # The first batch determines the shapes.
        compiled = step_fn.lower(state, batch, frozen, key).compile()
        memory.return_freed()
      state, metrics = compiled(state, batch, frozen, key)
    window.append(metrics)
    points.take(step, state, writer)
    last = step == stage.steps
    if step % options.log_every == 0 or last:
      # The newest metrics are still being computed and join the next point,
      # unless there are no others, as after resumption.
      wait = last or len(window) == 1
      ready, window = (window, []) if wait else (window[:-1], window[-1:])
      ready = jax.device_get(ready)
      scalars = _mean(ready)
      writer.write_scalars(step, scalars)
      shown = {k: scalars[k] for k in stage.headline} | points.newest
      if last:
        shown['peak memory/GB'] = memory.peak() / 1e9
      progress.update(step, shown)
      _check_finite(stage, ready, options.max_skipped)
      if last:
        _tell_skipped(stage, ready[-1])
    stop = notice.poll()
    if checkpoints.due(step) or last or stop:
      writer.flush()  # A checkpoint without its points would lose them.
      with notice.saving():
        checkpoints.save(step, state, iterator, window)
    if stop:
      notice.stop()
  writer.close()
  return state


def _state(
  stage: Stage,
  iterator: grain.DatasetIterator | None,
  mesh: jax.sharding.Mesh,
  checkpoints: Checkpoints,
) -> tuple[TrainState, list[Metrics], TrainState]:
  """(newest or first state, metrics of its window, its shardings).

  No sharded array is ever materialised in full on one device.
  """
  start = stage.start()
  shapes = jax.eval_shape(stage.init, start)
  layout = sharding.layout(shapes, mesh)
  if checkpoints.latest_step() is not None:
    del start  # Large models do not fit beside the state.
    like = sharding.abstract(shapes, layout)
    return *checkpoints.restore(like, iterator), layout
  start = sharding.place(start, mesh)
  return jax.jit(stage.init, out_shardings=layout)(start), [], layout


def _outputs(
  stage: Stage, folder: pathlib.Path, first: int
) -> tuple[MetricWriter | SilentWriter, Progress | SilentProgress]:
  """Curves and progress line; silent except in the first process."""
  if not distributed.is_primary():
    return SilentWriter(), SilentProgress()
  writer = MetricWriter(folder, first)
  return writer, Progress(stage.name, first, stage.steps)


def _points(stage: Stage, folder: pathlib.Path, options: LoopOptions) -> Points:
  return Points(
    stage.evaluate,
    options.evaluate_every,
    stage.steps,
    options.keep_best,
    folder,
  )


def _mean(values: list[Metrics]) -> dict[str, float]:
  return {
    name: float(np.mean([point[name] for point in values]))
    for name in sorted(values[0])
  }


def _check_finite(stage: Stage, values: list[Metrics], most: int) -> None:
  """Raises UserError if too many updates in a row were skipped.

  Half of the stage is too many at any length: a short one must not end as done
  without having learnt.
  """
  most = min(most, stage.steps // 2)
  for metric in values[0]:
    if not metric.endswith('skipped_in_a_row'):
      continue
    row = max(int(point[metric]) for point in values)
    if row > most:
      raise UserError(
        f'stage {stage.name}: updates have not been finite for {row} steps '
        f'({metric}); lower its learning rate and run again'
      )


def _tell_skipped(stage: Stage, values: Metrics) -> None:
  """Says how many updates of a finished stage were skipped, if any."""
  for metric, value in values.items():
    if metric.split('/')[-1] == 'skipped' and value > 0:
      logging.warning(
        'stage %s: %d updates in %d steps were skipped, since they were not '
        'finite (%s)',
        stage.name,
        value,
        stage.steps,
        metric,
      )
