"""Tokens and images from trained parameters: one step or many.

Every function is pure and meant to run under jit; `Sampler` batches it.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from softdimo_jax.families import Family
from softdimo_jax.method import sampling
from softdimo_jax.training.state import Params


def one_step_tokens(
  family: Family,
  params: Params,
  key: jax.Array,
  labels: jax.Array,
  *,
  init: ml_collections.ConfigDict,
  temperature: float,
) -> jax.Array:
  """Tokens of a one-step generator: one forward pass, no guidance.

  Args:
    family: generator and vocabulary facts.
    params: whole generator parameters.
    key: random key.
    labels: int [B].
    init: `mask_ratio` and `noise_scale` of training.
    temperature: of the draw; 0 takes the arg max.

  Returns:
    int32 [B, L, G].
  """
  input_key, sample_key = jax.random.split(key)
  embeddings = family.initial_embeddings(
    params, input_key, labels.shape[0], init
  )
  logits = family.backbone(params, embeddings, labels).logits
  return sampling.sample_tokens(
    sample_key, logits[..., : family.vocab_size], temperature=temperature
  )


def multi_step_tokens(
  family: Family,
  params: Params,
  key: jax.Array,
  labels: jax.Array,
  *,
  steps: int,
  guidance_scale: float,
  options: ml_collections.ConfigDict,
) -> jax.Array:
  """Tokens of a masked teacher.

  Args:
    family: generator and vocabulary facts.
    params: whole generator parameters.
    key: random key.
    labels: int [B].
    steps: of decoding.
    guidance_scale: s in u + s (c - u); 1 runs the conditional branch only.
    options: order, schedule, guidance_schedule, temperature,
      choice_temperature; see `sampling.multi_step_sample`.

  Returns:
    int32 [B, L, G].
  """

  def logits_fn(tokens: jax.Array, scale: jax.Array) -> jax.Array:
    return family.guided_logits(
      params, tokens, labels, 1 if guidance_scale == 1 else scale
    )

  return sampling.multi_step_sample(
    key,
    logits_fn,
    shape=(labels.shape[0], *family.token_shape),
    num_codes=family.vocab_size,
    mask_id=family.mask_id,
    steps=steps,
    schedule=options.schedule,
    guidance_scale=guidance_scale,
    guidance_schedule=options.guidance_schedule,
    temperature=options.temperature,
    choice_temperature=options.choice_temperature,
    order=options.order,
  )


@dataclasses.dataclass(frozen=True)
class Sampler:
  """Labels -> tokens and images, in batches of one compiled size.

  Attributes:
    tokens_fn: (generator params, key, labels [B]) -> int tokens [B, L, G].
    family: generator and tokenizer.
    batch_size: B of a call; the last batch is padded.
  """

  tokens_fn: Callable[[Params, jax.Array, jax.Array], jax.Array]
  family: Family
  batch_size: int

  def __post_init__(self) -> None:
    object.__setattr__(self, '_compiled', jax.jit(self._generate))

  def __call__(
    self,
    params: Params,
    tokenizer_params: Params,
    key: jax.Array,
    labels: np.ndarray,
  ) -> tuple[np.ndarray, np.ndarray]:
    """(int32 tokens [N, L, G], float32 images [N, H, W, C] in [0, 1])."""
    count = len(labels)
    padded = np.resize(labels, -(-count // self.batch_size) * self.batch_size)
    tokens, images = [], []
    for start in range(0, len(padded), self.batch_size):
      batch = padded[start : start + self.batch_size]
      output = self._compiled(
        params, tokenizer_params, jax.random.fold_in(key, start), batch
      )
      tokens.append(output[0])
      images.append(output[1])
    join = lambda parts: np.concatenate(jax.device_get(parts))[:count]
    return join(tokens), join(images)

  def _generate(
    self,
    params: Params,
    tokenizer_params: Params,
    key: jax.Array,
    labels: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    tokens = self.tokens_fn(params, key, labels)
    images = decode(self.family, tokenizer_params, tokens)
    return tokens, images


def decode(family: Family, params: Params, tokens: jax.Array) -> jax.Array:
  """Tokens [B, L, G] -> float32 images [B, H, W, C], clipped to [0, 1]."""
  images = family.tokenizer.apply({'params': params}, tokens, method='decode')
  return jnp.clip(images, 0, 1)


def encode(family: Family, params: Params, images: np.ndarray) -> np.ndarray:
  """Images float32 [N, H, W, C] in [0, 1] -> int32 tokens [N, L, G]."""
  run = jax.jit(
    lambda params, images: family.tokenizer.apply(
      {'params': params}, images, method='encode'
    )
  )
  return np.asarray(run(params, images))
