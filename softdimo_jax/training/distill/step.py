"""Di[M]O and Soft-Di[M]O: one step for every objective.

One student forward feeds all losses. Each loss is differentiated with respect
to the student's logits only; the sum of these gradients is pulled back through
the student once (Di[M]O Alg. 1; Soft-Di[M]O section 3).
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from softdimo_jax.families.family import Family
from softdimo_jax.method import divergence
from softdimo_jax.ops.chunks import map_with_positions
from softdimo_jax.rewards.scoring import Reward
from softdimo_jax.training import optim
from softdimo_jax.training.accumulation import mean_of_parts
from softdimo_jax.training.distill.gan_term import GANTerm
from softdimo_jax.training.distill.metrics import concentration, norm_ratio
from softdimo_jax.training.distill.reward_term import RewardTerm
from softdimo_jax.training.distill.student import Sample, Student
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
    auxiliary_tx: optimiser of the auxiliary.
    student: calls the generator.
    gan_term: the GAN term, or None.
    reward_term: the reward term, or None.
  """

  family: Family
  config: ml_collections.FrozenConfigDict
  generator_tx: optax.GradientTransformationExtraArgs
  auxiliary_tx: optax.GradientTransformationExtraArgs
  student: Student
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
    use_gan, use_reward = config.gan.weight > 0, config.reward.weight > 0
    return cls(
      family,
      frozen_config,
      optim.optimizer(config.optimizer, config.steps),
      optim.optimizer(config.auxiliary.optimizer, config.steps),
      Student(family, frozen_config),
      GANTerm.create(family, config) if use_gan else None,
      RewardTerm.create(family, config.reward, rewards or {})
      if use_reward
      else None,
    )

  def init(
    self, key: jax.Array, student: Params, auxiliary: Params
  ) -> TrainState:
    """State at step 0 from the complete parameters of both networks."""
    trained = lambda params: self.family.split(params)[0]
    model = optim.create_role(trained(student), self.generator_tx, ema=True)
    auxiliary_role = None
    if self.config.divergence.weight > 0:
      auxiliary_role = optim.create_role(
        trained(auxiliary), self.auxiliary_tx, ema=False
      )
    discriminator = None
    if self.gan_term is not None:
      discriminator = self.gan_term.init(key)
    return TrainState.create(
      model, auxiliary=auxiliary_role, discriminator=discriminator
    )

  def step(
    self, state: TrainState, batch: Batch, frozen: Frozen, key: jax.Array
  ) -> tuple[TrainState, Metrics]:
    """One update each of the generator, the auxiliary and the heads.

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
    gradients, metrics = mean_of_parts(
      lambda part, key: self._gradients(state, part, frozen, _Keys.of(key)),
      batch,
      key,
      self.config.accumulation,
    )
    model, update_metrics = optim.update(
      state.model,
      gradients.model,
      self.generator_tx,
      step=state.step,
      ema_decay=self.config.ema_decay,
    )
    metrics |= optim.prefix('generator', update_metrics)
    old, auxiliary, discriminator = state.auxiliary, None, state.discriminator
    if old is not None:
      gradient = gradients.auxiliary
      if self.config.auxiliary.fresh_sample:
        gradient, metrics['auxiliary/cross_entropy'] = mean_of_parts(
          lambda part, key: self._fresh_auxiliary_gradient(
            old, model.params, frozen.teacher, part, _Keys.of(key).fresh
          ),
          batch,
          key,
          self.config.accumulation,
        )
      auxiliary, update_metrics = optim.update(
        old, gradient, self.auxiliary_tx, step=state.step
      )
      metrics |= optim.prefix('auxiliary', update_metrics)
    if discriminator is not None and self.gan_term is not None:
      discriminator, update_metrics = self.gan_term.update(
        discriminator, gradients.discriminator, state.step
      )
      metrics |= update_metrics
    state = TrainState(state.step + 1, model, auxiliary, discriminator)
    return state, metrics

  def _gradients(
    self, state: TrainState, batch: Batch, frozen: Frozen, keys: '_Keys'
  ) -> tuple['_Gradients', Metrics]:
    """Gradients for all roles from one forward pass of the student."""
    teacher = frozen.teacher
    condition = (
      self.family.condition(batch)
      if batch
      else self.student.draw_labels(keys.condition)
    )
    logits, pullback = jax.vjp(
      lambda params: self.student.logits(
        params, teacher, condition, keys.student
      ),
      state.model.params,
    )
    gradient = jnp.zeros_like(logits)
    metrics = concentration(
      self.family, teacher, logits, self.config.divergence.chunk
    )
    auxiliary_gradient, heads_gradient = None, None
    if state.auxiliary is not None:
      sample = self.student.sample(keys.sample, logits, condition)
      dimo_gradient, auxiliary_gradient, dimo_metrics = self._dimo(
        state.auxiliary, frozen, sample, keys.auxiliary
      )
      metrics |= dimo_metrics
      gradient = dimo_gradient
    if state.discriminator is not None and self.gan_term is not None:
      gan_gradient, heads_gradient, gan_metrics = self.gan_term.gradients(
        state.discriminator.params,
        teacher,
        logits,
        batch,
        keys.gan,
        state.step,
      )
      metrics |= gan_metrics
      if state.auxiliary is not None:
        metrics['gan/gradient_ratio'] = norm_ratio(gan_gradient, dimo_gradient)
      gradient = gradient + gan_gradient
    if self.reward_term is not None:
      reward_gradient, reward_metrics = self.reward_term.gradient(
        frozen.tokenizer, frozen.rewards, logits, batch, keys.reward
      )
      metrics |= reward_metrics
      if state.auxiliary is not None:
        metrics['reward/gradient_ratio'] = norm_ratio(
          reward_gradient, dimo_gradient
        )
      gradient = gradient + reward_gradient
    return (
      _Gradients(pullback(gradient)[0], auxiliary_gradient, heads_gradient),
      metrics,
    )

  # Di[M]O.

  def _auxiliary_loss(
    self, trained: Params, teacher: Params, sample: Sample, key: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """(cross entropy on the student's tokens, hidden states of the logits)."""
    params = self.family.merge(trained, teacher)
    last = self.family.forward(
      params,
      sample.masked,
      sample.condition,
      dropout_key=key if self.config.dropout else None,
    ).pre_logits

    def cross_entropy(
      last: jax.Array, tokens: jax.Array, positions: jax.Array
    ) -> jax.Array:
      return divergence.cross_entropy(
        self.family.logits(params, last, positions[0]),
        tokens,
        label_smoothing=self.config.auxiliary.label_smoothing,
      )

    losses = map_with_positions(
      cross_entropy, self.config.divergence.chunk, last, sample.tokens
    )
    return divergence.masked_mean(losses, sample.mask), last

  def _dimo(
    self,
    auxiliary: Role,
    frozen: Frozen,
    sample: Sample,
    key: jax.Array,
  ) -> tuple[jax.Array, Params | None, Metrics]:
    """(gradient on the logits, gradient of the auxiliary, metrics).

    The auxiliary's forward pass serves both gradients, unless `fresh_sample`
    requests the official order: a fresh sample of the updated student.
    """
    config, scale = self.config.divergence, self.config.guidance_scale
    teacher_key, key = jax.random.split(key)
    if self.config.auxiliary.fresh_sample:
      gradient = None
      loss, auxiliary_last = self._auxiliary_loss(
        auxiliary.params, frozen.teacher, sample, key
      )
    else:
      (loss, auxiliary_last), gradient = jax.value_and_grad(
        self._auxiliary_loss, has_aux=True
      )(auxiliary.params, frozen.teacher, sample, key)
    teacher_last = self.family.forward(
      frozen.teacher,
      sample.masked,
      sample.condition,
      guidance_scale=scale,
      null=frozen.null,
      dropout_key=teacher_key if self.config.teacher_dropout else None,
    ).pre_logits
    auxiliary_params = self.family.merge(auxiliary.params, frozen.teacher)

    def injected(
      teacher: jax.Array,
      auxiliary: jax.Array,
      weight: jax.Array,
      positions: jax.Array,
    ) -> tuple[jax.Array, ...]:
      target = divergence.logit_gradient(
        self.family.logits(
          frozen.teacher, teacher, positions[0], guidance_scale=scale
        ),
        self.family.logits(auxiliary_params, auxiliary, positions[0]),
        beta=config.beta,
      )
      return divergence.injected(target, config.weight * weight)

    weight = divergence.entry_weights(sample.mask, reduction=config.reduction)
    logit_gradient, squares, sizes = map_with_positions(
      injected, config.chunk, teacher_last, auxiliary_last, weight
    )
    metrics = divergence.dimo_metrics(squares, sizes, weight)
    metrics['auxiliary/cross_entropy'] = loss
    return logit_gradient, gradient, metrics

  def _fresh_auxiliary_gradient(
    self,
    auxiliary: Role,
    student: Params,
    teacher: Params,
    batch: Batch,
    key: jax.Array,
  ) -> tuple[Params, jax.Array]:
    """Alg. 1's second half: new labels (the same prompts), x_init and mask."""
    keys = jax.random.split(key, 4)
    condition = (
      self.family.condition(batch)
      if self.family.reads_text
      else self.student.draw_labels(keys[0])
    )
    logits = self.student.logits(student, teacher, condition, keys[1])
    sample = self.student.sample(keys[2], logits, condition)
    (loss, _), gradient = jax.value_and_grad(
      self._auxiliary_loss, has_aux=True
    )(auxiliary.params, teacher, sample, keys[3])
    return gradient, loss


class _Keys(NamedTuple):
  """Random keys of one step, one per purpose."""

  condition: jax.Array
  student: jax.Array
  sample: jax.Array
  gan: jax.Array
  auxiliary: jax.Array
  fresh: jax.Array
  reward: jax.Array

  @classmethod
  def of(cls, key: jax.Array) -> '_Keys':
    """Splits the key of a step or of a part of its batch."""
    return cls(*jax.random.split(key, len(cls._fields)))


class _Gradients(NamedTuple):
  """Gradients of the parameters of every role; None for absent roles."""

  model: Params
  auxiliary: Params | None
  discriminator: Params | None
