"""Arithmetic of a step, counted from its jaxpr.

XLA's cost analysis counts the body of a scan once; here it is multiplied by the
number of iterations. Only matrix products and convolutions are counted, as in
published MFUs.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def count_flops(function: Callable[..., Any], *args: Any) -> int:
  """Floating-point operations of one call; a multiply-add counts as two.

  Args:
    function: function to trace; it is not run.
    *args: arrays or their shapes.
  """
  return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == 'dot_general':
      total += _product(equation)
    elif name == 'conv_general_dilated':
      total += _convolution(equation)
    elif name == 'cond':
      total += max(_count(branch.jaxpr) for branch in params['branches'])
    else:
      times = params['length'] if name == 'scan' else 1
      total += times * sum(map(_count, inner_jaxprs(params)))
  return total


def inner_jaxprs(params: dict[str, Any]) -> Iterator[Jaxpr]:
  """Yields the jaxprs among the parameters of a primitive."""
  for value in params.values():
    if isinstance(value, ClosedJaxpr):
      yield value.jaxpr
    elif isinstance(value, Jaxpr):
      yield value


def _product(equation: Any) -> int:
  (contracted, _), _ = equation.params['dimension_numbers']
  left = equation.invars[0].aval.shape
  depth = math.prod(left[axis] for axis in contracted)
  return 2 * depth * math.prod(equation.outvars[0].aval.shape)


def _convolution(equation: Any) -> int:
  """Multiplications by the zeros of dilation are counted as well."""
  kernel = equation.invars[1].aval.shape
  out_axis = equation.params['dimension_numbers'].rhs_spec[0]
  depth = math.prod(kernel) // kernel[out_axis]
  output = math.prod(equation.outvars[0].aval.shape)
  return 2 * depth * output // equation.params['batch_group_count']
