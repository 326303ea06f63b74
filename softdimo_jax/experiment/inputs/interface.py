"""What a run reads and is asked for, whatever form its data has."""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import grain
import jax
import ml_collections
import numpy as np

from softdimo_jax.data import batches
from softdimo_jax.errors import UserError
from softdimo_jax.families.family import Family
from softdimo_jax.networks.generators.condition import Condition, TextCondition
from softdimo_jax.rewards.scoring import Reward
from softdimo_jax.types import Batch, Params

# Token ids int [N, T] of prompts, or by the name of the reward that reads them.
PromptIds = np.ndarray | Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Draw:
  """How a stage draws its batches.

  Attributes:
    batch_size: B, over all processes.
    seed: of the permutations.
    rows: int [R], the rows of each batch that this process reads; None reads
      all of them.
  """

  batch_size: int
  seed: int
  rows: np.ndarray | None = None

  def arrays(self, arrays: Mapping[str, np.ndarray]) -> grain.DatasetIterator:
    """Endless shuffled batches of arrays with an equal first axis."""
    return batches.shuffled_batches(
      arrays, self.batch_size, self.seed, self.rows
    )

  def gathered(
    self,
    count: int,
    gather: Callable[[np.ndarray], Batch],
    read_options: grain.ReadOptions | None = None,
  ) -> grain.DatasetIterator:
    """Endless shuffled batches of `count` examples, gathered by index."""
    return batches.gathered_batches(
      count, gather, self.batch_size, self.seed, self.rows, read_options
    )


@dataclasses.dataclass(frozen=True)
class Conditions:
  """The labels or prompts that images are to show.

  Attributes:
    names: of each of the N conditions: its label, or its prompt.
    inputs: int [N] labels, or int [N, T] token ids of the prompts.
    encode: inputs -> condition, host arrays. Text features are large and
      computed on demand.
    prompt_ids: the prompts as the rewards read them; None for labels.
  """

  names: tuple[str, ...]
  inputs: np.ndarray
  encode: Callable[[np.ndarray], Condition]
  prompt_ids: PromptIds | None = None

  def __len__(self) -> int:
    return len(self.names)

  def take(self, index: np.ndarray) -> Condition:
    """The condition of int [B] of the N; an index may occur more than once."""
    rows, places = np.unique(index, return_inverse=True)
    encoded = self.encode(self.inputs[rows])
    return jax.tree.map(lambda array: array[places], encoded)

  def part(self, rows: slice) -> 'Conditions':
    """Some of the N."""
    cut = lambda array: array[rows]
    return dataclasses.replace(
      self,
      names=self.names[rows],
      inputs=cut(self.inputs),
      prompt_ids=jax.tree.map(cut, self.prompt_ids),
    )


@dataclasses.dataclass(frozen=True)
class Inputs(abc.ABC):
  """The data of a run in one form, and how its conditions are read.

  Attributes:
    config: of the run.
    family: generator, tokenizer and text tower.
    params: reads the parameters that a finished stage left, by its name.
  """

  config: ml_collections.ConfigDict
  family: Family
  params: Callable[[str], Params]

  @property
  def needed(self) -> frozenset[str]:
    """Stages without which this form of data cannot be read at all."""
    return frozenset()

  @abc.abstractmethod
  def validate(self) -> None:
    """Checks the fields that only this form of data has; reads no files.

    Raises:
      ValueError: naming the field and its allowed values.
    """

  def reward_names(self, earlier: Sequence[str]) -> tuple[str, ...]:
    """Rewards that a stage may name, given the stages before it."""
    return ()

  @abc.abstractmethod
  def check(self, kinds: Iterable[str], reads_tokens: bool) -> None:
    """Looks for the data before anything is trained or written.

    Args:
      kinds: of the stages still to be trained.
      reads_tokens: whether one of them reads the tokens of real images.

    Raises:
      UserError: for data that is missing or does not fit.
    """

  def images(self, draw: Draw) -> grain.DatasetIterator:
    """Batches of `image` float32 [B, H, W, C], and of `label` if there are any.

    Raises:
      UserError: if the data holds no images.
    """
    raise UserError('this configuration has no images to train on')

  @abc.abstractmethod
  def tokens(
    self, draw: Draw, rewards: Iterable[str] = ()
  ) -> grain.DatasetIterator:
    """Batches of the generator's condition, with `tokens` of real images.

    Args:
      draw: how.
      rewards: names of those that read `prompt_ids` of the batch.
    """

  @property
  def null(self) -> TextCondition | None:
    """The unconditional prompt, a batch of 1; None means the null class."""
    return None

  def rewards(self, names: Iterable[str]) -> dict[str, Reward]:
    """Rewards by name.

    Raises:
      UserError: if there are none of these names.
    """
    return {name: self._no_reward(name) for name in names}

  def reward_params(self, names: Iterable[str]) -> dict[str, Params]:
    """Parameters of rewards, by name; errors as `rewards`."""
    return {name: self._no_reward(name) for name in names}

  def prompt_ids(
    self, texts: Sequence[str], rewards: Iterable[str]
  ) -> PromptIds | None:
    """Prompts as these rewards read them; None where there are no prompts."""
    return None

  @abc.abstractmethod
  def conditions(
    self, requested: Iterable[int] | Iterable[str], rewards: Iterable[str] = ()
  ) -> Conditions:
    """Labels, or prompts as the generator and these rewards read them.

    Raises:
      UserError: for labels out of range and prompts that cannot be read.
    """

  def _no_reward(self, name: str) -> Reward:
    raise UserError(f'reward {name} needs prompts, but this run has classes')
