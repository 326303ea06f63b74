"""Test-time optimisation of a one-step generator on rewards, in batches.

Without steps it is best-of-N.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping

import jax
import ml_collections
import numpy as np

from softdimo_jax.families.family import Family
from softdimo_jax.families.start import Start
from softdimo_jax.generation.tokens import decode_tokens
from softdimo_jax.method import sampling
from softdimo_jax.method.tteo import Decoded, Optimized, optimize_embeddings
from softdimo_jax.networks.generators.condition import (
  Condition,
  TextCondition,
  batch_size,
)
from softdimo_jax.rewards import scoring
from softdimo_jax.runtime.batched import Batched, take
from softdimo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Best:
  """The best image of every prompt, over all starts; host arrays.

  Attributes:
    images: float32 [P, H, W, C] in [0, 1].
    scores: float32 [P], composite scores of these images.
    first: float32 [P, H, W, C], images of the first start without optimisation.
    curves: float32 [P, N, K + 1], scores of all iterates of every start.
  """

  images: np.ndarray
  scores: np.ndarray
  first: np.ndarray
  curves: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class TTEO:
  """Optimisation with N starts and K steps per prompt; best-of-N if K = 0.

  Attributes:
    family: generator and tokenizer.
    rewards: rewards by name.
    terms: weights of the composite score, by name of the reward.
    init: section of the student's distillation, see `Start.in_sampling`.
    starts: number of starts N.
    steps: number of steps K.
    learning_rate: learning rate of the ascent.
    temperature: temperature of the tokens, sampled and expected; 0 samples the
      arg max and expects at 1. All iterates of a start share their random
      numbers, so they differ by the embedding only.
    batch_size: starts per call, over all local devices; images do not depend
      on it.
  """

  family: Family
  rewards: Mapping[str, scoring.Reward]
  terms: Mapping[str, float]
  init: ml_collections.ConfigDict
  starts: int
  steps: int
  learning_rate: float = 0.2
  temperature: float = 1.0
  batch_size: int = 256

  @functools.cached_property
  def _run(self) -> Batched:
    return Batched(self._optimize)

  def place(self, params: Params) -> Params:
    """Puts parameters on the devices; saves transfers if called often."""
    return self._run.place(params)

  def __call__(
    self,
    params: Params,
    tokenizer: Params,
    reward_params: Mapping[str, Params],
    keys: jax.Array,
    text: Condition,
    prompt_ids: np.ndarray | Mapping[str, np.ndarray] | None,
  ) -> Best:
    """Optimises images of P prompts.

    Args:
      params: parameters of the whole student.
      tokenizer: parameters of the decoder.
      reward_params: parameters of the rewards, by name.
      keys: random keys [P]; start n of a prompt draws with fold_in(key, n),
        for any number of starts.
      text: condition of the prompts, host arrays [P, ...].
      prompt_ids: token ids int [P, T] of the prompts for the rewards, by name
        of the reward if these differ.
    """
    count = batch_size(text)
    total = count * self.starts
    size = min(self.batch_size, total)
    starts = np.array_split(np.arange(total), range(size, total, size))
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    number = np.arange(self.starts)
    keys = jax.vmap(fold, (0, None))(keys, number).reshape(total)
    results = self._run.stream(
      (params, tokenizer, reward_params),
      (
        (keys[rows], *take((text, prompt_ids), rows // self.starts))
        for rows in starts
      ),
      size,
    )
    return self._best(zip(starts, results, strict=True))

  def _best(
    self,
    batches: Iterable[
      tuple[np.ndarray, tuple[Optimized, np.ndarray, np.ndarray]]
    ],
  ) -> Best:
    """The best start of every prompt; all images would not fit in memory.

    Args:
      batches: (numbers of the starts, those of a prompt one behind the other,
        and the results of `_optimize`).
    """
    best: list[tuple[float, np.ndarray]] = []
    first, curves = [], []
    for rows, (result, images, initial) in batches:
      curves.append(result.scores)
      first.append(initial[rows % self.starts == 0])
      prompts, score = rows // self.starts, np.asarray(result.best.score)
      for prompt in np.unique(prompts):
        own = np.flatnonzero(prompts == prompt)
        winner = own[score[own].argmax()]
        found = float(score[winner]), images[winner].copy()
        if prompt == len(best):
          best.append(found)
        elif found[0] > best[prompt][0]:
          best[prompt] = found
    scores, images = zip(*best, strict=True)
    return Best(
      images=np.stack(images),
      scores=np.array(scores, np.float32),
      first=np.concatenate(first),
      curves=np.concatenate(curves).reshape(len(best), self.starts, -1),
    )

  def _optimize(
    self,
    all_params: tuple[Params, Params, Mapping[str, Params]],
    items: tuple[jax.Array, TextCondition, jax.Array | Mapping[str, jax.Array]],
  ) -> tuple[Optimized, jax.Array, jax.Array]:
    """Returns (result, best images, first images); scores are [B, K + 1]."""
    params, tokenizer, reward_params = all_params
    keys, text, prompt_ids = items
    start_keys, draw_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    start = Start.in_sampling(self.init)
    draw = functools.partial(
      sampling.sample_tokens, temperature=self.temperature
    )
    score = lambda images: scoring.total(
      scoring.scores(self.rewards, reward_params, images, prompt_ids),
      self.terms,
    )

    def evaluate(embeddings: jax.Array) -> tuple[jax.Array, Decoded]:
      logits = self.family.one_step(params, embeddings, text, start).logits
      logits = logits[..., : self.family.vocab_size]
      probabilities = jax.nn.softmax(logits / (self.temperature or 1))
      soft = self.family.decode_soft(tokenizer, probabilities, text)
      tokens = jax.vmap(draw)(draw_keys, logits)
      hard = decode_tokens(self.family, tokenizer, tokens, text)
      return (
        score(scoring.straight_through_clip(soft)),
        Decoded(tokens=tokens, score=score(hard)),
      )

    result = optimize_embeddings(
      self.family.sampled_embeddings(params, start_keys, start),
      evaluate,
      steps=self.steps,
      learning_rate=self.learning_rate,
    )
    image = lambda tokens: decode_tokens(self.family, tokenizer, tokens, text)
    return (
      dataclasses.replace(result, scores=result.scores.T),
      image(result.best.tokens),
      image(result.start.tokens),
    )
