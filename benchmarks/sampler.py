"""Times one step against many, in turns, and the decoder separately.

  python -m benchmarks.sampler --size=medium --steps=8 --steps=64

The one-step program is the student's: one forward pass, no guidance. The others
are the teacher's sampling in the given numbers of steps with its own guidance,
which doubles the passes unless its scale is 1.
"""

import functools
import math
import statistics

import jax
import jax.numpy as jnp
from absl import flags

from benchmarks import jax_step, options, sizes, timing
from softdimo_jax import families
from softdimo_jax.convert.rule_weights import rule_params
from softdimo_jax.errors import UserError
from softdimo_jax.generation.tokens import (
  decode_tokens,
  multi_step_tokens,
  one_step_tokens,
)
from softdimo_jax.method.sampling import image_keys
from softdimo_jax.runtime import cli

_OPTIONS = options.Options.define('digits')
flags.adopt_module_key_flags(options)
_STEPS = flags.DEFINE_multi_integer(
  'steps', [4, 16], "Steps of the teacher's sampling.", lower_bound=1
)
_DECODE = flags.DEFINE_bool('decode', True, 'Also time the decoder.')


def main(argv: list[str]) -> None:
  """Times and prints."""
  cli.no_arguments(argv)
  size = sizes.get(
    _OPTIONS.size.value,
    batch_size=_OPTIONS.batch_size.value,
    dtype=_OPTIONS.dtype.value,
  )
  entries = math.prod(families.build(size.model).token_shape)
  if max(_STEPS.value) > entries:
    raise UserError(
      f'--steps={max(_STEPS.value)}: an image of size {_OPTIONS.size.value} '
      f'has {entries} entries to fill in, and each step fills at least one'
    )
  programs = _programs(size)
  times = timing.alternate(
    programs, _OPTIONS.rounds.value, clock=_OPTIONS.clock.value
  )
  seconds = {name: statistics.median(values) for name, values in times.items()}
  batch = size.distillation.batch_size
  decoding = seconds.get('decoder', 0.0)
  device = jax.devices()[0].device_kind
  print(f'{_OPTIONS.size.value}, batch {batch}, {device}')
  print(
    'program     ms/call  images/s  one step is   with decoding: images/s  x'
  )
  for name, value in seconds.items():
    if name == 'decoder':
      continue
    whole = value + decoding
    print(
      f'{name:10} {value * 1e3:8.1f} {batch / value:9.2f} '
      f'{timing.ratio(times, "one step", name):9.1f} x'
      + (
        f'{batch / whole:19.2f} {whole / (seconds["one step"] + decoding):8.1f}'
        if decoding
        else ''
      )
    )
  if decoding:
    print(f'decoder    {decoding * 1e3:8.1f} {batch / decoding:9.2f}')
  _OPTIONS.write(
    {
      'size': _OPTIONS.size.value,
      'batch_size': batch,
      'dtype': _OPTIONS.dtype.value,
      'guidance_scale': size.sampling.guidance_scale,
      'device': device,
      'seconds': times,
    }
  )


def _programs(size: sizes.Size):
  family = families.build(size.model)
  params = jax.device_put(jax_step.synthetic_params(family))
  batch, key = size.distillation.batch_size, jax.random.key(0)
  keys = image_keys(0, batch)
  labels = jnp.arange(batch) % family.null_label

  def program(tokens_fn):
    compiled = jax.jit(functools.partial(tokens_fn, family))
    return lambda: compiled(params, keys, labels).block_until_ready()

  programs = {
    'one step': program(
      functools.partial(
        one_step_tokens, init=size.distillation.init, temperature=1.0
      )
    )
  }
  for steps in dict.fromkeys(_STEPS.value):
    sampling = size.sampling.copy_and_resolve_references()
    sampling.steps = steps
    programs[f'{steps} steps'] = program(
      functools.partial(multi_step_tokens, options=sampling)
    )
  if _DECODE.value:
    tokenizer = jax.device_put(
      rule_params(jax.eval_shape(family.init_tokenizer, key))
    )
    tokens = jax.random.randint(
      key, (batch, *family.token_shape), 0, family.vocab_size
    )
    decode = jax.jit(functools.partial(decode_tokens, family))
    programs['decoder'] = lambda: decode(tokenizer, tokens).block_until_ready()
  return programs


if __name__ == '__main__':
  cli.run(main)
