"""Free-text prompts, for the generator, the decoder and the rewards.

Training reads text features from a cache; commands that generate images run the
text tower. With `config.weights = 'rule'`, training prompts and BERT's
vocabulary are synthetic like the weights, so nothing is downloaded.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from softdimo_jax.convert.rule_weights import RULE
from softdimo_jax.data.cache.prompts import PromptCache
from softdimo_jax.data.cache.records import MANIFEST, module_fingerprint
from softdimo_jax.data.prompts.cut import warn_of_cut
from softdimo_jax.data.prompts.text_tokens import (
  CLEANINGS,
  CLIPTokenizer,
  load_byte_pairs,
)
from softdimo_jax.errors import UserError
from softdimo_jax.experiment.checks import between, choice
from softdimo_jax.experiment.inputs.interface import (
  Conditions,
  Draw,
  Inputs,
  PromptIds,
)
from softdimo_jax.experiment.inputs.synthetic import (
  RandomFeatures,
  random_features,
)
from softdimo_jax.generation.text_encoder import TextEncoder
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.rewards import Rewards, build
from softdimo_jax.rewards.released import RELEASED
from softdimo_jax.rewards.scoring import Reward
from softdimo_jax.types import Batch, Params

# Fields of a condition that are not text features.
_NO_TEXT = ('micro', 'time')


class Prompts(Inputs):
  """Text-to-image data: prompts whose text features are in a prompt cache."""

  @property
  def _rule(self) -> bool:
    return self.config.weights == RULE

  @property
  def synthetic(self) -> bool:
    """Whether training reads random features instead of a cache."""
    return self._rule and not self.config.data.prompts

  @property
  def needed(self) -> frozenset[str]:
    """See `Inputs.needed`."""
    return frozenset({'tokenizer', 'text'})

  def validate(self) -> None:
    """See `Inputs.validate`."""
    config, family = self.config, self.family
    if not family.reads_text:
      raise ValueError(
        'data.prompts: the generator of config.model reads labels'
      )
    prompt, rows = config.model.prompt, family.text_tower.vocab_size
    choice('model.prompt.clean', prompt.clean, CLEANINGS)
    between('model.prompt.pad_id', prompt.pad_id, 0, rows - 1)
    for name in config.stages:
      self._validate_stage(name, config[name])
    if not any(config.tteo.terms.values()):
      raise ValueError('tteo.terms is empty or has weights of 0 only')
    for name in config.tteo.terms:
      choice('tteo.terms', name, self.reward_names(()))

  def _validate_stage(
    self, name: str, stage: ml_collections.ConfigDict
  ) -> None:
    if stage.kind != 'distill':
      raise ValueError(
        f'{name}.kind={stage.kind!r} needs images; prompts alone train '
        "'distill'"
      )
    if stage.gan.weight > 0:
      raise ValueError(
        f'{name}.gan.weight={stage.gan.weight}: the GAN needs tokens of real '
        'images, which a prompt cache does not contain; set it to 0'
      )

  def reward_names(self, earlier: Sequence[str]) -> tuple[str, ...]:
    """See `Inputs.reward_names`: the released rewards."""
    return tuple(RELEASED)

  def check(self, kinds: Iterable[str], reads_tokens: bool) -> None:
    """See `Inputs.check`."""
    if list(kinds) and not self.synthetic:
      _ = self.cache

  # Encoding of prompts.

  @functools.cached_property
  def tokenizer(self) -> CLIPTokenizer:
    """The tokenizer that the text tower was trained with.

    Raises:
      UserError: if the vocabulary is missing, or is not the tower's.
    """
    prompt, where = self.config.model.prompt, self.config.data.vocabulary
    try:
      vocabulary = load_byte_pairs(where)
    except UserError as error:
      raise UserError(
        f"{error}; config.data.vocabulary is 'openai', a folder with "
        'vocab.json and merges.txt, or a Hub id'
      ) from error
    largest = max(vocabulary.ids.values())
    rows = self.family.text_tower.vocab_size
    if largest >= rows:
      raise UserError(
        f'config.data.vocabulary={where} has ids up to {largest}, but the text '
        f'tower of config.model has {rows} ids'
      )
    return CLIPTokenizer(
      vocabulary=vocabulary,
      clean=prompt.clean,
      pad_id=prompt.pad_id,
      length=self.family.text_tower.length,
    )

  @functools.cached_property
  def tower(self) -> Params:
    """Parameters of the text tower."""
    return self.params('text')

  def ids(self, texts: Sequence[str]) -> np.ndarray:
    """Token ids int32 [N, T] of prompts; warns if prompts are truncated.

    Raises:
      UserError: for a prompt that is empty or not UTF-8.
    """
    for text in texts:
      if not text.strip():
        raise UserError('a prompt is empty; say e.g. "a red cube on a table"')
      try:
        text.encode('utf-8')
      except UnicodeEncodeError as error:
        raise UserError(f'the prompt {text!r:.60} is not UTF-8 text') from error
    tokens = self.tokenizer(texts)
    num_cut, length = int(tokens.cut.sum()), self.family.text_tower.length
    warn_of_cut(num_cut, len(texts), length, 'the text tower')
    return tokens.ids

  @functools.cached_property
  def encode(self) -> TextEncoder:
    """Token ids -> condition; holds the text tower on the devices."""
    return TextEncoder(self.family, self.tower)

  def conditions(
    self, requested: Iterable[str], rewards: Iterable[str] = ()
  ) -> Conditions:
    """Conditions of prompts; see `Inputs.conditions`."""
    texts = tuple(requested)
    ids, prompt_ids = self.ids(texts), self.prompt_ids(texts, rewards)
    # Reading `encode` reports a missing text tower at once.
    return Conditions(texts, ids, self.encode, prompt_ids)

  def prompt_ids(
    self, texts: Sequence[str], rewards: Iterable[str]
  ) -> PromptIds | None:
    """See `Inputs.prompt_ids`; None if there are no rewards."""
    names = tuple(rewards)
    return self.released(names).captions(texts) if names else None

  def rewards(self, names: Iterable[str]) -> dict[str, Reward]:
    """See `Inputs.rewards`."""
    names = tuple(names)
    return dict(self.released(names).rewards) if names else {}

  def reward_params(self, names: Iterable[str]) -> dict[str, Params]:
    """See `Inputs.reward_params`."""
    return self.released(names).load_params()

  def released(self, names: Iterable[str]) -> Rewards:
    """Released rewards by name, without parameters.

    Raises:
      UserError: if weights or vocabularies are missing.
    """
    names = tuple(sorted(names))
    if names not in self._released:
      options = self.config.rewards.to_dict()
      if self._rule:
        options['weights'] = dict.fromkeys(options['weights'], RULE)
        options['bert_vocabulary'] = RULE  # avoids a download
      options['terms'] = dict.fromkeys(names, 1.0)
      self._released[names] = build(options)
    return self._released[names]

  @functools.cached_property
  def _released(self) -> dict[tuple[str, ...], Rewards]:
    """Rewards built so far; official files are slow to read."""
    return {}

  # Training prompts.

  @property
  def fingerprint(self) -> dict[str, Any]:
    """Fields of a prompt cache of this run, apart from the prompts."""
    tower = self.family.text_tower
    return {
      'length': tower.length,
      'features': {name: list(shape) for name, shape in self._shapes.items()},
      'tower': module_fingerprint(tower, self.tower),
      'tokens': {
        'clean': self.tokenizer.clean,
        'pad_id': self.tokenizer.pad_id,
        'vocabulary_sha256': _vocabulary_digest(self.tokenizer),
      },
      'null': self.config.model.prompt.null,
    }

  @functools.cached_property
  def cache(self) -> PromptCache:
    """Cached features of this run's text tower.

    Raises:
      UserError: if there are none, or they are of another text tower.
    """
    folder = pathlib.Path(self.config.data.prompts).expanduser()
    if not self.config.data.prompts:
      raise UserError(
        'config.data.prompts names no prompt cache: write one (python -m '
        'softdimo_jax.encode_prompts --config=CONFIG --prompts=FILE '
        '--out=CACHE) and give --config.data.prompts=CACHE, or try the run '
        'with --config.weights=rule'
      )
    if folder.is_file():
      raise UserError(
        f'config.data.prompts={folder} is a file; encode it (python -m '
        f'softdimo_jax.encode_prompts --config=CONFIG --prompts={folder} '
        '--out=CACHE) and give --config.data.prompts=CACHE'
      )
    cache = PromptCache(folder)
    cache.check(self.fingerprint)
    vars(self).pop('tower')  # large, and only needed for this check
    return cache

  @functools.cached_property
  def null(self) -> TextCondition:
    """See `Inputs.null`."""
    folder = pathlib.Path(self.config.data.prompts).expanduser()
    if self.synthetic:
      return self._condition(random_features(self._shapes, 1, seed=1))
    if self.config.data.prompts and (folder / MANIFEST).exists():
      return self._condition(PromptCache(folder).null.features)
    return self.encode(self.tokenizer([self.config.model.prompt.null]).ids)

  def tokens(
    self, draw: Draw, rewards: Iterable[str] = ()
  ) -> grain.DatasetIterator:
    """Batches of `text`, and of `prompt_ids` by reward, without tokens."""
    names = tuple(rewards)
    tokenize = self.released(names).captions if names else None
    source = RandomFeatures(self._shapes) if self.synthetic else self.cache

    def gather(indices: np.ndarray) -> Batch:
      prompts = source.gather(indices)
      batch: Batch = {'text': self._condition(prompts.features)}
      if tokenize:
        batch['prompt_ids'] = tokenize(prompts.texts)
      return batch

    return draw.gathered(
      len(source),
      gather,
      grain.ReadOptions(num_threads=4, prefetch_buffer_size=16),
    )

  @property
  def _shapes(self) -> dict[str, tuple[int, ...]]:
    """Shapes of the text features of one prompt, by name."""
    tower = self.family.text_tower
    shapes = jax.eval_shape(
      lambda key, ids: self.family.encode_text(
        tower.init(key, ids)['params'], ids
      ),
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, tower.length), jnp.int32),
    )
    return {name: leaf.shape[1:] for name, leaf in features(shapes).items()}

  def _condition(self, features: Mapping[str, Any]) -> TextCondition:
    """Text features with the other inputs of the generator."""
    batch = len(next(iter(features.values())))
    micro: Any = None
    if self.family.micro:
      micro = np.tile(np.array(self.family.micro, np.float32), (batch, 1))
    return TextCondition(micro=micro, **features)


def features(condition: TextCondition) -> dict[str, Any]:
  """The text features of a condition, by name."""
  return {
    field.name: getattr(condition, field.name)
    for field in dataclasses.fields(condition)
    if field.name not in _NO_TEXT and getattr(condition, field.name) is not None
  }


def _vocabulary_digest(tokenizer: CLIPTokenizer) -> str:
  vocabulary = tokenizer.vocabulary
  content = [sorted(vocabulary.ids.items()), list(vocabulary.merges)]
  return hashlib.sha256(json.dumps(content).encode()).hexdigest()
