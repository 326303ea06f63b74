"""A generator with its tokenizer and text tower, behind one interface."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from softdimo_jax.families.generator import GeneratorCalls
from softdimo_jax.networks.call import call
from softdimo_jax.networks.generators.condition import (
  Condition,
  TextCondition,
)
from softdimo_jax.networks.text.clip import CLIPTextTower
from softdimo_jax.networks.tokenizers.interface import ImageTokenizer
from softdimo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Family(GeneratorCalls):
  """A generator, its tokenizer and its text tower.

  Attributes:
    tokenizer: tokenizer between images and the generator's tokens.
    text: text tower for prompts, or None for class labels.
    micro: `TextCondition.micro` of every prompt; empty if the generator reads
      none.
  """

  tokenizer: ImageTokenizer
  text: CLIPTextTower | None = None
  micro: tuple[float, ...] = ()

  @property
  def text_tower(self) -> CLIPTextTower:
    """The text tower of a family that reads text."""
    if self.text is None:
      raise ValueError(f'family {self.name} has no text tower')
    return self.text

  def encode_text(self, params: Params, ids: jax.Array) -> TextCondition:
    """Condition of prompts, int ids [B, T], given the text tower's `params`."""
    output = call(self.text_tower, params, ids)
    micro = None
    if self.micro:
      micro = jnp.tile(jnp.array(self.micro, jnp.float32), (len(ids), 1))
    final = output.final if self.tokenizer.reads_text else None
    return TextCondition(output.penultimate, output.pooled, micro, final=final)

  def condition(self, batch: Mapping[str, Any]) -> Condition:
    """The generator's condition in a training batch."""
    return batch['text' if self.reads_text else 'label']

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C) of the generator's images."""
    return self.tokenizer.image_shape(self.generator.length)

  def init_tokenizer(self, key: jax.Array) -> Params:
    """Fresh tokenizer parameters."""
    images = jnp.zeros((1, *self.image_shape))
    return self.tokenizer.init(key, images, *self._example_text)['params']

  def init_decoder(self, key: jax.Array) -> Params:
    """Fresh tokenizer parameters, without those that only `encode` reads."""
    tokens = jnp.zeros((1, *self.token_shape), jnp.int32)
    return self.tokenizer.init(
      key, tokens, *self._example_text, method='decode'
    )['params']

  def decoder_params(self, params: Params) -> Params:
    """The tokenizer parameters that `decode` reads."""
    read = jax.eval_shape(self.init_decoder, jax.random.key(0))
    return {name: params[name] for name in read}

  @property
  def _example_text(self) -> tuple[jax.Array, ...]:
    """Example of the decoder's inputs besides embeddings, for their shapes."""
    if not self.tokenizer.reads_text:
      return ()
    tower = self.text_tower
    return (jnp.zeros((1, tower.length, tower.width)),)

  def decode(
    self,
    params: Params,
    tokens: jax.Array,
    condition: Condition | None = None,
  ) -> jax.Array:
    """Images of tokens: [B, L, G] -> [B, H, W, C], not clipped to [0, 1].

    Args:
      params: tokenizer parameters; those of the encoder may be absent.
      tokens: int [B, L, G].
      condition: condition of the tokens; some decoders read its text
        (`TextCondition.final`).

    Raises:
      ValueError: if the decoder reads text and the condition has none.
    """
    return self._decoded('decode', params, tokens, condition)

  def decode_soft(
    self,
    params: Params,
    probabilities: jax.Array,
    condition: Condition | None = None,
  ) -> jax.Array:
    """Like `decode`, for expected embeddings: probabilities [B, L, G, V]."""
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
          'condition.final is missing; the decoder reads text features'
        )
      text = (condition.final,)
    return call(self.tokenizer, params, codes, *text, method=method)
