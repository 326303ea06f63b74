"""What a stage is: its settings, the stages that it reads, and a digest.

Stages with the same digest have the same parameters. The record of a stage is
stored in its folder when its training begins.
"""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import ml_collections

from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config as config_lib
from softdimo_jax.experiment import ranges
from softdimo_jax.runtime import json_records
from softdimo_jax.training.distill.reward_term import used_terms

_FILE = 'stage.json'
_KEEP_BEST = 'loop.keep_best'


@dataclasses.dataclass(frozen=True)
class Record:
  """What the parameters of a stage depend on.

  Attributes:
    name: of the stage; part of its random keys.
    settings: fields of the configuration by their path, and the version of the
      stage's kind.
    reads: digests of the stages that it reads, by name.
  """

  name: str
  settings: dict[str, Any]
  reads: dict[str, str]

  @property
  def digest(self) -> str:
    """SHA-256 in hexadecimal."""
    # A whole number is the same setting as int and as float.
    settings = {
      k: float(v) if type(v) is int else v for k, v in self.settings.items()
    }
    return json_records.digest([self.name, settings, self.reads])

  @property
  def steps(self) -> int:
    """Length of the stage."""
    return self.settings[f'{self.name}.steps']

  def lengthens(self, other: 'Record') -> bool:
    """Whether this stage begins with all steps of the other one.

    Only the decay of a learning rate depends on the length of a stage.
    """
    steps = {f'{self.name}.steps': other.steps}
    decays = {
      value
      for field, value in self.settings.items()
      if field.endswith('optimizer.decay')
    }
    return (
      decays <= {'constant'}
      and not self.settings.get(_KEEP_BEST)  # the best is not continued
      and self.steps > other.steps
      and dataclasses.replace(self, settings=self.settings | steps) == other
    )

  def difference(self, other: 'Record') -> str:
    """What distinguishes this stage from the other one, which was before."""
    changed = config_lib.difference(other.settings, self.settings)
    names = sorted(self.reads.keys() | other.reads.keys())
    read = [x for x in names if self.reads.get(x) != other.reads.get(x)]
    return changed or f'it reads {", ".join(read)}'


class Read(NamedTuple):
  """What a stage reads beside its own section.

  Attributes:
    stages: whose parameters it reads.
    sections: parts of the configuration.
    without: fields of these parts that it does not read.
    revision: added to the version of its kind, where only some stages of the
      kind got another meaning.
  """

  stages: tuple[str, ...]
  sections: tuple[str, ...]
  without: tuple[str, ...] = ()
  revision: int = 0


def reads(config: ml_collections.ConfigDict, name: str) -> Read:
  """What a stage of the configuration reads."""
  _, read = _KINDS[config[name].kind]
  return read(config, name)


def records(
  config: ml_collections.ConfigDict, *, version: int | None = None
) -> dict[str, Record]:
  """Records of the stages of a configuration, by name.

  Args:
    config: of a run.
    version: of every kind; by default the present ones.
  """
  flat, made = config_lib.meaning(config.to_dict()), {}
  for name in config.stages:
    read = reads(config, name)
    settings = _part(flat, (name, *read.sections), read.without)
    settings[f'{name}.seed'] = config[name].get('seed', config.seed)
    current, _ = _KINDS[config[name].kind]
    settings[f'version of {name}'] = version or current + read.revision
    made[name] = Record(name, settings, _digests(flat, made, read.stages))
  return made


def fingerprint(config: ml_collections.ConfigDict, stage: str) -> str:
  """Digest of everything that the images of a stage's generator depend on.

  Args:
    config: of a run.
    stage: trained or pretrained.
  """
  flat, made = config_lib.meaning(config.to_dict()), records(config)
  parts = (stage, 'model', 'data', 'weights', 'sampling', 'tteo', 'rewards')
  rewards = config.get('tteo', {}).get('terms', ())
  read = _digests(flat, made, (stage, *_text(config), *rewards))
  return Record(stage, _part(flat, parts), read).digest


def load(folder: pathlib.Path) -> Record | None:
  """The record in the folder of a stage, if there is one.

  Raises:
    UserError: if the file is damaged.
  """
  path = folder / _FILE
  if not path.exists():
    return None
  try:
    stored = json_records.read(path)
    settings, read = dict(stored['settings']), dict(stored['reads'])
    return Record(str(stored['name']), settings, read)
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{path} is damaged ({error}); restore it, or delete {folder} to train '
      'the stage anew'
    ) from error


