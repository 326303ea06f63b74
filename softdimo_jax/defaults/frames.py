"""Frames of whole configurations, and the variants of a configuration file."""

from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from softdimo_jax.defaults import shared, stages

# Variant of a configuration on ImageNet -> the stages that it trains.
_IMAGENET_STAGES = {
  'all': ('dimo', 'softdimo'),
  'dimo': ('dimo',),
  'gan': ('softdimo',),
  'gan_long': ('softdimo',),
  'tokenizer': ('tokenizer',),
  'teacher': ('teacher',),
}
# The same on encoded prompts.
PROMPTED_STAGES = {
  'all': ('dimo', 'softdimo'),
  'dimo': ('dimo',),
  'reward': ('softdimo',),
  'tteo': (),
}
# Changes to `softdimo`, for the paper's comparisons. Controls leave one of its
# two losses out.
CONTROLS = {
  'continued_dimo': {'gan': {'weight': 0.0}},
  'gan_only': {'divergence': {'weight': 0.0}},
}
# Gradients through something else than the expected embedding.
ESTIMATORS = ('gumbel', 'hard', 'sampled', 'reinforce')


def choose(
  file: str, variants: str, *kinds: tuple[Collection[str], str]
) -> tuple[str, ...]:
  """Resolves the variants of a configuration file, one of each kind.

  Args:
    file: its name, for messages.
    variants: names joined by commas.
    *kinds: (names, the default if none of them is given).

  Raises:
    ValueError: for an unknown name, or two names of one kind.
  """
  given = tuple(dict.fromkeys(variants.split(',')))
  known = [name for names, _ in kinds for name in names]
  for name in given:
    if name not in known:
      raise ValueError(
        f'variant {name!r} of {file} is unknown; choose from {", ".join(known)}'
      )
  chosen = []
  for names, default in kinds:
    found = [name for name in given if name in names]
    if len(found) > 1:
      raise ValueError(
        f'variants {found[0]!r} and {found[1]!r} of {file} exclude each other'
      )
    chosen += found or [default]
  return tuple(chosen)


def experiment(**changes: Any) -> ConfigDict:
  """What every run has; `changes` are the other sections, or replace these."""
  return ConfigDict(
    {
      'seed': 0,
      'mesh': shared.mesh(),
      'loop': shared.loop(),
      **changes,
    }
  )


def imagenet(name: str, variant: str, **changes: Any) -> ConfigDict:
  """A run on ImageNet at 256 pixels, tokenized in advance.

  Args:
    name: of the run, of its file in `configs/` and of its augmentation.
    variant: name of one part of the run, or 'all' for both distillations.
    **changes: model, teacher, dimo, softdimo, sampling, and further sections.

  Raises:
    ValueError: for an unknown variant.
  """
  (variant,) = choose(f'configs/{name}.py', variant, (_IMAGENET_STAGES, 'all'))
  config = experiment(
    name=name,
    stages=_IMAGENET_STAGES[variant],
    weights='converted',
    pretrained={'tokenizer': '', 'teacher': '', 'dimo': ''},
    data={
      # An image folder or a TFDS data set; only the stage `tokenizer` reads it.
      'name': 'imagenet2012',
      'dir': '',
      'split': '',
      'augment': name,
      'tokens': '',
    },
    tokenizer=stages.tokenizer(1e-4),
    **changes,
  )
  if variant == 'gan_long':
    config.softdimo.gan.weight = 200.0
    config.softdimo.optimizer.learning_rate = 5e-7
    config.softdimo.optimizer.weight_decay = 0.01
  return config


def prompted(
  variant: str,
  *,
  distillation: Mapping[str, Any],
  terms: Mapping[str, float],
  **changes: Any,
) -> ConfigDict:
  """A run on encoded prompts that distils a teacher trained elsewhere.

  Args:
    variant: a key of PROMPTED_STAGES.
    distillation: arguments of `defaults.distillation` for both stages.
    terms: the rewards of `softdimo` and their weights.
    **changes: name, model, sampling, tteo, and further sections.
  """
  config = experiment(
    stages=PROMPTED_STAGES[variant],
    weights='converted',
    pretrained={'tokenizer': '', 'text': '', 'teacher': '', 'dimo': ''},
    data={'prompts': '', 'vocabulary': shared.CLIP_VOCABULARY},
    teacher={'kind': 'teacher'},  # trained elsewhere
    dimo=stages.distillation('teacher', **distillation),
    softdimo=stages.distillation(
      'dimo', reward={'weight': 1.0}, terms=terms, **distillation
    ),
    rewards=shared.rewards(dtype='bfloat16', remat='full'),
    **changes,
  )
  del config.rewards.terms  # every stage has its own
  if variant == 'tteo':
    config.pretrained.softdimo = ''
  return config


def add_stages(
  config: ConfigDict, changes: Mapping[str, Mapping[str, Any]]
) -> None:
  """Appends stages like `softdimo`, from the same Di[M]O student.

  Args:
    config: of the run.
    changes: name of the stage -> what differs from `softdimo`.
  """
  for name, change in changes.items():
    config[name] = config.softdimo.copy_and_resolve_references()
    config[name].update(change)
  config.stages += tuple(changes)


def estimators(part: str) -> dict[str, Any]:
  """Changes to `softdimo`: other gradients of its `gan` or `reward`."""
  return {f'{name}_{part}': {part: {'relaxation': name}} for name in ESTIMATORS}


def shorten(config: ConfigDict) -> None:
  """Makes every stage too short to learn anything: for tests of the machinery.

  Scanned layers are rolled up (`unroll=1`), which compiles faster.
  """
  for name in config.stages:
    config[name].update(steps=20, batch_size=16)
    config[name].optimizer.warmup_steps = 2
    if config[name].kind == 'rectify':
      config[name].num_examples = 64
  for part in config.model.values():
    if 'unroll' in part:
      part.unroll = 1
  config.loop.update(log_every=5, checkpoint_every=10)
