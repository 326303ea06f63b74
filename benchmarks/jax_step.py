"""Our distillation step as the training loop compiles it, on one device."""

import functools
from typing import Any

import jax
import ml_collections

from benchmarks.sizes import Size
from softdimo_jax import families
from softdimo_jax.convert.rule_weights import rule_params
from softdimo_jax.families.family import Family
from softdimo_jax.planning.flops import count_flops
from softdimo_jax.training.distill.step import Distiller
from softdimo_jax.training.state import Frozen
from softdimo_jax.types import Batch, Params


def synthetic_params(family: Family) -> Params:
  """Complete generator parameters by rule, the same in every process."""
  return rule_params(jax.eval_shape(family.init, jax.random.key(0)))


class JaxStep:
  """State of a distillation and its compiled step.

  Attributes:
    family: generator and tokenizer.
    flops: operations of a step without recomputation.
    forward_flops: operations of one forward pass of the generator on the batch.
  """

  def __init__(
    self,
    size: Size,
    params: Params,
    *,
    fresh_sample: bool,
    auxiliary: Params | None = None,
  ) -> None:
    """Creates the state; the step is compiled on first use.

    Args:
      size: system and distillation.
      params: of all three networks.
      fresh_sample: whether the auxiliary learns from a fresh sample of the
        updated student, as in the official code, or from the student's own.
      auxiliary: parameters of the auxiliary, if they differ.
    """
    config = size.distillation.copy_and_resolve_references()
    config.auxiliary.fresh_sample = fresh_sample
    self.family = families.build(size.model)
    distiller = Distiller.create(self.family, config)
    self.key = jax.random.key(0)
    self.batch = _batch(self.family, config)
    self.frozen = jax.device_put(Frozen(teacher=params))
    self.state = jax.jit(distiller.init)(
      self.key, params, params if auxiliary is None else auxiliary
    )
    self.step = jax.jit(distiller.step, donate_argnums=0)
    plain = size.model.copy_and_resolve_references()
    plain.generator.remat = 'none'
    plain = families.build(plain)
    self.flops = count_flops(
      Distiller.create(plain, config).step, *self._arguments
    )
    self.forward_flops = _forward_flops(plain, params, config.batch_size)

  @property
  def _arguments(self) -> tuple[Any, ...]:
    return self.state, self.batch, self.frozen, self.key

  @functools.cached_property
  def compiled(self) -> jax.stages.Compiled:
    """The step as one program."""
    return self.step.lower(*self._arguments).compile()

  def __call__(self) -> dict[str, Any]:
    """One update; returns its metrics once they are computed."""
    self.state, metrics = self.compiled(*self._arguments)
    jax.block_until_ready((self.state, metrics))
    return metrics

  def memory(self) -> int:
    """Bytes that the compiler plans for arguments, results and temporaries."""
    analysis = self.compiled.memory_analysis()
    return (
      analysis.argument_size_in_bytes
      + analysis.output_size_in_bytes
      + analysis.temp_size_in_bytes
      - analysis.alias_size_in_bytes
    )

  def student(self) -> Params:
    """Complete parameters of the student."""
    return self.family.merge(self.state.model.params, self.frozen.teacher)


def _batch(family: Family, config: ml_collections.ConfigDict) -> Batch:
  """Random labels and tokens of 'real' images; empty without a GAN."""
  if config.gan.weight == 0:
    return {}
  keys = jax.random.split(jax.random.key(1))
  shape = (config.batch_size, *family.token_shape)
  return {
    'label': jax.random.randint(keys[0], shape[:1], 0, family.null_label),
    'tokens': jax.random.randint(keys[1], shape, 0, family.vocab_size),
  }


def _forward_flops(family: Family, params: Params, batch_size: int) -> int:
  tokens = jax.ShapeDtypeStruct((batch_size, *family.token_shape), 'int32')
  labels = jax.ShapeDtypeStruct((batch_size,), 'int32')
  return count_flops(
    lambda *arguments: family.guided_logits(*arguments, 1),
    params,
    tokens,
    labels,
  )
