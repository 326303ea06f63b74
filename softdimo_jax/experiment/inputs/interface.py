"""Interface of the data of a run, common to all forms of data."""

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

# Token ids int [N, T] of prompts: one array, or one per reward by its name.
PromptIds = np.ndarray | Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Draw:
  """How a stage draws its batches.

  Attributes:
    batch_size: global batch size B.
    seed: seed of the permutations.
    rows: int [R], rows of each batch that this process reads; None reads all.
  """

  batch_size: int
  seed: int
  rows: np.ndarray | None = None

  def arrays(self, arrays: Mapping[str, np.ndarray]) -> grain.DatasetIterator:
    """Endless shuffled batches of arrays with the same first axis."""
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
  """Labels or prompts of images to generate.

  Attributes:
    names: the N labels, as text, or the N prompts.
    inputs: int [N] labels, or int [N, T] token ids of the prompts.
    encode: inputs -> condition of host arrays; called on demand, because text
      features are large.
    prompt_ids: token ids of the prompts for the rewards; None for labels.
  """

  names: tuple[str, ...]
  inputs: np.ndarray
  encode: Callable[[np.ndarray], Condition]
  prompt_ids: PromptIds | None = None

  def __len__(self) -> int:
    return len(self.names)

  def take(self, index: np.ndarray) -> Condition:
    """The condition at `index`, int [B] in [0, N); indices may repeat."""
    rows, places = np.unique(index, return_inverse=True)
    encoded = self.encode(self.inputs[rows])
    return jax.tree.map(lambda array: array[places], encoded)

  def part(self, rows: slice) -> 'Conditions':
    """The conditions in a slice."""
    cut = lambda array: array[rows]
    return dataclasses.replace(
      self,
      names=self.names[rows],
      inputs=cut(self.inputs),
      prompt_ids=jax.tree.map(cut, self.prompt_ids),
    )


@dataclasses.dataclass(frozen=True)
class Inputs(abc.ABC):
  """The data of a run, and the encoding of its conditions.

  Attributes:
    config: configuration of the run.
    family: generator, tokenizer and text tower.
    params: returns the parameters of a finished or pretrained stage by name.
  """

  config: ml_collections.ConfigDict
  family: Family
  params: Callable[[str], Params]

  @property
  def needed(self) -> frozenset[str]:
    """Stages that this form of data always needs."""
    return frozenset()

  @property
  def judges(self) -> tuple[str, ...]:
    """Stages that measure the images of this form of data."""
    return ()

  @abc.abstractmethod
  def validate(self) -> None:
    """Checks the fields of this form of data; reads no files.

    Raises:
      ValueError: naming the field and its allowed values.
    """

  def reward_names(self, earlier: Sequence[str]) -> tuple[str, ...]:
    """Rewards available to a stage, given the stages before it."""
    return ()

  @abc.abstractmethod
  def check(self, kinds: Iterable[str], reads_tokens: bool) -> None:
    """Checks that the data exist, before anything is trained or written.

    Args:
      kinds: kinds of the unfinished stages.
      reads_tokens: whether one of them reads the tokens of real images.

    Raises:
      UserError: if data are missing or do not fit.
    """

  def images(self, draw: Draw) -> grain.DatasetIterator:
    """Batches of `image` float32 [B, H, W, C], and of `label` if there are any.

    Raises:
      UserError: if the data have no images.
    """
    raise UserError('this configuration has no images to train on')

  @abc.abstractmethod
  def tokens(
    self, draw: Draw, rewards: Iterable[str] = ()
  ) -> grain.DatasetIterator:
    """Batches of the generator's condition, with `tokens` of real images.

    Args:
      draw: batch size, seed and rows.
      rewards: names of the rewards that read `prompt_ids` of the batch.
    """

  @property
  def null(self) -> TextCondition | None:
    """The unconditional prompt, a batch of 1; None means the null class."""
    return None

  def rewards(self, names: Iterable[str]) -> dict[str, Reward]:
    """Rewards by name.

    Raises:
      UserError: for a reward that the data cannot provide.
    """
    return {name: self._no_reward(name) for name in names}

  def reward_params(self, names: Iterable[str]) -> dict[str, Params]:
    """Parameters of rewards by name; raises like `rewards`."""
    return {name: self._no_reward(name) for name in names}

  def prompt_ids(
    self, texts: Sequence[str], rewards: Iterable[str]
  ) -> PromptIds | None:
    """Token ids of prompts for these rewards; None if there are no prompts."""
    return None

  @abc.abstractmethod
  def conditions(
    self, requested: Iterable[int] | Iterable[str], rewards: Iterable[str] = ()
  ) -> Conditions:
    """Conditions of labels, or of prompts for the generator and the rewards.

    Raises:
      UserError: for labels out of range or invalid prompts.
    """

  def _no_reward(self, name: str) -> Reward:
    raise UserError(
      f'reward {name} needs prompts, but this run is class-conditional'
    )
