"""A generator with its tokenizer and text tower, behind one interface."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from softdimo_jax.families.generator import GeneratorCalls
from softdimo_jax.networks.generators.condition import (
  Condition,
  TextCondition,
)
from softdimo_jax.networks.text.clip import CLIPTextTower
from softdimo_jax.networks.tokenizers.interface import ImageTokenizer
from softdimo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Family(GeneratorCalls):
  """A generator, the tokenizer of its tokens and the tower of its prompts.

  Attributes:
    tokenizer: between images and the tokens.
    text: tower that reads the prompts, or None for class labels.
    micro: numbers about the images that go with every prompt, as
      `TextCondition.micro` has them; empty where the generator reads none.
  """

  tokenizer: ImageTokenizer
  text: CLIPTextTower | None = None
  micro: tuple[float, ...] = ()

  def encode_text(self, params: Params, ids: jax.Array) -> TextCondition:
    """Condition of prompts, int [B, T], with the text tower's parameters."""
    output = self.text.apply({'params': params}, ids)
    micro = None
    if self.micro:
      micro = jnp.tile(jnp.array(self.micro, jnp.float32), (len(ids), 1))
    final = output.final if self.tokenizer.reads_text else None
    return TextCondition(output.penultimate, output.pooled, micro, final=final)

  def condition(self, batch: Mapping[str, Any]) -> Condition:
    """The part of a training batch that the generator is conditioned on."""
    return batch['text' if self.reads_text else 'label']

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C) of the images whose tokens the generator makes."""
    return self.tokenizer.image_shape(self.generator.length)

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
    """Inputs of the decoder besides an image's embeddings, for shapes."""
    if not self.tokenizer.reads_text:
      return ()
    return (jnp.zeros((1, self.text.length, self.text.width)),)

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
      condition: what the tokens were made for; some decoders read its text
        (`TextCondition.final`).

    Raises:
      ValueError: if the decoder reads text and there is none.
    """
    return self._decoded('decode', params, tokens, condition)

  def decode_soft(
    self,
    params: Params,
    probabilities: jax.Array,
    condition: Condition | None = None,
  ) -> jax.Array:
    """As `decode`, of expected embeddings: probabilities [B, L, G, V]."""
    return self._decoded('decode_soft', params, probabilities, condition)

  def _decoded(
    self,
    method: str,
    params: Params,
    codes: jax.Array,
    condition: Condition | None,
  ) -> jax.Array:
    text = ()
    if self.tokenizer.reads_text:
      if not isinstance(condition, TextCondition) or condition.final is None:
        raise ValueError(
          'the decoder reads the text of its images: condition.final is missing'
        )
      text = (condition.final,)
    return self.tokenizer.apply({'params': params}, codes, *text, method=method)
