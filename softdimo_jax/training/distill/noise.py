"""Whether the noise on x_init drowns its tokens."""

import dataclasses
from typing import cast

import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from softdimo_jax.families.family import Family
from softdimo_jax.families.start import Start
from softdimo_jax.method import masking
from softdimo_jax.networks.call import call
from softdimo_jax.training.loop import Stage
from softdimo_jax.training.state import Frozen
from softdimo_jax.types import Params

# Embeddings of which the root mean square is taken, at least.
_EMBEDDINGS = 1024


def noise_and_signal(
  family: Family, teacher: Params, init: ml_collections.ConfigDict
) -> tuple[float, float]:
  """(standard deviation of the noise per entry, RMS of the tokens' embeddings).

  Both as they are added to each other: at the end of a ramp, after the
  generator's norms and the factor sqrt(1 - sigma^2).

  Args:
    family: of the generator.
    teacher: its parameters, on the host or on devices.
    init: section of a distillation.
  """
  start = Start.in_sampling(init)
  length, groups = family.token_shape
  tokens = np.random.default_rng(0).integers(
    family.vocab_size, size=(-(-_EMBEDDINGS // length), length, groups)
  )
  embeddings = family.embed(teacher, jnp.asarray(tokens))
  features = call(family.generator, teacher, embeddings, method='features')
  silence = jnp.zeros_like(features)
  clean = masking.mix_noise(features, silence, start.noise_scale)
  rms = jnp.sqrt(jnp.square(clean.astype(jnp.float32)).mean())
  unit = family.noise_unit(teacher, start.noise_unit)
  return float(start.noise_scale * unit), float(rms)


def watched(
  stage: Stage, family: Family, config: ml_collections.ConfigDict
) -> Stage:
  """A distillation that warns when it starts if its noise drowns the tokens.

  Args:
    stage: of any kind; others than distillations are returned as they are.
    family: of the generator.
    config: of the stage.
  """
  if config.kind != 'distill':
    return stage

  def read() -> Frozen:
    frozen = cast(Frozen, stage.frozen())
    noise, signal = noise_and_signal(family, frozen.teacher, config.init)
    if noise > signal:
      unit = config.init.noise_unit
      other = '' if unit == 'table' else " or set init.noise_unit='table'"
      logging.warning(
        'stage %s: init.noise_scale=%g with init.noise_unit=%r adds noise of '
        'standard deviation %.3g to token embeddings of RMS %.3g, which drowns '
        'the tokens; lower init.noise_scale%s',
        *(stage.name, config.init.noise_scale, unit, noise, signal, other),
      )
    return frozen

  return dataclasses.replace(stage, frozen=read)
