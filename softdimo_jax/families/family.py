"""A system for everybody who runs it: how its parts are called and combined."""

import dataclasses
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
from softdimo_jax.types import Params


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
    final = output.final if self.tokenizer.reads_text else None
    return TextCondition(output.penultimate, output.pooled, micro, final=final)

  def condition(self, batch: Mapping[str, Any]) -> Condition:
    """What of a training batch the generator is conditioned on."""
    return batch['text' if self.reads_text else 'label']

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C) of the images whose tokens the generator makes."""
    return self.tokenizer.image_shape(self.generator.length)

  def init(self, key: jax.Array) -> Params:
    """Fresh generator parameters."""
    tokens = jnp.zeros((1, *self.token_shape), jnp.int32)
    return self.generator.init(key, tokens, self._example)['params']

  def init_tokenizer(self, key: jax.Array) -> Params:
    """Fresh tokenizer parameters."""
    images = jnp.zeros((1, *self.image_shape))
    return self.tokenizer.init(key, images, *self._example_text)['params']

  def init_decoder(self, key: jax.Array) -> Params:
    """Fresh tokenizer parameters but for those that only `encode` reads."""
    tokens = jnp.zeros((1, *self.token_shape), jnp.int32)
    return self.tokenizer.init(
      key, tokens, *self._example_text, method='decode'
    )['params']

  def decoder_params(self, params: Params) -> Params:
    """The part of tokenizer parameters that `decode` reads."""
    read = jax.eval_shape(self.init_decoder, jax.random.key(0))
    return {name: params[name] for name in read}

  @property
  def _example_text(self) -> tuple[jax.Array, ...]:
    """What the decoder reads besides an image's embeddings."""
    if not self.tokenizer.reads_text:
      return ()
    return (jnp.zeros((1, self.text.length, self.text.width)),)

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

  def forward(
    self,
    params: Params,
    tokens: jax.Array,
    condition: Condition,
    *,
    dropout_key: jax.Array | None = None,
  ) -> GeneratorOutput:
    """Whole generator on int tokens [B, L, G] with masks."""
    share = (tokens == self.mask_id).mean((1, 2))
    return self.backbone(
      params,
      self.embed(params, tokens),
      self.timed(condition, share),
      dropout_key=dropout_key,
    )

  def timed(
    self, condition: Condition, mask_ratio: jax.Array | float
  ) -> Condition:
    """The condition when so many tokens are masked, a share [B] or of all.

    Only Meissonic's `timestep_mode='ratio'` reads it.
    """
    if getattr(self.generator, 'timestep_mode', 'zero') == 'zero':
      return condition
    share = jnp.asarray(mask_ratio, jnp.float32)
    time = jnp.broadcast_to(share, conditions.batch_size(condition))
    return condition.replace(time=time)

  def logits(
    self,
    params: Params,
    last: jax.Array,
    positions: jax.Array | None = None,
  ) -> jax.Array:
    """Of `GeneratorOutput.last` at these int positions [P], or at all.

    [B, P, D] -> float32 [B, P, G, C].
    """
    return self.generator.apply(
      {'params': params}, last, positions, method='logits'
    )

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
    last = self.guided_last(
      params,
      tokens,
      condition,
      guidance_scale,
      null=null,
      dropout_key=dropout_key,
    )
    return self.guide(params, last, guidance_scale)

  def guided_last(
    self,
    params: Params,
    tokens: jax.Array,
    condition: Condition,
    guidance_scale: jax.Array | float,
    *,
    null: Condition | None = None,
    dropout_key: jax.Array | None = None,
  ) -> jax.Array:
    """What `guide` makes the logits of: [B, L, D], or [2 B, L, D] of a pair.

    Arguments are those of `guided_logits`.
    """
    if not _is_one(guidance_scale):
      tokens = jnp.concatenate([tokens, tokens])
      condition = conditions.with_null(condition, self._null(null))
    return self.forward(params, tokens, condition, dropout_key=dropout_key).last

  def guide(
    self,
    params: Params,
    last: jax.Array,
    guidance_scale: jax.Array | float,
    positions: jax.Array | None = None,
  ) -> jax.Array:
    """Logits [B, P, G, C] of `guided_last` at positions, see `logits`."""
    logits = self.logits(params, last, positions)
    if _is_one(guidance_scale):
      return logits
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

  def decode(
    self,
    params: Params,
    tokens: jax.Array,
    condition: Condition | None = None,
  ) -> jax.Array:
    """Images of tokens: [B, L, G] -> [B, H, W, C], not clipped to [0, 1].

    Args:
      params: of the tokenizer; its encoder may be absent.
      tokens: int [B, L, G].
      condition: what the tokens were made for, of which some decoders read
        the text (`TextCondition.final`).

    Raises:
      ValueError: if the decoder reads text and there is none.
    """
    return self.tokenizer.apply(
      {'params': params}, tokens, *self._read(condition), method='decode'
    )

  def decode_soft(
    self,
    params: Params,
    probabilities: jax.Array,
    condition: Condition | None = None,
  ) -> jax.Array:
    """As `decode`, of expected embeddings: probabilities [B, L, G, V]."""
    variables = {'params': params}
    table = self.tokenizer.apply(variables, method='table')
    return self.tokenizer.apply(
      variables,
      soft_embedding(probabilities, table),
      *self._read(condition),
      method='decode_embeddings',
    )

  def _read(self, condition: Condition | None) -> tuple[jax.Array, ...]:
    """What the decoder takes besides embeddings."""
    if not self.tokenizer.reads_text:
      return ()
    final = getattr(condition, 'final', None)
    if final is None:
      raise ValueError(
        'the decoder reads the text of its images: condition.final is missing'
      )
    return (final,)

  def stored(self, params: Params) -> Params:
    """Parameters of a frozen generator as a step keeps them.

    Kernels are in the dtype of the matrix products, which cast them to it
    anyway: nothing changes but half the memory. Tables, biases and norms,
    which are read in float32, stay as they are.
    """
    dtype = jnp.dtype(self.generator.dtype)

    def cast(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
      name = path[-1].key
      cast = name == 'kernel' and leaf.dtype != dtype
      return leaf.astype(dtype) if cast else leaf

    return jax.tree_util.tree_map_with_path(cast, params)

  def split(self, params: Params) -> tuple[Params, Params]:
    """(trained in distillation, frozen) parts of generator parameters."""
    frozen = {k: v for k, v in params.items() if k in self.frozen}
    return {k: v for k, v in params.items() if k not in frozen}, frozen

  def merge(self, trained: Params, teacher: Params) -> Params:
    """Whole generator: trained parameters beside the teacher's frozen ones."""
    return {**self.split(teacher)[1], **trained}


def _is_one(scale: jax.Array | float) -> bool:
  """Whether it is the Python number 1, known before anything runs."""
  return isinstance(scale, (int, float)) and scale == 1
