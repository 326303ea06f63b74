"""Samplers over a `logits_fn`: one step, and iterative decoding.

All iterative samplers share one loop, `decode`, which follows a `Plan`: how
many entries stay masked after each step, and the guidance, temperature and
noise of each step. MaskGit, MaskBit, MaskGen, Meissonic, Google's MaskGIT and
the Halton order differ in their plans only. The noise is an argument:
`gumbel_noise(keys, ...)` draws it, tests pass the official one.

    plan = maskbit_plan(64, 512, guidance_scale=8.1, choice_temperature=7.8)
    noise = gumbel_noise(keys, start.shape[1:], num_codes)
    decode(logits_fn, plan, start, noise, num_codes=..., mask_id=...).tokens

`multi_step_sample` does all of this from an all-masked image; `make_plan`
builds a plan by name.
"""

from softdimo_jax.method.sampling.draw import (
  image_keys,
  keep_likely,
  sample_tokens,
)
from softdimo_jax.method.sampling.loop import (
  Decoding,
  LogitsFn,
  Noise,
  Steps,
  decode,
  gumbel_noise,
)
from softdimo_jax.method.sampling.maskgen import (
  MASKGEN_GUIDANCE_SCHEDULES,
  maskgen_plan,
)
from softdimo_jax.method.sampling.meissonic import meissonic_plan
from softdimo_jax.method.sampling.multi_step import (
  PLANS,
  make_plan,
  multi_step_sample,
)
from softdimo_jax.method.sampling.plans import (
  ORDERS,
  Plan,
  google_plan,
  halton_plan,
  halton_priority,
  maskbit_plan,
  maskgit_plan,
)
from softdimo_jax.method.sampling.schedules import (
  GUIDANCE_SCHEDULES,
  guidance_scales,
  halton_order,
  unmask_counts,
)

__all__ = [
  'GUIDANCE_SCHEDULES',
  'MASKGEN_GUIDANCE_SCHEDULES',
  'ORDERS',
  'PLANS',
  'Decoding',
  'LogitsFn',
  'Noise',
  'Plan',
  'Steps',
  'decode',
  'google_plan',
  'guidance_scales',
  'gumbel_noise',
  'halton_order',
  'halton_plan',
  'halton_priority',
  'image_keys',
  'keep_likely',
  'make_plan',
  'maskbit_plan',
  'maskgen_plan',
  'maskgit_plan',
  'meissonic_plan',
  'multi_step_sample',
  'sample_tokens',
  'unmask_counts',
]
