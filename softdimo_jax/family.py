"""A system for everybody who runs it: how its parts are called and combined."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax.method import divergence, masking
from softdimo_jax.method.soft_embedding import soft_embedding
from softdimo_jax.networks.generators import condition as conditions
from softdimo_jax.networks.generators.condition import (
  Condition,
  TextCondition,
)
from softdimo_jax.networks.generators.output import GeneratorOutput
from softdimo_jax.networks.text.clip import CLIPTextTower

Params = Any


@dataclasses.dataclass(frozen=True)
class Family:
  """A generator with its tokenizer.

  Attributes:
    name: of the generator's architecture.
    generator: Linen module with `embed`, `table` and `backbone`.
    tokenizer: Linen module with `encode`, `table`, `decode_embeddings`.
    frozen: top-level generator parameters that distillation does not train.
    text: tower that reads the prompts, or None for class labels.
    micro: numbers about the images that go with every prompt, as
      `TextCondition.micro` has them; empty where the generator reads none.
    late_noise: whether the noise of a one-step generator comes behind what
      its `features` method makes of the embeddings.
  """

  name: str
  generator: nn.Module
  tokenizer: nn.Module
  frozen: tuple[str, ...]
  text: CLIPTextTower | None = None
  micro: tuple[float, ...] = ()
  late_noise: bool = False

  @property
  def vocab_size(self) -> int:
    """V, codes of one group."""
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
    """Whether the condition is text; else it is a class label."""
    return self.text is not None

  @property
  def null_label(self) -> int:
    """Label of the unconditional branch; one more than the last class."""
    return self.generator.num_classes

  def encode_text(self, params: Params, ids: jax.Array) -> TextCondition:
    """Condition of prompts, int [B, T], with the text tower's parameters."""
    output = self.text.apply({'params': params}, ids)
    micro = None
    if self.micro:
      micro = jnp.tile(jnp.array(self.micro, jnp.float32), (len(ids), 1))
    return TextCondition(output.penultimate, output.pooled, micro)

  def condition(self, batch: Mapping[str, Any]) -> Condition:
    """What of a training batch the generator is conditioned on."""
    return batch['text' if self.reads_text else 'label']

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C) of the images whose tokens fill the generator's grid."""
    size = math.isqrt(self.generator.length) * self.tokenizer.factor
    return size, size, self.tokenizer.in_channels

  def init(self, key: jax.Array) -> Params:
    """Fresh generator parameters."""
    tokens = jnp.zeros((1, *self.token_shape), jnp.int32)
    return self.generator.init(key, tokens, self._example)['params']

  def init_tokenizer(self, key: jax.Array) -> Params:
    """Fresh tokenizer parameters."""
    images = jnp.zeros((1, *self.image_shape))
    return self.tokenizer.init(key, images)['params']

  def embed(self, params: Params, tokens: jax.Array) -> jax.Array:
    """Generator embedding of tokens [B, L, G] -> [B, L, D]."""
    return self.generator.apply({'params': params}, tokens, method='embed')

  def table(self, params: Params) -> jax.Array:
    """Generator table [G, V + 1, D]; the mask is the last row."""
    return self.generator.apply({'params': params}, method='table')

  def backbone(
    self,
    params: Params,
    embeddings: jax.Array,
    condition: Condition,
    *,
    dropout_key: jax.Array | None = None,
  ) -> GeneratorOutput:
    """Generator after the table; dropout is on if a key is given."""
    return self._apply('backbone', params, embeddings, condition, dropout_key)

  def from_initial(
    self,
    params: Params,
    embeddings: jax.Array,
    condition: Condition,
    *,
    dropout_key: jax.Array | None = None,
  ) -> GeneratorOutput:
    """As `backbone`, of what `initial_embeddings` makes."""
    method = 'from_features' if self.late_noise else 'backbone'
    return self._apply(method, params, embeddings, condition, dropout_key)

  def _apply(
    self,
    method: str,
    params: Params,
    embeddings: jax.Array,
    condition: Condition,
    dropout_key: jax.Array | None,
  ) -> GeneratorOutput:
    return self.generator.apply(
      {'params': params},
      embeddings,
      condition,
      deterministic=dropout_key is None,
      rngs=None if dropout_key is None else {'dropout': dropout_key},
      method=method,
    )

  def guided_logits(
    self,
    params: Params,
    tokens: jax.Array,
    condition: Condition,
    guidance_scale: jax.Array | float,
    *,
    null: Condition | None = None,
    dropout_key: jax.Array | None = None,
  ) -> jax.Array:
    """Logits [B, L, G, C] of int tokens [B, L, G] under guidance.

    The guided pair runs as one batch of 2 B; a scale that is the Python
    number 1 needs, and costs, one branch only. `null` is the condition of the
    other branch, by default the null class.
    """
    embeddings = self.embed(params, tokens)
    if isinstance(guidance_scale, (int, float)) and guidance_scale == 1:
      return self.backbone(
        params, embeddings, condition, dropout_key=dropout_key
      ).logits
    logits = self.backbone(
      params,
      jnp.concatenate([embeddings, embeddings]),
      conditions.with_null(condition, self._null(null)),
      dropout_key=dropout_key,
    ).logits
    return divergence.guide(*jnp.split(logits, 2), guidance_scale)

  def dropped(
    self, condition: Condition, drop: jax.Array, null: Condition | None = None
  ) -> Condition:
    """The condition without its part where `drop`, bool [B], is true."""
    return conditions.dropped(condition, drop, self._null(null))

  def _null(self, null: Condition | None) -> Condition:
    if null is not None:
      return null
    if self.reads_text:
      raise ValueError(f'{self.name} has no null condition of its own')
    return jnp.full(1, self.null_label, jnp.int32)

  @property
  def _example(self) -> Condition:
    """Of a batch of 1, for shapes."""
    if not self.reads_text:
      return jnp.zeros(1, jnp.int32)
    return jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
      self.generator.condition_shape(),
    )

  def initial_embeddings(
    self,
    params: Params,
    key: jax.Array,
    batch: int,
    init: ml_collections.ConfigDict,
  ) -> jax.Array:
    """The one-step generator's input [B, L, D] (Di[M]O section 4.3).

    A fresh x_init, embedded and perturbed; the same in training and at
    inference. `init` holds `mask_ratio` and `noise_scale`.
    """
    token_key, noise_key = jax.random.split(key)
    length, groups = self.token_shape
    tokens = masking.initial_tokens(
      token_key,
      batch=batch,
      length=length,
      groups=groups,
      vocab_size=self.vocab_size,
      mask_id=self.mask_id,
      mask_ratio=init.mask_ratio,
    )
    embeddings = self.embed(params, tokens)
    if self.late_noise:
      embeddings = self.generator.apply(
        {'params': params}, embeddings, method='features'
      )
    return masking.perturb(noise_key, embeddings, init.noise_scale)

  def decode_soft(self, params: Params, probabilities: jax.Array) -> jax.Array:
    """Images of expected embeddings: [B, L, G, V] -> [B, H, W, C].

    `params` are the tokenizer's; the images are not clipped to [0, 1].
    """
    variables = {'params': params}
    table = self.tokenizer.apply(variables, method='table')
    return self.tokenizer.apply(
      variables,
      soft_embedding(probabilities, table),
      method='decode_embeddings',
    )

  def split(self, params: Params) -> tuple[Params, Params]:
    """(trained in distillation, frozen) parts of generator parameters."""
    frozen = {k: v for k, v in params.items() if k in self.frozen}
    return {k: v for k, v in params.items() if k not in frozen}, frozen

  def merge(self, trained: Params, teacher: Params) -> Params:
    """Whole generator: trained parameters beside the teacher's frozen ones."""
    return {**self.split(teacher)[1], **trained}
