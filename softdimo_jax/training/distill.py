"""Di[M]O and Soft-Di[M]O: one step for every objective.

One student forward feeds all losses. Each loss is differentiated with respect
to the student's logits only; the sum of these gradients is pulled back through
the student once (Di[M]O Alg. 1; Soft-Di[M]O section 3).
"""

import dataclasses
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import optax

from softdimo_jax.families import Family
from softdimo_jax.method import divergence, masking, sampling
from softdimo_jax.method.soft_embedding import concentration
from softdimo_jax.training import optim, sharding
from softdimo_jax.training.adversary import Adversary
from softdimo_jax.training.state import Params, Role, TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@flax.struct.dataclass
class Sample:
  """Tokens of the student and what the forward process made of them.

  Attributes:
    labels: int [B].
    tokens: int [B, L, G] drawn from the student's logits.
    masked: int [B, L, G], tokens after the forward process.
    mask: bool [B, L, G], what it masked.
  """

  labels: jax.Array
  tokens: jax.Array
  masked: jax.Array
  mask: jax.Array


@dataclasses.dataclass(frozen=True)
class Distiller:
  """The step of a distillation stage; holds no arrays.

  Attributes:
    family: generator and vocabulary facts.
    config: the stage: batch_size, steps, init, mask, guidance_scale,
      divergence, auxiliary, gan, optimizer, ema_decay.
    generator_tx: optimiser of the student.
    auxiliary_tx: optimiser of the auxiliary.
    adversary: the GAN term, or None.
  """

  family: Family
  config: ml_collections.FrozenConfigDict
  generator_tx: optax.GradientTransformation
  auxiliary_tx: optax.GradientTransformation
  adversary: Adversary | None

  @classmethod
  def create(
    cls, family: Family, config: ml_collections.ConfigDict
  ) -> 'Distiller':
    """Optimisers and terms from the stage's configuration."""
    use_gan = config.gan.weight > 0
    return cls(
      family,
      ml_collections.FrozenConfigDict(config),
      optim.optimizer(config.optimizer, config.steps),
      optim.optimizer(config.auxiliary.optimizer, config.steps),
      Adversary.create(family, config) if use_gan else None,
    )

  def init(
    self, key: jax.Array, student: Params, auxiliary: Params
  ) -> TrainState:
    """State at step 0 from whole generator parameters of both networks."""
    trained = lambda params: self.family.split(params)[0]
    model = optim.create_role(trained(student), self.generator_tx, ema=True)
    auxiliary_role = None
    if self.config.divergence.weight > 0:
      auxiliary_role = optim.create_role(
        trained(auxiliary), self.auxiliary_tx, ema=False
      )
    discriminator = None
    if self.adversary is not None:
      discriminator = self.adversary.init(key)
    return TrainState.create(
      model, auxiliary=auxiliary_role, discriminator=discriminator
    )

  def step(
    self, state: TrainState, batch: Batch, teacher: Params, key: jax.Array
  ) -> tuple[TrainState, Metrics]:
    """One generator update, with one of the auxiliary and of the heads.

    Args:
      state: donated by the caller.
      batch: empty for data-free distillation, else `tokens` [B, L, G] and
        `label` [B] of real images.
      teacher: whole frozen generator parameters.
      key: of the stage; the step's index is folded in.

    Returns:
      (state, float32 scalars).
    """
    step_key = jax.random.fold_in(key, state.step)
    keys = _Keys(*jax.random.split(step_key, len(_Keys._fields)))
    labels = batch['label'] if batch else self._draw_labels(keys.condition)
    logits, pullback = jax.vjp(
      lambda params: self._student(params, teacher, labels, keys.student),
      state.model.params,
    )
    gradient = jnp.zeros_like(logits)
    metrics = self._concentration(logits, teacher)
    auxiliary, discriminator = state.auxiliary, state.discriminator
    if auxiliary is not None:
      sample = self._sample(keys.sample, logits, labels)
      gradient, auxiliary_gradient, dimo_metrics = self._dimo(
        auxiliary, teacher, sample, logits, keys.auxiliary
      )
      metrics |= dimo_metrics
    if discriminator is not None:
      gan_gradient, discriminator, gan_metrics = self.adversary.step(
        discriminator, teacher, logits, batch, keys.gan, state.step
      )
      metrics |= gan_metrics
      if auxiliary is not None:
        metrics['gan/gradient_ratio'] = _ratio(gan_gradient, gradient)
      gradient = gradient + gan_gradient
    model, update_metrics = optim.update(
      state.model,
      pullback(gradient)[0],
      self.generator_tx,
      step=state.step,
      ema_decay=self.config.ema_decay,
    )
    metrics |= optim.prefix('generator', update_metrics)
    if auxiliary is not None:
      if self.config.auxiliary.fresh_sample:
        auxiliary_gradient, cross_entropy = self._fresh_auxiliary_gradient(
          auxiliary, model.params, teacher, keys.fresh
        )
        metrics['auxiliary/cross_entropy'] = cross_entropy
      auxiliary, update_metrics = optim.update(
        auxiliary, auxiliary_gradient, self.auxiliary_tx, step=state.step
      )
      metrics |= optim.prefix('auxiliary', update_metrics)
    state = TrainState(state.step + 1, model, auxiliary, discriminator)
    return state, metrics

  # Student.

  def _draw_labels(self, key: jax.Array) -> jax.Array:
    shape = (self.config.batch_size,)
    return sharding.constrain_batch(
      jax.random.randint(key, shape, 0, self.family.null_label)
    )

  def _student(
    self, trained: Params, teacher: Params, labels: jax.Array, key: jax.Array
  ) -> jax.Array:
    """Logits [B, L, G, C] at a fresh x_init."""
    input_key, dropout_key = jax.random.split(key)
    embeddings = self.family.initial_embeddings(
      teacher, input_key, labels.shape[0], self.config.init
    )
    params = self.family.merge(trained, teacher)
    return self.family.backbone(
      params,
      sharding.constrain_batch(embeddings),
      labels,
      dropout_key=dropout_key if self.config.dropout else None,
    ).logits

  def _draw_tokens(self, key: jax.Array, logits: jax.Array) -> jax.Array:
    return sampling.sample_tokens(
      key,
      logits[..., : self.family.vocab_size],
      temperature=self.config.temperature,
    )

  def _sample(
    self, key: jax.Array, logits: jax.Array, labels: jax.Array
  ) -> Sample:
    """Hard tokens and their masked version; the mask is never sampled."""
    token_key, mask_key = jax.random.split(key)
    tokens = self._draw_tokens(token_key, logits)
    mask = self.config.mask
    masked, where, _ = masking.remask(
      mask_key,
      tokens,
      self.family.mask_id,
      schedule=mask.schedule,
      low=mask.low,
      high=mask.high,
    )
    return Sample(labels, tokens, masked, where)

  def _concentration(self, logits: jax.Array, teacher: Params) -> Metrics:
    probabilities = jax.nn.softmax(logits[..., : self.family.vocab_size])
    table = self.family.table(teacher)[:, :-1]
    stats = concentration(probabilities, table)
    return optim.prefix('student', dataclasses.asdict(stats))

  # Di[M]O.

  def _auxiliary_loss(
    self, trained: Params, teacher: Params, sample: Sample, key: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """(cross entropy on the student's tokens, logits)."""
    logits = self.family.backbone(
      self.family.merge(trained, teacher),
      self.family.embed(teacher, sample.masked),
      sample.labels,
      dropout_key=key if self.config.dropout else None,
    ).logits
    loss = divergence.masked_cross_entropy(
      logits,
      sample.tokens,
      sample.mask,
      label_smoothing=self.config.auxiliary.label_smoothing,
    )
    return loss, logits

  def _dimo(
    self,
    auxiliary: Role,
    teacher: Params,
    sample: Sample,
    logits: jax.Array,
    key: jax.Array,
  ) -> tuple[jax.Array, Params | None, Metrics]:
    """(gradient on the logits, gradient of the auxiliary, metrics).

    The auxiliary's forward pass serves both, unless the official order (a
    fresh sample of the updated student) is asked for.
    """
    config = self.config.divergence
    teacher_key, key = jax.random.split(key)
    if self.config.auxiliary.fresh_sample:
      gradient = None
      loss, auxiliary_logits = self._auxiliary_loss(
        auxiliary.params, teacher, sample, key
      )
    else:
      (loss, auxiliary_logits), gradient = jax.value_and_grad(
        self._auxiliary_loss, has_aux=True
      )(auxiliary.params, teacher, sample, key)
    target = divergence.logit_gradient(
      self.family.guided_logits(
        teacher,
        sample.masked,
        sample.labels,
        self.config.guidance_scale,
        dropout_key=teacher_key if self.config.teacher_dropout else None,
      ),
      auxiliary_logits,
      beta=config.beta,
    )
    surrogate = lambda z: divergence.dimo_loss(
      z, target, sample.mask, reduction=config.reduction
    )
    logit_gradient, metrics = jax.grad(surrogate, has_aux=True)(logits)
    metrics['auxiliary/cross_entropy'] = loss
    return config.weight * logit_gradient, gradient, metrics

  def _fresh_auxiliary_gradient(
    self, auxiliary: Role, student: Params, teacher: Params, key: jax.Array
  ) -> tuple[Params, jax.Array]:
    """Alg. 1's second half: new conditions, x_init and mask."""
    keys = jax.random.split(key, 4)
    labels = self._draw_labels(keys[0])
    logits = self._student(student, teacher, labels, keys[1])
    sample = self._sample(keys[2], logits, labels)
    (loss, _), gradient = jax.value_and_grad(
      self._auxiliary_loss, has_aux=True
    )(auxiliary.params, teacher, sample, keys[3])
    return gradient, loss


class _Keys(NamedTuple):
  """Random keys of one step, one for each purpose."""

  condition: jax.Array
  student: jax.Array
  sample: jax.Array
  gan: jax.Array
  auxiliary: jax.Array
  fresh: jax.Array


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
  """Norm of a over the norm of b."""
  return optax.tree.norm(a) / jnp.maximum(optax.tree.norm(b), 1e-12)
