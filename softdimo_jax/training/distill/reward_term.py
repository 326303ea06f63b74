"""The reward term: soft embeddings through the tokenizer's decoder.

Soft-Di[M]O section 3.3: L = - sum_i lambda_i R_i(Dec(Emb_Dec(z)), c). The other
relaxations, and REINFORCE on the images of drawn tokens, are baselines.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax.families.family import Family
from softdimo_jax.method import sampling
from softdimo_jax.method.reinforce import reinforce_loss
from softdimo_jax.method.soft_embedding import relax
from softdimo_jax.rewards import scoring
from softdimo_jax.training import optim
from softdimo_jax.training.accumulation import in_parts, joined
from softdimo_jax.training.distill.student import temperature_of
from softdimo_jax.types import Batch, Metrics, Params

# The entries of a batch that the term reads.
_READ = ('prompt_ids', 'text')


def used_terms(config: ml_collections.ConfigDict) -> dict[str, float]:
  """Nonzero weights of a `reward` section by name; empty if it is disabled."""
  terms = config.terms if config.weight else {}
  return {name: weight for name, weight in terms.items() if weight}


@dataclasses.dataclass(frozen=True)
class RewardTerm:
  """Scores the student's images; holds no arrays.

  Attributes:
    family: generator and tokenizer.
    config: the stage's `reward`: weight, terms (name -> lambda; 0 disables
      it), relaxation, micro_batch.
    temperature: of the student's tokens, expected and drawn.
    rewards: by name, those with a nonzero weight.
  """

  family: Family
  config: ml_collections.FrozenConfigDict
  temperature: float
  rewards: Mapping[str, scoring.Reward]

  @classmethod
  def create(
    cls,
    family: Family,
    config: ml_collections.ConfigDict,
    rewards: Mapping[str, scoring.Reward],
  ) -> 'RewardTerm':
    """The term from the configuration of a distillation."""
    used = {name: rewards[name] for name in used_terms(config.reward)}
    return cls(
      family,
      ml_collections.FrozenConfigDict(config.reward),
      temperature_of(config, 'reward'),
      used,
    )

  def gradient(
    self,
    tokenizer: Params,
    params: Params,
    logits: jax.Array,
    batch: Batch,
    key: jax.Array,
  ) -> tuple[jax.Array, Metrics]:
    """Gradient of the weighted loss.

    If `micro_batch` > 0, that many images are decoded and scored at once.

    Args:
      tokenizer: frozen parameters of the decoder.
      params: frozen parameters of the rewards, by name.
      logits: [B, L, G, C] of the student.
      batch: `prompt_ids` int [B, T], the prompts of the logits, and `text` for
        decoders that read it.
      key: random key, used where tokens are drawn.

    Returns:
      (gradient on the logits, metrics).
    """
    read = {name: batch[name] for name in _READ if name in batch}
    size = self.config.micro_batch or len(logits)
    count = len(logits) // size
    if count == 1:
      return self._gradient(tokenizer, params, logits, read, key)

    gradient, metrics = jax.lax.map(
      lambda part: self._gradient(tokenizer, params, *part),
      (*in_parts((logits, read), count), jax.random.split(key, count)),
    )
    return joined(gradient) / count, jax.tree.map(jnp.mean, metrics)

  def _gradient(
    self,
    tokenizer: Params,
    params: Params,
    logits: jax.Array,
    batch: Batch,
    key: jax.Array,
  ) -> tuple[jax.Array, Metrics]:
    """`gradient` of a batch that is decoded at once."""
    text = batch.get('text')

    def score(images: jax.Array) -> tuple[jax.Array, Metrics]:
      scores = scoring.scores(
        self.rewards,
        params,
        scoring.straight_through_clip(images),
        batch['prompt_ids'],
      )
      totals = scoring.total(scores, used_terms(self.config))
      means = {name: score.mean() for name, score in scores.items()}
      return totals, means | {'total': totals.mean()}

    def relaxed(logits: jax.Array) -> tuple[jax.Array, Metrics]:
      probabilities = relax(
        key,
        logits[..., : self.family.vocab_size],
        relaxation=self.config.relaxation,
        temperature=self.temperature,
      )
      images = self.family.decode_soft(tokenizer, probabilities, text)
      _, metrics = score(images)
      return -self.config.weight * metrics['total'], metrics

    def reinforced(logits: jax.Array) -> tuple[jax.Array, Metrics]:
      codes = logits[..., : self.family.vocab_size]
      tokens = sampling.sample_tokens(key, codes, temperature=self.temperature)
      totals, metrics = score(self.family.decode(tokenizer, tokens, text))
      loss = reinforce_loss(codes, tokens, totals, temperature=self.temperature)
      return self.config.weight * loss, metrics

    reinforces = self.config.relaxation == 'reinforce'
    gradient, metrics = jax.grad(
      reinforced if reinforces else relaxed, has_aux=True
    )(logits)
    return gradient, optim.prefix('reward', metrics)
