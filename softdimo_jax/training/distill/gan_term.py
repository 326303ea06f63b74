"""The GAN term: heads on the frozen teacher, fed through soft embeddings.

Soft-Di[M]O section 3.2. Real images enter as hard embeddings, the student as
the expected embeddings of its logits; the same entries of both are masked. The
other relaxations, and REINFORCE, are baselines.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import optax

from softdimo_jax.families.family import Family
from softdimo_jax.method import adversarial, masking, sampling
from softdimo_jax.method.reinforce import reinforce_loss
from softdimo_jax.method.soft_embedding import relax, soft_masked_embedding
from softdimo_jax.networks.call import call
from softdimo_jax.networks.discriminator import DiscriminatorHeads
from softdimo_jax.networks.generators.condition import Condition
from softdimo_jax.training import optim
from softdimo_jax.training.accumulation import mean_of_parts
from softdimo_jax.training.distill.keys import tagged
from softdimo_jax.training.distill.student import temperature_of
from softdimo_jax.training.state import Role
from softdimo_jax.types import Batch, Metrics, Params

# Embeddings [B, L, D] -> (generator losses [B], tapped features).
Judge = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class GANTerm:
  """Scores the student and trains the heads; holds no arrays.

  Attributes:
    family: generator and vocabulary facts.
    config: the stage's `gan`: weight, loss, relaxation, fakes, updates,
      max_mask_ratio, taps, width, r1_weight, delay_steps, ramp_steps.
    temperature: of the student's tokens, soft and hard ones.
    heads: Linen module.
    accumulation: parts of a batch whose gradients are averaged.
    tx: optimiser of the heads.
  """

  family: Family
  config: ml_collections.FrozenConfigDict
  temperature: float
  heads: DiscriminatorHeads
  accumulation: int
  tx: optax.GradientTransformationExtraArgs

  @classmethod
  def create(
    cls, family: Family, config: ml_collections.ConfigDict
  ) -> 'GANTerm':
    """The term from the configuration of a distillation."""
    return cls(
      family,
      ml_collections.FrozenConfigDict(config.gan),
      temperature_of(config, 'gan'),
      DiscriminatorHeads(config.gan.width),
      config.accumulation,
      optim.optimizer(config.gan.optimizer, config.steps * config.gan.updates),
    )

  def init(self, key: jax.Array) -> Role:
    """Newly initialised heads."""
    length, _ = self.family.token_shape
    shape = (len(self.config.taps), 1, length, self.family.generator.width)
    params = self.heads.init(key, jnp.zeros(shape), jnp.zeros(1))['params']
    return optim.create_role(params, self.tx, ema=False)

  def gradients(
    self,
    discriminator: Params,
    teacher: Params,
    logits: jax.Array,
    batch: Batch,
    key: jax.Array,
    step: jax.Array,
  ) -> tuple[jax.Array, Params, Metrics]:
    """Gradients of the student's logits and of the heads.

    With soft fakes, the heads score and learn from the same pass of the frozen
    teacher.

    Args:
      discriminator: parameters of the heads.
      teacher: whole frozen generator parameters.
      logits: [B, L, G, C] of the student.
      batch: `tokens` [B, L, G] of real images and their condition, which is
        also that of the student's logits.
      key: random key.
      step: int32, index of this update.

    Returns:
      (weighted gradient on the logits, gradient of the heads, metrics).
    """
    config = self.config
    mask_key, relax_key, sample_key = jax.random.split(key, 3)
    mask, rate = self._draw_mask(mask_key, batch['tokens'].shape)
    condition = self.family.timed(self.family.condition(batch), rate)

    def judge(fake: jax.Array) -> tuple[jax.Array, jax.Array]:
      features = self._features(teacher, fake, condition)
      score = self._score(discriminator, features, rate)
      return adversarial.generator_losses(score, kind=config.loss), features

    way = (
      self._reinforced if config.relaxation == 'reinforce' else self._relaxed
    )
    loss, fake, gradient = way(judge, teacher, logits, mask, relax_key)
    real = self._hard_embedding(teacher, batch['tokens'], mask)
    if config.fakes == 'hard':
      tokens = self._draw(sample_key, logits)
      embeddings = self._hard_embedding(teacher, tokens, mask)
      fake = self._features(teacher, embeddings, condition)
    heads_gradient, metrics = self._heads_gradient(
      discriminator, teacher, real, fake, condition, rate
    )
    metrics |= {'gan/generator_loss': loss}
    return self._weight(step) * gradient, heads_gradient, metrics

  def _draw(self, key: jax.Array, logits: jax.Array) -> jax.Array:
    """Hard tokens [B, L, G] of the student."""
    codes = logits[..., : self.family.vocab_size]
    return sampling.sample_tokens(key, codes, temperature=self.temperature)

  def _soft(
    self, teacher: Params, logits: jax.Array, mask: jax.Array, key: jax.Array
  ) -> jax.Array:
    """Embeddings [B, L, D] of relaxed tokens, masked."""
    probabilities = relax(
      key,
      logits[..., : self.family.vocab_size],
      relaxation=self.config.relaxation,
      temperature=self.temperature,
    )
    return soft_masked_embedding(
      probabilities, self.family.table(teacher), mask
    )

  def _relaxed(
    self,
    judge: Judge,
    teacher: Params,
    logits: jax.Array,
    mask: jax.Array,
    key: jax.Array,
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(loss, features, gradient on the logits) through relaxed tokens."""

    def loss(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
      losses, features = judge(self._soft(teacher, logits, mask, key))
      return losses.mean(), features

    (value, fake), gradient = jax.value_and_grad(loss, has_aux=True)(logits)
    return value, fake, gradient

  def _reinforced(
    self,
    judge: Judge,
    teacher: Params,
    logits: jax.Array,
    mask: jax.Array,
    key: jax.Array,
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `_relaxed`, from the losses of drawn tokens alone.

    Masked entries have no effect on the losses: without their gradient it stays
    unbiased and is less noisy.
    """
    tokens = self._draw(key, logits)
    losses, fake = judge(self._hard_embedding(teacher, tokens, mask))

    def loss(logits: jax.Array) -> jax.Array:
      visible = jnp.where(
        mask[..., None], jax.lax.stop_gradient(logits), logits
      )
      return reinforce_loss(
        visible[..., : self.family.vocab_size],
        tokens,
        -losses,
        temperature=self.temperature,
      )

    return losses.mean(), fake, jax.grad(loss)(logits)

  def _weight(self, step: jax.Array) -> jax.Array:
    """`weight` after the delay and the ramp."""
    config = self.config
    ramp = (step + 1 - config.delay_steps) / max(config.ramp_steps, 1)
    return config.weight * jnp.clip(ramp, 0.0, 1.0)

  @property
  def keeps_logits(self) -> bool:
    """Whether `update` reads the student's logits."""
    return self.config.updates > 1

  def update(
    self,
    discriminator: Role,
    gradient: Params,
    teacher: Params,
    rows: tuple[Batch, jax.Array | None],
    key: jax.Array,
    step: jax.Array,
  ) -> tuple[Role, Metrics]:
    """`updates` updates of the heads, the first with the given gradient.

    Args:
      discriminator: the heads.
      gradient: see `gradients`.
      teacher: whole frozen generator parameters.
      rows: the batch and, if `keeps_logits`, the student's logits for it: all
        updates learn from the same pass of the student.
      key: of the step.
      step: int32, index of this update of the student.
    """
    discriminator, metrics = optim.update(
      discriminator, gradient, self.tx, step=step
    )
    for number in range(1, self.config.updates):
      gradient = mean_of_parts(
        lambda part, key, heads=discriminator: self._further_gradient(
          heads.params, teacher, part, key
        ),
        rows,
        tagged(key, 'discriminator', number),
        self.accumulation,
      )
      discriminator, metrics = optim.update(
        discriminator, gradient, self.tx, step=step
      )
    return discriminator, optim.prefix('discriminator', metrics)

  def _further_gradient(
    self,
    discriminator: Params,
    teacher: Params,
    rows: tuple[Batch, jax.Array],
    key: jax.Array,
  ) -> Params:
    """Gradient of the heads with a fresh mask and, if drawn, fresh fakes."""
    batch, logits = rows
    mask_key, fake_key = jax.random.split(key)
    mask, rate = self._draw_mask(mask_key, batch['tokens'].shape)
    condition = self.family.timed(self.family.condition(batch), rate)
    if self.config.fakes == 'hard' or self.config.relaxation == 'reinforce':
      tokens = self._draw(fake_key, logits)
      fake = self._hard_embedding(teacher, tokens, mask)
    else:
      fake = self._soft(teacher, logits, mask, fake_key)
    real = self._hard_embedding(teacher, batch['tokens'], mask)
    features = self._features(teacher, fake, condition)
    gradient, _ = self._heads_gradient(
      discriminator, teacher, real, features, condition, rate
    )
    return gradient

  def _draw_mask(
    self, key: jax.Array, shape: tuple[int, int, int]
  ) -> tuple[jax.Array, jax.Array]:
    """(mask [B, L, G], ratio [B]); unlike elsewhere the mask may be empty."""
    rate_key, mask_key = jax.random.split(key)
    batch, length, groups = shape
    high = self.config.max_mask_ratio
    rate = jax.random.uniform(rate_key, (batch,), maxval=high)
    count = jnp.round(rate * length * groups).astype(jnp.int32)
    return masking.exact_mask(mask_key, count, length, groups), rate

  def _hard_embedding(
    self, teacher: Params, tokens: jax.Array, mask: jax.Array
  ) -> jax.Array:
    masked = jnp.where(mask, self.family.mask_id, tokens)
    return self.family.embed(teacher, masked)

  def _features(
    self, teacher: Params, embeddings: jax.Array, condition: Condition
  ) -> jax.Array:
    """Tapped hidden states [taps, B, L, D] of the frozen teacher."""
    hidden = self.family.backbone(teacher, embeddings, condition).hidden
    return hidden[jnp.array(self.config.taps)]

  def _score(
    self, params: Params, features: jax.Array, rate: jax.Array
  ) -> jax.Array:
    return call(self.heads, params, features, rate)

  def _heads_gradient(
    self,
    discriminator: Params,
    teacher: Params,
    real: jax.Array,
    fake: jax.Array,
    condition: Condition,
    rate: jax.Array,
  ) -> tuple[Params, Metrics]:
    """Gradient of the heads' loss on real embeddings and fake features."""
    config = self.config
    real_features = self._features(teacher, real, condition)

    def loss(params: Params) -> tuple[jax.Array, Metrics]:
      loss, metrics = adversarial.discriminator_loss(
        self._score(params, real_features, rate),
        self._score(params, fake, rate),
        kind=config.loss,
      )
      if config.r1_weight > 0:
        penalty = adversarial.r1_penalty(
          lambda x: self._score(
            params, self._features(teacher, x, condition), rate
          ),
          real,
        )
        loss += config.r1_weight * penalty
        metrics['gan/r1_penalty'] = penalty
      return loss, metrics

    return jax.grad(loss, has_aux=True)(discriminator)
