"""Encodes a list of prompts into a prompt cache."""

import dataclasses
import functools
import pathlib

import numpy as np

from softdimo_jax.data.cache.prompts import (
  EncodedPrompts,
  PromptCache,
  PromptCacheSpec,
  PromptCacheWriter,
)
from softdimo_jax.data.prompts.cut import warn_of_cut
from softdimo_jax.data.prompts.sources import PromptList
from softdimo_jax.experiment.inputs.prompts import Prompts, features
from softdimo_jax.experiment.precompute import Advance, fill
from softdimo_jax.generation.text_encoder import TextEncoder
from softdimo_jax.runtime.preemption import PreemptionNotice


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodingOptions:
  """Options of the encoding.

  Attributes:
    dtype: data type of the features on disk, see `prompt_cache.DTYPES`.
    batch_size: largest number of prompts per compiled call.
    prompts_per_shard: an interruption loses at most one shard; part of the
      cache's format.
  """

  dtype: str = 'float32'
  batch_size: int = 64
  prompts_per_shard: int = 512


def encode(
  prompts: PromptList,
  inputs: Prompts,
  folder: pathlib.Path,
  options: EncodingOptions,
  notice: PreemptionNotice,
) -> PromptCache:
  """Writes the missing shards; the bytes do not depend on interruptions.

  Args:
    prompts: prompts to encode.
    inputs: text tower and tokenizer.
    folder: folder of the prompt cache.
    options: see `EncodingOptions`.
    notice: checked before every batch.

  Returns:
    The complete cache, opened.

  Raises:
    Preempted: after a signal; finished shards are kept.
    UserError: if the folder contains a different cache, or features are not
      finite.
  """
  spec = PromptCacheSpec(
    dtype=options.dtype,
    num_prompts=len(prompts),
    prompts_per_shard=options.prompts_per_shard,
    prompts=prompts.fingerprint,
    **inputs.fingerprint,
  )
  writer = PromptCacheWriter(folder, spec)
  encode = functools.cache(
    lambda: TextEncoder(inputs.family, inputs.tower, options.batch_size)
  )

  def write(shard: int, advance: Advance) -> None:
    texts = [_text(spec, prompts, index) for index in spec.records(shard)]
    tokens = inputs.tokenizer(texts)
    before = lambda number: advance(number * options.batch_size)
    encoded = features(encode()(tokens.ids, before))
    cut = np.array(tokens.cut)
    if shard == 0:
      cut[0] = False  # the unconditional prompt does not count
    writer.write(
      shard, EncodedPrompts(texts, tokens.ids, encoded), int(cut.sum())
    )

  sizes = [len(spec.records(shard)) for shard in range(spec.num_shards)]
  fill(writer, 'encode', 'prompts', sizes, write, notice)
  cache = PromptCache(folder)
  warn_of_cut(cache.num_cut, len(cache), spec.length, 'the text tower')
  return cache


def _text(spec: PromptCacheSpec, prompts: PromptList, index: int) -> str:
  """Prompt of a record; the first is the unconditional prompt."""
  return prompts.texts[index - 1] if index else spec.null
