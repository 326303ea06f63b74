"""Which function computes the arrays of which fixture."""

from collections.abc import Callable

from softdimo_jax.parity import (
  benchmarks,
  generators,
  google,
  metrics,
  preprocess,
  samplers,
  schedules,
  tokenizers,
)
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays

Compute = Callable[[Fixture], Arrays]

# By kind: what the official class begins with, and the function.
_KINDS: dict[str, tuple[str, Compute]] = {
  'maskgit_transformer': (
    'MaskGit_src/Network/transformer.py',
    generators.maskgit_transformer,
  ),
  'maskgit_vqgan': (
    'MaskGit_src/Network/Taming/',
    tokenizers.maskgit_vqgan,
  ),
  'maskgit_sampler': (
    'MaskGit_src/Trainer/vit.py',
    samplers.maskgit_sampler,
  ),
  'maskbit_generator': (
    'modeling/bert.py',
    generators.maskbit_generator,
  ),
  'maskbit_tokenizer': (
    'modeling/conv_vqgan.py',
    tokenizers.maskbit_tokenizer,
  ),
  'maskbit_sampler': (
    'modeling/modules/sampling.py',
    samplers.maskbit_sampler,
  ),
  'google_transformer': (
    'maskgit/nets/maskgit_transformer.py',
    google.google_transformer,
  ),
  'google_tokenizer': (
    'maskgit/nets/vqgan_tokenizer.py',
    tokenizers.google_tokenizer,
  ),
  'class_schedules': ('mask schedules', schedules.class_schedules),
  'metrics': ('toshas/torch-fidelity', metrics.metrics_of_sets),
  'preprocess': ('ReNO', preprocess.image_transforms),
  'geneval_rules': ('evaluate_image', benchmarks.geneval_rules),
}


def find(fixture: Fixture) -> Compute | None:
  """Function for the fixture's official class, or None if none covers it.

  The name decides where the class does not: NAME, or NAME with a suffix.
  """
  for source, compute in _KINDS.values():
    if fixture.official.startswith(source):
      return compute
  for kind, (_, compute) in _KINDS.items():
    if fixture.name.startswith(kind):
      return compute
  return None
