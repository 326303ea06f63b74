"""Couplings of x_init and samples of the teacher, for the stage `rectify`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.experiment.inputs import Scenes
from softdimo_jax.experiment.run import Run
from softdimo_jax.families.start import Start
from softdimo_jax.generation.tokens import multi_step_tokens
from softdimo_jax.method import masking, sampling
from softdimo_jax.networks.generators.condition import Condition
from softdimo_jax.runtime.batched import Batched
from softdimo_jax.types import Params


def couplings(run: Run, name: str) -> dict[str, Any]:
  """Host arrays: `initial` and `tokens` [N, L, G], and their condition.

  The teacher samples `tokens` from `initial`, an x_init without noise: its
  random codes are given, and the sampler fills in the masked entries.

  Args:
    run: its inputs provide the conditions: labels in equal numbers, or captions
      drawn at random.
    name: stage of kind `rectify`.
  """
  config, family, null = run.config[name], run.family, run.null
  start = Start.in_sampling(config.init)
  entries = int(np.prod(family.token_shape))
  masked = int(masking.mask_count(jnp.float32(start.mask_ratio), entries))
  options = run.config.sampling.copy_and_resolve_references()
  options.steps = config.teacher_steps
  options.guidance_scale = config.guidance_scale

  def draw(
    params: Params, items: tuple[jax.Array, Condition]
  ) -> tuple[jax.Array, jax.Array]:
    keys, condition = items
    initial_keys, keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    initial = jax.vmap(lambda key: family.initial_tokens(key, 1, start)[0])(
      initial_keys
    )
    tokens = multi_step_tokens(
      family,
      params,
      keys,
      condition,
      options=options,
      null=null,
      start=(initial, masked),
    )
    return initial, tokens

  condition = _conditions(run, name)
  keys = sampling.image_keys(run.seed(name), config.num_examples)
  initial, tokens = Batched(draw)(
    run.params('teacher'), (keys, condition), config.batch_size
  )
  kind = 'text' if family.reads_text else 'label'
  return {'initial': initial, 'tokens': tokens, kind: condition}


def _conditions(run: Run, name: str) -> Condition:
  """Conditions of the couplings, as host arrays."""
  count = run.config[name].num_examples
  if not isinstance(run.inputs, Scenes):
    return np.arange(count, dtype=np.int32) % run.family.null_label
  ids = run.inputs.captioned.prompt_ids
  rng = np.random.default_rng(run.seed(name))
  return run.inputs.encode(ids[rng.integers(len(ids), size=count)])
