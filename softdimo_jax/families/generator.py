"""Calls of a generator: on tokens or embeddings, guided, in one step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from softdimo_jax.families.start import Start
from softdimo_jax.method import divergence, masking
from softdimo_jax.networks.call import call
from softdimo_jax.networks.generators import condition as conditions
from softdimo_jax.networks.generators.condition import Condition
from softdimo_jax.networks.generators.interface import (
  GeneratorOutput,
  MaskedGenerator,
)
from softdimo_jax.types import Params

# Time of all-masked tokens in Meissonic's training.
_TIME_OF_MASKS = 1000


@dataclasses.dataclass(frozen=True)
class GeneratorCalls:
  """A generator as functions of its parameters.

  Attributes:
    name: name of the generator's architecture.
    generator: masked generator.
  """

  name: str
  generator: MaskedGenerator

  @property
  def vocab_size(self) -> int:
    """Codes per group, V."""
    return self.generator.vocab_size

  @property
  def mask_id(self) -> int:
    """Id of the mask: one past the codes."""
    return self.generator.vocab_size

  @property
  def token_shape(self) -> tuple[int, int]:
    """(L, G)."""
    return self.generator.length, self.generator.num_groups

  @property
  def reads_text(self) -> bool:
    """Whether the condition is text rather than a class label."""
    return self.generator.reads_text

  @property
  def null_label(self) -> int:
    """Label of the unconditional branch: one past the classes."""
    return self.generator.num_classes

  def init(self, key: jax.Array) -> Params:
    """Fresh generator parameters."""
    tokens = jnp.zeros((1, *self.token_shape), jnp.int32)
    condition = jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
      self.generator.condition_shape(),
    )
    return self.generator.init(key, tokens, condition)['params']

  def embed(self, params: Params, tokens: jax.Array) -> jax.Array:
    """Generator embeddings of tokens: [B, L, G] -> [B, L, D]."""
    return call(self.generator, params, tokens, method='embed')

  def table(self, params: Params) -> jax.Array:
    """Generator table [G, V + 1, D]; the mask is the last row."""
    return call(self.generator, params, method='table')

  def backbone(
    self,
    params: Params,
    embeddings: jax.Array,
    condition: Condition,
    *,
    dropout_key: jax.Array | None = None,
    method: str = 'backbone',
  ) -> GeneratorOutput:
    """Generator after the table; dropout is on if a key is given.

    `method` names a method of the generator; the default takes embeddings
    [B, L, D].
    """
    return call(
      self.generator,
      params,
      embeddings,
      condition,
      deterministic=dropout_key is None,
      rngs=None if dropout_key is None else {'dropout': dropout_key},
      method=method,
    )

  def one_step(
    self,
    params: Params,
    initial: jax.Array,
    condition: Condition,
    start: Start,
    *,
    dropout_key: jax.Array | None = None,
  ) -> GeneratorOutput:
    """One-step generator on `initial_embeddings` of the same `start`."""
    return self.backbone(
      params,
      initial,
      self.timed(condition, start.mask_ratio),
      dropout_key=dropout_key,
      method='from_features',
    )

  def forward(
    self,
    params: Params,
    tokens: jax.Array,
    condition: Condition,
    *,
    guidance_scale: jax.Array | float = 1,
    null: Condition | None = None,
    time: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
  ) -> GeneratorOutput:
    """Whole generator on int tokens [B, L, G] with masks.

    Guidance runs both branches as one batch of 2 B; `logits` with the same
    scale combines them. If the scale is the Python number 1, only the
    conditional branch runs. `null` is the condition of the other branch, by
    default the null class. `time`, float32 [], replaces that of `timed`.
    """
    if not _is_one(guidance_scale):
      tokens = jnp.concatenate([tokens, tokens])
      condition = conditions.with_null(condition, self._null(null))
    if time is None:
      condition = self.timed(condition, (tokens == self.mask_id).mean((1, 2)))
    else:
      condition = conditions.at_time(condition, time)
    return self.backbone(
      params, self.embed(params, tokens), condition, dropout_key=dropout_key
    )

  def logits(
    self,
    params: Params,
    pre_logits: jax.Array,
    positions: jax.Array | None = None,
    *,
    guidance_scale: jax.Array | float = 1,
  ) -> jax.Array:
    """Logits at some positions of a `forward` pass with the same guidance.

    Args:
      params: generator parameters.
      pre_logits: `GeneratorOutput.pre_logits`, [B, P, D], or [2 B, P, D] with
        guidance.
      positions: indices of the P positions, int [P]; None for all L.
      guidance_scale: the scale passed to `forward`.

    Returns:
      float32 [B, P, G, C].
    """
    logits = call(
      self.generator, params, pre_logits, positions, method='logits'
    )
    if _is_one(guidance_scale):
      return logits
    conditional, unconditional = jnp.split(logits, 2)
    return divergence.guide(conditional, unconditional, guidance_scale)

  def guided_logits(
    self,
    params: Params,
    tokens: jax.Array,
    condition: Condition,
    guidance_scale: jax.Array | float,
    *,
    null: Condition | None = None,
    time: jax.Array | None = None,
  ) -> jax.Array:
    """Logits [B, L, G, C] of int tokens [B, L, G], see `forward`."""
    output = self.forward(
      params,
      tokens,
      condition,
      guidance_scale=guidance_scale,
      null=null,
      time=time,
    )
    return self.logits(params, output.pre_logits, guidance_scale=guidance_scale)

  def timed(
    self, condition: Condition, mask_ratio: jax.Array | float
  ) -> Condition:
    """Adds the time in training: 1000 times the masked share, as officially.

    Does nothing if the generator does not read it. The share is float [B], or
    one number for the batch.
    """
    if not self.generator.reads_time:
      return condition
    share = jnp.asarray(mask_ratio, jnp.float32)
    return conditions.at_time(condition, _TIME_OF_MASKS * share)

  def dropped(
    self, condition: Condition, drop: jax.Array, null: Condition | None = None
  ) -> Condition:
    """Replaces the condition by `null` where `drop`, bool [B], is True."""
    return conditions.dropped(condition, drop, self._null(null))

  def _null(self, null: Condition | None) -> Condition:
    if null is not None:
      return null
    if self.reads_text:
      raise ValueError(f'{self.name} has no default null condition; give null')
    return jnp.full(1, self.null_label, jnp.int32)

  def initial_embeddings(
    self,
    params: Params,
    key: jax.Array,
    batch: int,
    start: Start,
  ) -> jax.Array:
    """The one-step generator's input [B, L, D] (Di[M]O section 4.3).

    A fresh x_init, embedded and perturbed, in training as at inference, where
    `sampled_embeddings` gives every sample its own key.
    """
    token_key, noise_key = jax.random.split(key)
    tokens = self.initial_tokens(token_key, batch, start)
    return self.perturbed(params, noise_key, tokens, start)

  def sampled_embeddings(
    self, params: Params, keys: jax.Array, start: Start
  ) -> jax.Array:
    """`initial_embeddings` [B, L, D] of samples with random keys [B]."""
    draw = lambda key: self.initial_embeddings(params, key, 1, start)[0]
    return jax.vmap(draw)(keys)

  def initial_tokens(
    self, key: jax.Array, batch: int, start: Start
  ) -> jax.Array:
    """A fresh x_init, int32 [B, L, G]."""
    length, groups = self.token_shape
    return masking.initial_tokens(
      key,
      batch=batch,
      length=length,
      groups=groups,
      vocab_size=self.vocab_size,
      mask_id=self.mask_id,
      mask_ratio=start.mask_ratio,
    )

  def perturbed(
    self, params: Params, key: jax.Array, tokens: jax.Array, start: Start
  ) -> jax.Array:
    """x_init [B, L, G], embedded, with fresh noise."""
    features = call(
      self.generator, params, self.embed(params, tokens), method='features'
    )
    unit = self.noise_unit(params, start.noise_unit)
    return masking.perturb(key, features, start.noise_scale, unit=unit)

  def noise_unit(self, params: Params, unit: str) -> jax.Array | float:
    """Standard deviation of the noise at sigma = 1, for a NOISE_UNIT."""
    if unit == 'absolute':
      return 1.0
    return masking.table_rms(self.table(params)[:, :-1])

  def stored(self, params: Params) -> Params:
    """Parameters of a frozen generator, as stored by a training step.

    Kernels are stored in the dtype of the matrix products, which cast them
    anyway: results are equal, and half precision halves the memory. Tables,
    biases and norms stay float32, as they are read.
    """
    dtype = jnp.dtype(self.generator.dtype)

    def cast(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
      name = path[-1].key
      cast = name == 'kernel' and leaf.dtype != dtype
      return leaf.astype(dtype) if cast else leaf

    return jax.tree_util.tree_map_with_path(cast, params)

  def split(self, params: Params) -> tuple[Params, Params]:
    """Generator parameters, split into (trained in distillation, frozen)."""
    names = self.generator.frozen
    frozen = {k: v for k, v in params.items() if k in names}
    return {k: v for k, v in params.items() if k not in frozen}, frozen

  def merge(self, trained: Params, teacher: Params) -> Params:
    """All generator parameters: trained ones and the teacher's frozen ones."""
    return {**self.split(teacher)[1], **trained}


def _is_one(scale: jax.Array | float) -> bool:
  """Whether `scale` is the Python number 1, known at trace time."""
  return isinstance(scale, (int, float)) and scale == 1
