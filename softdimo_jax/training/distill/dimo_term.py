"""The Di[M]O term: the divergence on the student's tokens, and the auxiliary.

Di[M]O Alg. 1. The auxiliary learns the student's distribution of masked tokens
(as the teacher learnt that of images); the gradient on the student's logits is
that of the divergence of the two.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from softdimo_jax.families.family import Family
from softdimo_jax.families.start import Start
from softdimo_jax.method import divergence
from softdimo_jax.ops.chunks import map_with_positions
from softdimo_jax.training import optim
from softdimo_jax.training.accumulation import Weighted, mean_of_parts
from softdimo_jax.training.distill.keys import Keys, tagged
from softdimo_jax.training.distill.student import Sample, Student
from softdimo_jax.training.state import Frozen, Role
from softdimo_jax.types import Batch, Metrics, Params


@dataclasses.dataclass(frozen=True)
class DiMOTerm:
  """Compares teacher and auxiliary and trains the latter; holds no arrays.

  Attributes:
    family: generator and vocabulary facts.
    config: the stage: accumulation, mask, guidance_scale, divergence,
      auxiliary, dropout, teacher_dropout.
    student: calls the generator.
    tx: optimiser of the auxiliary.
  """

  family: Family
  config: ml_collections.FrozenConfigDict
  student: Student
  tx: optax.GradientTransformationExtraArgs

  @classmethod
  def create(
    cls, family: Family, config: ml_collections.ConfigDict
  ) -> 'DiMOTerm':
    """The term from the configuration of a distillation."""
    return cls(
      family,
      ml_collections.FrozenConfigDict(config),
      Student(family, ml_collections.FrozenConfigDict(config)),
      optim.optimizer(
        config.auxiliary.optimizer, config.steps * config.auxiliary.updates
      ),
    )

  def init(self, params: Params) -> Role:
    """The auxiliary at the start, from complete generator parameters."""
    trained, _ = self.family.split(params)
    return optim.create_role(trained, self.tx, ema=False)

  def gradients(
    self, auxiliary: Role, frozen: Frozen, sample: Sample, key: jax.Array
  ) -> tuple[jax.Array, Weighted | None, dict[str, Any]]:
    """(gradient on the logits, gradient of the auxiliary, metrics).

    The auxiliary's forward pass serves both gradients, unless `fresh_sample`
    requests the official order: a fresh sample of the updated student.
    """
    config, scale = self.config.divergence, self.config.guidance_scale
    teacher_key, key = jax.random.split(key)
    if self.config.auxiliary.fresh_sample:
      gradient = None
      loss, auxiliary_last = self._loss(
        auxiliary.params, frozen.teacher, sample, key
      )
    else:
      (loss, auxiliary_last), gradient = jax.value_and_grad(
        self._loss, has_aux=True
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
    metrics: dict[str, Any] = dict(
      divergence.dimo_metrics(squares, sizes, weight)
    )
    # Means over masked entries, of which parts of a batch have different
    # numbers; the gradient on the logits is a mean over examples.
    masked = lambda value: Weighted(value, _count(sample))
    metrics['dimo/discrepancy'] = masked(metrics['dimo/discrepancy'])
    metrics['auxiliary/cross_entropy'] = masked(loss)
    if gradient is not None:
      gradient = masked(gradient)
    return logit_gradient, gradient, metrics

  def update(
    self,
    auxiliary: Role,
    gradient: Params | None,
    model: Role,
    frozen: Frozen,
    batch: Batch,
    key: jax.Array,
    step: jax.Array,
  ) -> tuple[Role, Metrics]:
    """`auxiliary.updates` updates; a given gradient is that of the first."""
    metrics, start = {}, self.student.start(key, step)
    for number in range(self.config.auxiliary.updates):
      if number or gradient is None:
        part_key = tagged(key, 'auxiliary', number) if number else key
        gradient, metrics['auxiliary/cross_entropy'] = mean_of_parts(
          lambda part, key, auxiliary=auxiliary: self._fresh_gradient(
            auxiliary,
            model.params,
            frozen.teacher,
            part,
            Keys.of(key).fresh,
            start,
          ),
          batch,
          part_key,
          self.config.accumulation,
        )
      auxiliary, update_metrics = optim.update(
        auxiliary, gradient, self.tx, step=step
      )
    return auxiliary, metrics | optim.prefix('auxiliary', update_metrics)

  def _fresh_gradient(
    self,
    auxiliary: Role,
    student: Params,
    teacher: Params,
    batch: Batch,
    key: jax.Array,
    start: Start,
  ) -> Weighted:
    """(gradient, loss) of Alg. 1's second half.

    It has new labels (the same prompts), x_init and mask.
    """
    keys = jax.random.split(key, 4)
    condition = (
      self.family.condition(batch)
      if self.family.reads_text
      else self.student.draw_labels(keys[0])
    )
    logits = self.student.logits(student, teacher, condition, keys[1], start)
    sample = self.student.sample(keys[2], logits, condition)
    (loss, _), gradient = jax.value_and_grad(self._loss, has_aux=True)(
      auxiliary.params, teacher, sample, keys[3]
    )
    return Weighted((gradient, loss), _count(sample))

  def _loss(
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


def _count(sample: Sample) -> jax.Array:
  """Number of masked entries, float32."""
  return sample.mask.sum().astype(jnp.float32)
