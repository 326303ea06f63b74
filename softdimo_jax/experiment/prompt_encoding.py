"""Every prompt of a list through a text tower, into a prompt cache."""

import dataclasses
import pathlib

import numpy as np
from absl import logging

from softdimo_jax.data.cache.prompts import (
  EncodedPrompts,
  PromptCache,
  PromptCacheSpec,
  PromptCacheWriter,
)
from softdimo_jax.data.prompts.sources import PromptList
from softdimo_jax.experiment.inputs.prompts import (
  Prompted,
  features,
  warn_of_cut,
)
from softdimo_jax.generation.text_encoder import TextEncoder
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.runtime.progress import Progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodingOptions:
  """How prompts are encoded.

  Attributes:
    dtype: of the features on disk, see `prompt_cache.DTYPES`.
    batch_size: most prompts of a compiled call.
    prompts_per_shard: what an interruption may cost; part of the result.
  """

  dtype: str = 'float32'
  batch_size: int = 64
  prompts_per_shard: int = 512


def encode(
  prompts: PromptList,
  prompted: Prompted,
  folder: pathlib.Path,
  options: EncodingOptions,
  notice: PreemptionNotice,
) -> PromptCache:
  """Writes what the folder lacks; the bytes do not depend on interruptions.

  Args:
    prompts: to be encoded.
    prompted: text tower and tokenizer.
    folder: of the prompt cache.
    options: see there.
    notice: checked before every batch.

  Returns:
    The complete cache, opened.

  Raises:
    Preempted: if a signal came; finished shards are kept.
    UserError: if the folder holds a cache of something else, or features are
      not finite.
  """
  spec = PromptCacheSpec(
    dtype=options.dtype,
    num_prompts=len(prompts),
    prompts_per_shard=options.prompts_per_shard,
    prompts=prompts.facts,
    **prompted.facts,
  )
  writer = PromptCacheWriter(folder, spec)
  _encode_missing(writer, spec, prompts, prompted, options, notice)
  cache = PromptCache(folder)
  if prompts.num_empty:
    logging.warning('%d empty prompts are left out', prompts.num_empty)
  warn_of_cut(cache.num_cut, len(cache), spec.length)
  return cache


def _encode_missing(
  writer: PromptCacheWriter,
  spec: PromptCacheSpec,
  prompts: PromptList,
  prompted: Prompted,
  options: EncodingOptions,
  notice: PreemptionNotice,
) -> None:
  missing = writer.missing()
  if not missing:
    return
  encoder = TextEncoder(prompted.family, prompted.tower, options.batch_size)
  sizes = [len(spec.records(shard)) for shard in range(spec.num_shards)]
  done = sum(sizes) - sum(sizes[shard] for shard in missing)
  progress = Progress('encode', done, sum(sizes), unit='prompts')

  def before_batch(number: int) -> None:
    notice.check()
    progress.update(done + number * options.batch_size, {})

  for shard in missing:
    texts = [_text(spec, prompts, index) for index in spec.records(shard)]
    tokens = prompted.tokenizer(texts)
    found = features(encoder(tokens.ids, before_batch))
    cut = np.array(tokens.cut)
    if shard == 0:
      cut[0] = False  # the unconditional prompt, which nobody counts
    writer.write(
      shard, EncodedPrompts(texts, tokens.ids, found), int(cut.sum())
    )
    done += sizes[shard]
  progress.update(done, {})


def _text(spec: PromptCacheSpec, prompts: PromptList, index: int) -> str:
  """Of a record: the first is the unconditional prompt."""
  return prompts.texts[index - 1] if index else spec.null
