"""Checks that both steps compute the same, with every random draw removed.

x_init is fully masked and without noise, tokens are the arg max, all of them
are masked again, and all classes share one embedding. The passes, losses,
gradients and updates of the step remain.
"""

import jax
import numpy as np

from benchmarks.jax_step import JaxStep
from benchmarks.sizes import Size
from benchmarks.torch_step import TorchStep
from softdimo_jax import families
from softdimo_jax.errors import UserError
from softdimo_jax.types import Params

TOLERANCE = 1e-3  # for float32 sums in another order, after an update
_STEPS = 2


def check(size: Size, params: Params) -> dict[str, tuple[float, float]]:
  """Losses and gradient norms of two steps, (ours, torch's).

  Raises:
    UserError: if they or the updated parameters differ.
  """
  size = _without_draws(size)
  params = _with_one_class(params, size.model.generator.vocab_size)
  # With equal networks the initial divergence would be zero.
  family = families.build(size.model)
  trained, _ = family.split(params)
  auxiliary = family.merge(jax.tree.map(lambda x: 1.1 * x, trained), params)
  ours = JaxStep(size, params, fresh_sample=True, auxiliary=auxiliary)
  theirs = TorchStep(size, params, auxiliary=auxiliary)
  compared = {}
  for step in range(1, _STEPS + 1):
    metrics, expected = ours(), theirs()
    for name, value in expected.items():
      compared[f'step {step} {name}'] = float(metrics[name]), value
  for name, (value, expected) in compared.items():
    if not np.isclose(value, expected, rtol=TOLERANCE):
      raise UserError(
        f'{name} is {value:.6g} here and {expected:.6g} in torch: the two '
        'steps do not compute the same'
      )
  # An update moves an entry by the learning rate; Adam amplifies rounding
  # errors of the smallest gradients to a fraction of that.
  distance = theirs.student.distance(ours.student())
  if distance > size.distillation.optimizer.learning_rate:
    raise UserError(
      f'after {_STEPS} updates parameters differ by {distance:.2g}: the two '
      'steps do not compute the same'
    )
  return compared


def _without_draws(size: Size) -> Size:
  model = size.model.copy_and_resolve_references()
  model.generator.dropout = 0.0
  config = size.distillation.copy_and_resolve_references()
  config.update(dropout=False, temperature=0.0)
  config.init.update(mask_ratio=1.0, noise_scale=0.0)
  config.mask.update(low=1.0, high=1.0)
  return Size(model, config, size.sampling)


def _with_one_class(params: Params, vocab_size: int) -> Params:
  table = np.array(params['tok_emb'])
  table[vocab_size + 1 :] = table[vocab_size + 1]
  return {**params, 'tok_emb': table}
