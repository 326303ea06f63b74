"""The step of every stage that trains one network on one loss."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import optax

from softdimo_jax.training import optim
from softdimo_jax.training.accumulation import Weighted, mean_of_parts
from softdimo_jax.training.state import TrainState
from softdimo_jax.types import Batch, Metrics, Params

# Metrics may be `Weighted`, and then have the weight of the loss as `WEIGHT`.
LossFn = Callable[
  [Params, Batch, Any, jax.Array], tuple[jax.Array, dict[str, Any]]
]
WEIGHT = 'weight'
RepairFn = Callable[[Params, Batch, jax.Array, jax.Array], Params]


@dataclasses.dataclass(frozen=True)
class SupervisedTrainer:
  """One network, one loss; holds no arrays.

  Attributes:
    loss: (params, batch, frozen, key) -> (float32 scalar, metrics).
    tx: optimiser.
    ema_decay: of the moving average, which later stages use.
    repair: optional (params, batch, key, step) -> params, after each update.
    accumulation: parts of a batch whose gradients are averaged.
  """

  loss: LossFn
  tx: optax.GradientTransformationExtraArgs
  ema_decay: float
  repair: RepairFn | None = None
  accumulation: int = 1

  @classmethod
  def create(
    cls,
    loss: LossFn,
    config: ml_collections.ConfigDict,
    repair: RepairFn | None = None,
  ) -> 'SupervisedTrainer':
    """The trainer from the configuration of a stage."""
    tx = optim.optimizer(config.optimizer, config.steps)
    # Only stages whose loss is a mean over examples have the field.
    accumulation = config.get('accumulation', 1)
    return cls(loss, tx, config.ema_decay, repair, accumulation)

  def init(self, params: Params) -> TrainState:
    """State at step 0."""
    return TrainState.create(optim.create_role(params, self.tx, ema=True))

  def step(
    self, state: TrainState, batch: Batch, frozen: Any, key: jax.Array
  ) -> tuple[TrainState, Metrics]:
    """One update.

    Args:
      state: donated by the caller.
      batch: passed to the loss.
      frozen: passed to the loss; untrained parameters, or None.
      key: of the stage; the index of the step is folded in.

    Returns:
      (state, float32 scalars).
    """
    key = jax.random.fold_in(key, state.step)

    def of_part(part: Batch, key: jax.Array) -> tuple[Any, dict[str, Any]]:
      gradient, metrics = jax.grad(self.loss, has_aux=True)(
        state.model.params, part, frozen, key
      )
      weight = metrics.pop(WEIGHT, None)
      return gradient if weight is None else Weighted(gradient, weight), metrics

    gradient, metrics = mean_of_parts(of_part, batch, key, self.accumulation)
    model, update_metrics = optim.update(
      state.model,
      gradient,
      self.tx,
      step=state.step,
      ema_decay=self.ema_decay,
    )
    if self.repair is not None:
      params = self.repair(model.params, batch, key, state.step)
      model = dataclasses.replace(model, params=params)
    return TrainState(state.step + 1, model), metrics | update_metrics
