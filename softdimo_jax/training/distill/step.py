"""Di[M]O and Soft-Di[M]O: one step for every objective.

One student forward feeds all losses. Each loss is differentiated with respect
to the student's logits only; the sum of these gradients is pulled back through
the student once (Di[M]O Alg. 1; Soft-Di[M]O section 3).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from softdimo_jax.families.family import Family
from softdimo_jax.families.start import Start
from softdimo_jax.rewards.scoring import Reward
from softdimo_jax.training import optim
from softdimo_jax.training.accumulation import mean_and_rows
from softdimo_jax.training.distill.dimo_term import DiMOTerm
from softdimo_jax.training.distill.gan_term import GANTerm
from softdimo_jax.training.distill.keys import Keys
from softdimo_jax.training.distill.metrics import concentration, norm_ratio
from softdimo_jax.training.distill.reward_term import RewardTerm
from softdimo_jax.training.distill.student import Student
from softdimo_jax.training.state import Frozen, Role, TrainState
from softdimo_jax.types import Batch, Metrics, Params


@dataclasses.dataclass(frozen=True)
class Distiller:
  """The step of a distillation stage; holds no arrays.

  Attributes:
    family: generator and vocabulary facts.
    config: the stage: batch_size, accumulation, steps, init, mask,
      guidance_scale, divergence, auxiliary, gan, reward, optimizer, ema_decay.
    generator_tx: optimiser of the student.
    student: calls the generator.
    dimo_term: the Di[M]O term, or None.
    gan_term: the GAN term, or None.
    reward_term: the reward term, or None.
  """

  family: Family
  config: ml_collections.FrozenConfigDict
  generator_tx: optax.GradientTransformationExtraArgs
  student: Student
  dimo_term: DiMOTerm | None
  gan_term: GANTerm | None
  reward_term: RewardTerm | None

  @classmethod
  def create(
    cls,
    family: Family,
    config: ml_collections.ConfigDict,
    rewards: Mapping[str, Reward] | None = None,
  ) -> 'Distiller':
    """Optimisers and terms from the stage's configuration.

    Args:
      family: generator and tokenizer.
      config: the stage.
      rewards: by name; must include those of `config.reward.terms`.
    """
    frozen_config = ml_collections.FrozenConfigDict(config)
    used = {
      part: config[part].weight > 0 for part in ('divergence', 'gan', 'reward')
    }
    return cls(
      family,
      frozen_config,
      optim.optimizer(
        config.optimizer, config.steps - config.auxiliary.burn_in
      ),
      Student(family, frozen_config),
      DiMOTerm.create(family, config) if used['divergence'] else None,
      GANTerm.create(family, config) if used['gan'] else None,
      RewardTerm.create(family, config, rewards or {})
      if used['reward']
      else None,
    )

  def init(
    self, key: jax.Array, student: Params, auxiliary: Params
  ) -> TrainState:
    """State at step 0 from the complete parameters of both networks."""
    trained = lambda params: self.family.split(params)[0]
    model = optim.create_role(trained(student), self.generator_tx, ema=True)
    return TrainState.create(
      model,
      auxiliary=self.dimo_term.init(auxiliary) if self.dimo_term else None,
      discriminator=self.gan_term.init(key) if self.gan_term else None,
    )

  def step(
    self, state: TrainState, batch: Batch, frozen: Frozen, key: jax.Array
  ) -> tuple[TrainState, Metrics]:
    """One update of the generator, and those of the auxiliary and the heads.

    Args:
      state: donated by the caller.
      batch: empty for data-free distillation on classes; else `label` [B], or
        `text` with the `prompt_ids` that rewards read, and for the GAN `tokens`
        [B, L, G] of real images.
      frozen: the teacher and the other networks that are only read.
      key: of the stage; the index of the step is folded in.

    Returns:
      (state, float32 scalars).
    """
    key = jax.random.fold_in(key, state.step)
    start = self.student.start(key, state.step)
    (gradients, metrics), logits = mean_and_rows(
      lambda part, key: self._gradients(
        state, part, frozen, Keys.of(key), start
      ),
      batch,
      key,
      self.config.accumulation,
    )
    model, update_metrics = optim.update(
      state.model,
      gradients.model,
      self.generator_tx,
      step=jnp.maximum(state.step - self.config.auxiliary.burn_in, 0),
      ema_decay=self.config.ema_decay,
    )
    metrics |= optim.prefix('generator', update_metrics)
    model = self._burnt_in(state, model)
    auxiliary, discriminator = state.auxiliary, state.discriminator
    if auxiliary is not None and self.dimo_term is not None:
      auxiliary, auxiliary_metrics = self.dimo_term.update(
        auxiliary, gradients.auxiliary, model, frozen, batch, key, state.step
      )
      metrics |= auxiliary_metrics
    if discriminator is not None and self.gan_term is not None:
      discriminator, update_metrics = self.gan_term.update(
        discriminator,
        gradients.discriminator,
        frozen.teacher,
        (batch, logits),
        key,
        state.step,
      )
      metrics |= update_metrics
    state = TrainState(state.step + 1, model, auxiliary, discriminator)
    return state, metrics

  def _burnt_in(self, state: TrainState, model: Role) -> Role:
    """The updated student, or the old one while the auxiliary burns in."""
    steps = self.config.auxiliary.burn_in
    if state.auxiliary is None or steps == 0:
      return model
    waits = state.step < steps
    return jax.tree.map(
      lambda old, new: jnp.where(waits, old, new), state.model, model
    )

  def _gradients(
    self,
    state: TrainState,
    batch: Batch,
    frozen: Frozen,
    keys: Keys,
    start: Start,
  ) -> tuple[tuple['_Gradients', Metrics], jax.Array | None]:
    """From one pass of the student; also its logits, if the heads need them."""
    teacher = frozen.teacher
    condition = (
      self.family.condition(batch)
      if batch
      else self.student.draw_labels(keys.condition)
    )
    logits, pullback = jax.vjp(
      lambda params: self.student.logits(
        params, teacher, condition, keys.student, start
      ),
      state.model.params,
    )
    metrics = concentration(
      self.family,
      teacher,
      logits / (self.config.temperature or 1.0),  # 0 draws the arg max
      self.config.divergence.chunk,
    )
    terms, auxiliary_gradient, heads_gradient = {}, None, None
    if state.auxiliary is not None and self.dimo_term is not None:
      sample = self.student.sample(keys.sample, logits, condition)
      terms['dimo'], auxiliary_gradient, dimo_metrics = (
        self.dimo_term.gradients(
          state.auxiliary, frozen, sample, keys.auxiliary
        )
      )
      metrics |= dimo_metrics
    if state.discriminator is not None and self.gan_term is not None:
      terms['gan'], heads_gradient, gan_metrics = self.gan_term.gradients(
        state.discriminator.params,
        teacher,
        logits,
        batch,
        keys.gan,
        state.step,
      )
      metrics |= gan_metrics
    if self.reward_term is not None:
      terms['reward'], reward_metrics = self.reward_term.gradient(
        frozen.tokenizer, frozen.rewards, logits, batch, keys.reward
      )
      metrics |= reward_metrics
    gradient, ratios = _combined(terms)
    gradients = _Gradients(
      pullback(gradient)[0], auxiliary_gradient, heads_gradient
    )
    keeps = self.gan_term is not None and self.gan_term.keeps_logits
    return (gradients, metrics | ratios), logits if keeps else None


def _combined(terms: Mapping[str, jax.Array]) -> tuple[jax.Array, Metrics]:
  """Sum of the gradients on the logits, and their norms beside Di[M]O's."""
  ratios = {
    f'{name}/gradient_ratio': norm_ratio(gradient, terms['dimo'])
    for name, gradient in terms.items()
    if name != 'dimo' and 'dimo' in terms
  }
  return functools.reduce(jnp.add, terms.values()), ratios


class _Gradients(NamedTuple):
  """Gradients of the parameters of every role; None for absent roles."""

  model: Params
  auxiliary: Params | None
  discriminator: Params | None
