"""Prompts of a run in free text: what generator, decoder and rewards read.

Training takes features from a cache; prompts of the commands that make images
go through the text tower. Where weights are made up by rule, prompts for
training are, too, and so is BERT's vocabulary: nothing is downloaded.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from softdimo_jax.convert.rule_weights import RULE
from softdimo_jax.data.batches import gathered_batches
from softdimo_jax.data.cache.prompts import EncodedPrompts, PromptCache
from softdimo_jax.data.cache.records import MANIFEST, module_facts
from softdimo_jax.data.prompts.text_tokens import CLIPTokenizer, load_byte_pairs
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import pretrained
from softdimo_jax.families.family import Family
from softdimo_jax.generation.text_encoder import TextEncoder
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.rewards import released
from softdimo_jax.types import Batch, Params

# Prompts that stand for a cache with weights by rule.
_MADE_UP = 64
# What a condition holds besides features of the text.
_NO_TEXT = ('micro', 'time')


@dataclasses.dataclass(frozen=True)
class Prompted:
  """Everything about the prompts of a run.

  Attributes:
    config: of the run: weights, pretrained, data, model, rewards.
    family: generator, tokenizer and text tower.
  """

  config: ml_collections.ConfigDict
  family: Family

  @property
  def _rule(self) -> bool:
    return self.config.weights == RULE

  @property
  def made_up(self) -> bool:
    """Whether training reads prompts that nobody wrote."""
    return self._rule and not self.config.data.prompts

  # Prompts to features.

  @functools.cached_property
  def tokenizer(self) -> CLIPTokenizer:
    """As the text tower was trained.

    Raises:
      UserError: if the vocabulary is not to be had, or is not the tower's.
    """
    how, where = self.config.model.prompt, self.config.data.vocabulary
    try:
      vocabulary = load_byte_pairs(where)
    except UserError as error:
      raise UserError(
        f"{error}; config.data.vocabulary is 'openai', a folder with "
        'vocab.json and merges.txt, or a Hub id'
      ) from error
    largest, rows = max(vocabulary.ids.values()), self.family.text.vocab_size
    if largest >= rows:
      raise UserError(
        f'config.data.vocabulary={where} has ids up to {largest}, the text '
        f'tower of config.model has {rows}'
      )
    return CLIPTokenizer(
      vocabulary=vocabulary,
      clean=how.clean,
      pad_id=how.pad_id,
      length=self.family.text.length,
    )

  @functools.cached_property
  def tower(self) -> Params:
    """Parameters of the text tower."""
    return pretrained.load(
      self.family, 'text', self.config.weights, self.config.pretrained.text
    )

  def ids(self, texts: Sequence[str]) -> np.ndarray:
    """Token ids int32 [N, T] of prompts; warns of those that are too long.

    Raises:
      UserError: for what is no prompt.
    """
    for text in texts:
      if not text.strip():
        raise UserError('a prompt is empty; say e.g. "a red cube on a table"')
      try:
        text.encode('utf-8')
      except UnicodeEncodeError as error:
        raise UserError(f'the prompt {text!r:.60} is not UTF-8 text') from error
    tokens = self.tokenizer(texts)
    warn_of_cut(int(tokens.cut.sum()), len(texts), self.family.text.length)
    return tokens.ids

  @functools.cached_property
  def encode(self) -> TextEncoder:
    """Token ids -> condition; keeps the tower on the devices."""
    return TextEncoder(self.family, self.tower)

  def prompt_ids(
    self, texts: Sequence[str], names: Iterable[str]
  ) -> dict[str, np.ndarray]:
    """Token ids int32 [B, T] of prompts, by the reward that reads them."""
    return self.rewards(names).captions(texts)

  def rewards(self, names: Iterable[str]) -> released.Rewards:
    """Released rewards of these names; holds no parameters.

    Raises:
      UserError: if weights or vocabularies are not to be had.
    """
    names = tuple(sorted(names))
    if names not in self._rewards:
      options = self.config.rewards.to_dict()
      if self._rule:
        options['weights'] = dict.fromkeys(options['weights'], RULE)
        options['bert_vocabulary'] = RULE  # else it is downloaded
      options['terms'] = dict.fromkeys(names, 1.0)
      self._rewards[names] = released.build(options)
    return self._rewards[names]

  @functools.cached_property
  def _rewards(self) -> dict[tuple[str, ...], released.Rewards]:
    """Those that were built already: official files take a while to read."""
    return {}

  # Prompts of the training.

  @property
  def facts(self) -> dict[str, Any]:
    """What a cache of this run's prompts says of itself, without prompts."""
    tower = self.family.text
    return {
      'length': tower.length,
      'features': {name: list(shape) for name, shape in self._shapes.items()},
      'tower': module_facts(tower, self.tower)
      | {'options': pretrained.meaningful_options(tower)},
      'tokens': {
        'clean': self.tokenizer.clean,
        'pad_id': self.tokenizer.pad_id,
        'vocabulary_sha256': _vocabulary_digest(self.tokenizer),
      },
      'null': self.config.model.prompt.null,
    }

  @functools.cached_property
  def cache(self) -> PromptCache:
    """Features on disk, of this run's text tower.

    Raises:
      UserError: if there are none, or they are another tower's.
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
    cache.check(self.facts)
    self.__dict__.pop('tower')  # large, and read for the comparison only
    return cache

  @functools.cached_property
  def null(self) -> TextCondition:
    """Condition of the unconditional branch, a batch of 1."""
    folder = pathlib.Path(self.config.data.prompts).expanduser()
    if self.made_up:
      return self._condition(_drawn_features(self._shapes, 1, seed=1))
    if self.config.data.prompts and (folder / MANIFEST).exists():
      return self._condition(PromptCache(folder).null.features)
    return self.encode(self.tokenizer([self.config.model.prompt.null]).ids)

  def batches(
    self,
    batch_size: int,
    seed: int,
    rewarded: Iterable[str],
    rows: np.ndarray | None = None,
  ) -> grain.DatasetIterator:
    """Endless shuffled batches of `text`, and of `prompt_ids` by reward.

    Args:
      batch_size: B.
      seed: of the permutations.
      rewarded: names of the rewards that read the prompts.
      rows: see `batches.gathered_batches`.
    """
    names = tuple(rewarded)
    tokenize = self.rewards(names).captions if names else None
    source = _MadeUp(self._shapes) if self.made_up else self.cache

    def gather(indices: np.ndarray) -> Batch:
      prompts = source.gather(indices)
      batch = {'text': self._condition(prompts.features)}
      return batch | (
        {'prompt_ids': tokenize(prompts.texts)} if tokenize else {}
      )

    return gathered_batches(
      len(source),
      gather,
      batch_size,
      seed,
      rows,
      grain.ReadOptions(num_threads=4, prefetch_buffer_size=16),
    )

  @property
  def _shapes(self) -> dict[str, tuple[int, ...]]:
    """Of the features, by name."""
    tower = self.family.text
    shapes = jax.eval_shape(
      lambda key, ids: self.family.encode_text(
        tower.init(key, ids)['params'], ids
      ),
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, tower.length), jnp.int32),
    )
    return {name: leaf.shape[1:] for name, leaf in features(shapes).items()}

  def _condition(self, found: dict[str, np.ndarray]) -> TextCondition:
    """Features with what else the generator reads."""
    batch = len(next(iter(found.values())))
    micro = None
    if self.family.micro:
      micro = np.tile(np.float32(self.family.micro), (batch, 1))
    return TextCondition(micro=micro, **found)


def features(condition: TextCondition) -> dict[str, Any]:
  """What of a condition comes from the text, by name."""
  return {
    field.name: getattr(condition, field.name)
    for field in dataclasses.fields(condition)
    if field.name not in _NO_TEXT and getattr(condition, field.name) is not None
  }


def warn_of_cut(num_cut: int, count: int, length: int) -> None:
  """One warning of prompts that are too long."""
  if num_cut:
    logging.warning(
      '%d of %d prompts are longer than the %d tokens that the text tower '
      'reads; their ends are cut off',
      num_cut,
      count,
      length,
    )


def _vocabulary_digest(tokenizer: CLIPTokenizer) -> str:
  vocabulary = tokenizer.vocabulary
  content = [sorted(vocabulary.ids.items()), list(vocabulary.merges)]
  return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class _MadeUp:
  """Stands for a prompt cache: fixed random features, counted prompts."""

  shapes: dict[str, tuple[int, ...]]

  def __len__(self) -> int:
    return _MADE_UP

  @functools.cached_property
  def _features(self) -> dict[str, np.ndarray]:
    return _drawn_features(self.shapes, _MADE_UP, seed=0)

  def gather(self, indices: np.ndarray) -> EncodedPrompts:
    return EncodedPrompts(
      texts=[f'made up prompt {index}' for index in indices],
      ids=np.zeros((len(indices), 0), np.int32),
      features={k: array[indices] for k, array in self._features.items()},
    )


def _drawn_features(
  shapes: dict[str, tuple[int, ...]], count: int, *, seed: int
) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(seed)
  return {
    name: rng.standard_normal((count, *shape), np.float32)
    for name, shape in shapes.items()
  }
