"""Our distillation step as the training loop compiles it, on one device."""

from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks.sizes import Size
from softdimo_jax import families
from softdimo_jax.convert.rule_weights import rule_params
from softdimo_jax.family import Family
from softdimo_jax.training.distill import Distiller
from softdimo_jax.training.state import Frozen, Params


def made_up_params(family: Family) -> Params:
  """Whole generator parameters by rule, the same in every process."""
  return rule_params(jax.eval_shape(family.init, jax.random.key(0)))


class JaxStep:
  """State of a distillation and its compiled step."""

  def __init__(
    self,
    size: Size,
    params: Params,
    *,
    fresh_sample: bool,
    auxiliary: Params | None = None,
    config: ConfigDict | None = None,
  ) -> None:
    """Compiles the step.

    Args:
      size: system and distillation.
      params: of all three networks.
      fresh_sample: the auxiliary learns from a fresh sample of the updated
        student, as the official code has it, or else from the student's own.
      auxiliary: parameters of the auxiliary, if others.
      config: instead of the size's distillation.
    """
    config = config or size.distillation
    config = config.copy_and_resolve_references()
    config.auxiliary.fresh_sample = fresh_sample
    self.config, self.family = config, families.build(size.model)
    distiller = Distiller.create(self.family, config)
    self.key = jax.random.key(0)
    self.state = jax.jit(distiller.init)(
      self.key, params, params if auxiliary is None else auxiliary
    )
    self.frozen = jax.device_put(Frozen(teacher=params))
    self.compiled = (
      jax.jit(distiller.step, donate_argnums=0)
      .lower(self.state, {}, self.frozen, self.key)
      .compile()
    )

  def __call__(self) -> dict[str, Any]:
    """One update; returns its metrics when they are there."""
    self.state, metrics = self.compiled(self.state, {}, self.frozen, self.key)
    jax.block_until_ready((self.state, metrics))
    return metrics

  def memory(self) -> int:
    """Bytes the compiler plans for: arguments, results and temporaries."""
    analysis = self.compiled.memory_analysis()
    return (
      analysis.argument_size_in_bytes
      + analysis.output_size_in_bytes
      + analysis.temp_size_in_bytes
      - analysis.alias_size_in_bytes
    )

  def student(self) -> Params:
    """Whole parameters of the student."""
    return self.family.merge(self.state.model.params, self.frozen.teacher)