def check(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
  """Checks that a stored configuration is that of the trained stages.

  Another number of heads fits the same parameters, and makes other images.
  Paths may differ, because files move; stages of versions that made others of
  the same settings are not compared.

  Args:
    workdir: of the run.
    config: as stored there.

  Raises:
    UserError: naming the fields that differ, or that cannot be read.
  """
  path = workdir / config_lib.CONFIG_FILE
  try:
    ranges.validate(config)
    made = records(config)
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    reason = ' '.join(str(error).split())
    raise UserError(
      f'{path} is not the configuration of a run ({reason}); restore it'
    ) from error
  for name, record in made.items():
    stored, version = load(workdir / name), f'version of {name}'
    if (
      stored is None
      or stored.settings.get(version) != (record.settings[version])
    ):
      continue
    before, now = (
      {
        k: v
        for k, v in x.settings.items()
        if k.startswith(('model.', f'{name}.'))
      }
      for x in (stored, record)
    )
    if changed := config_lib.difference(before, now):
      raise UserError(
        f'{path} is not the configuration that stage {name} was trained with: '
        f'{changed}; restore it'
      )


def write(folder: pathlib.Path, record: Record) -> None:
  """Stores the record in the folder of its stage."""
  stored = {'digest': record.digest, **dataclasses.asdict(record)}
  json_records.write(folder / _FILE, stored)


def _part(
  flat: dict[str, Any],
  sections: tuple[str, ...],
  without: tuple[str, ...] = (),
) -> dict[str, Any]:
  return {
    field: value
    for field, value in flat.items()
    if field not in without
    and any(field == x or field.startswith(f'{x}.') for x in sections)
  }


def _digests(
  flat: dict[str, Any], made: dict[str, Record], names: Iterable[str]
) -> dict[str, str]:
  """Digests of trained and pretrained stages, by name."""
  given = lambda name: [flat.get('weights'), flat.get(f'pretrained.{name}')]
  return {
    name: made[name].digest
    if name in made
    else json_records.digest(given(name))
    for name in names
  }


# One function per kind of stage.

_IMAGES = ('model.tokenizer', 'model.generator.length', 'data')
# Images depend on all of `data` but these.
_NO_IMAGES = ('data.tokens', 'data.text_stage')
_TOKENS = ('model', 'data', 'weights')


def _text(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """The stage that encodes the prompts."""
  if 'prompts' in config.data:
    return ('text',)
  return (config.data.text_stage,) if 'text_stage' in config.data else ()


def _classifier(config: ml_collections.ConfigDict, name: str) -> Read:
  del config, name
  return Read((), (*_IMAGES, 'classifier'), _NO_IMAGES)


def _tokenizer(config: ml_collections.ConfigDict, name: str) -> Read:
  del config, name
  return Read((), _IMAGES, _NO_IMAGES)


def _contrastive(config: ml_collections.ConfigDict, name: str) -> Read:
  del config, name
  sections = (*_IMAGES, 'model.text', 'image_tower')
  return Read(('tokenizer',), sections, _NO_IMAGES)


def _teacher(config: ml_collections.ConfigDict, name: str) -> Read:
  del name
  return Read(('tokenizer', *_text(config)), _TOKENS)


def _preference(config: ml_collections.ConfigDict, name: str) -> Read:
  stages = ('tokenizer', *_text(config), 'teacher', config[name].start)
  return Read(stages, (*_TOKENS, 'image_tower', 'sampling.plan'))


def _distill(config: ml_collections.ConfigDict, name: str) -> Read:
  read = _trained(config, name)
  if not config.loop.get('keep_best'):
    return read
  # The student is the best by a curve that these measure.
  measures = (_KEEP_BEST, 'evaluation.every', 'evaluation.curve_images')
  judges = tuple(x for x in ('tokenizer', 'features') if x in config.stages)
  stages = tuple(dict.fromkeys((*read.stages, *judges)))
  # 1: the best student is never the start.
  return Read(stages, (*read.sections, *measures), read.without, revision=1)


def _trained(config: ml_collections.ConfigDict, name: str) -> Read:
  """What the training of a distillation reads."""
  stage = config[name]
  text, rewards = _text(config), used_terms(stage.reward)
  stages, sections = (*text, 'teacher', stage.start), ('model',)
  if text or stage.gan.weight > 0:
    sections = _TOKENS
  if 'prompts' in config.data:
    return Read(stages, (*sections, 'rewards') if rewards else sections)
  if text or stage.gan.weight > 0:
    stages += ('tokenizer', *rewards)
  return Read(stages, sections)


def _rectify(config: ml_collections.ConfigDict, name: str) -> Read:
  stages = (*_text(config), 'teacher', config[name].start)
  if _text(config):
    stages += ('tokenizer',)
  return Read(stages, (*_TOKENS, 'sampling.plan'))


# Kind of stage: (version, what it reads). A version is raised when the same
# settings get another meaning: stages of before are then trained anew.
_KINDS = {
  'classifier': (1, _classifier),
  'tokenizer': (1, _tokenizer),
  'teacher': (1, _teacher),
  'distill': (1, _distill),
  'contrastive': (2, _contrastive),  # 2: equal captions are no negatives
  'preference': (2, _preference),  # 2: equal pictures are no losers
  'rectify': (1, _rectify),
}
