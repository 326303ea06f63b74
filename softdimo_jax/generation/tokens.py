"""Tokens and images from trained parameters: one step or many.

All functions are pure and meant to run under jit, except `encode_images`,
which batches host arrays itself.
"""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from softdimo_jax.families.family import Family
from softdimo_jax.families.start import Start
from softdimo_jax.method import sampling
from softdimo_jax.networks.call import call
from softdimo_jax.networks.generators.condition import Condition
from softdimo_jax.runtime.batched import Batched
from softdimo_jax.types import Params


def one_step_tokens(
  family: Family,
  params: Params,
  keys: jax.Array,
  condition: Condition,
  *,
  init: ml_collections.ConfigDict,
  temperature: float,
) -> jax.Array:
  """Tokens of a one-step generator: one forward pass, no guidance.

  Args:
    family: generator and vocabulary.
    params: parameters of the whole generator.
    keys: random keys [B] of the images, see `sampling.image_keys`.
    condition: labels int [B], or text features of B prompts.
    init: section of the distillation, see `Start.in_sampling`.
    temperature: sampling temperature; 0 takes the arg max.

  Returns:
    int32 [B, L, G].
  """
  input_keys, sample_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
  start = Start.in_sampling(init)
  embeddings = family.sampled_embeddings(params, input_keys, start)
  logits = family.one_step(params, embeddings, condition, start).logits
  draw = functools.partial(sampling.sample_tokens, temperature=temperature)
  return jax.vmap(draw)(sample_keys, logits[..., : family.vocab_size])


def multi_step_tokens(
  family: Family,
  params: Params,
  keys: jax.Array,
  condition: Condition,
  *,
  options: ml_collections.ConfigDict,
  null: Condition | None = None,
  start: tuple[jax.Array, int] | None = None,
) -> jax.Array:
  """Tokens of a masked teacher, sampled in several steps.

  Args:
    family: generator and vocabulary.
    params: parameters of the whole generator.
    keys: random keys [B] of the images, see `sampling.image_keys`.
    condition: labels int [B], or text features of B prompts.
    options: `steps`, `guidance_scale` (s in u + s (c - u); 1 runs the
      conditional branch only), and `plan` with `name` and options of
      `sampling.make_plan`, such as `temperature`.
    null: condition of the unconditional branch; required for text.
    start: see `sampling.multi_step_sample`.

  Returns:
    int32 [B, L, G].
  """
  guided = options.guidance_scale != 1

  def logits_fn(
    tokens: jax.Array, scale: jax.Array, time: jax.Array | None
  ) -> jax.Array:
    return family.guided_logits(
      params, tokens, condition, scale if guided else 1, null=null, time=time
    )

  plan = options.plan.to_dict()
  return sampling.multi_step_sample(
    keys,
    logits_fn,
    shape=family.token_shape,
    num_codes=family.vocab_size,
    mask_id=family.mask_id,
    steps=options.steps,
    plan=plan.pop('name'),
    start=start,
    guidance_scale=options.guidance_scale,
    **plan,
  )


def decode_tokens(
  family: Family,
  params: Params,
  tokens: jax.Array,
  condition: Condition | None = None,
) -> jax.Array:
  """Tokens [B, L, G] -> float32 images [B, H, W, C], clipped to [0, 1].

  `condition` is the one the tokens were sampled with, see `Family.decode`.
  """
  return jnp.clip(family.decode(params, tokens, condition), 0, 1)


def image_encoder(family: Family) -> Batched:
  """(params, images float32 [N, H, W, C] in [0, 1], batch size) -> tokens.

  Tokens are int32 [N, L, G]. Keep the encoder for several calls: each one
  compiles anew.
  """
  return Batched(
    lambda params, images: call(
      family.tokenizer, params, images, method='encode'
    )
  )


def encode_images(
  family: Family, params: Params, images: np.ndarray, batch_size: int = 2048
) -> np.ndarray:
  """Tokens int32 [N, L, G] of images, see `image_encoder`."""
  encode = image_encoder(family)
  return encode(params, images, min(batch_size, len(images)))
