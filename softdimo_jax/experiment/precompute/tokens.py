"""Tokenizes the images of a source into a token cache."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert.folder import load_converted
from softdimo_jax.data.cache.records import module_fingerprint
from softdimo_jax.data.cache.tokens import (
  TokenCache,
  TokenCacheSpec,
  TokenCacheWriter,
)
from softdimo_jax.data.images import streams
from softdimo_jax.data.images.source import ImageSource
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config
from softdimo_jax.experiment.precompute import Advance, fill
from softdimo_jax.experiment.run import Run
from softdimo_jax.networks.call import call
from softdimo_jax.networks.tokenizers.interface import ImageTokenizer
from softdimo_jax.runtime import sharding
from softdimo_jax.runtime.batched import Batched, joined
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.types import Batch, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizationOptions:
  """Options of the tokenization.

  Attributes:
    size: H = W; images are resized along the short side, then center-cropped.
    flip: also tokenize the mirrored image.
    batch_size: images per compiled call; divisible by the number of devices.
    images_per_shard: an interruption loses at most one shard; part of the
      cache's format.
    num_threads: threads that read and decode images.
  """

  size: int
  flip: bool
  batch_size: int
  images_per_shard: int = 4096
  num_threads: int = 16


def load_tokenizer(
  converted: str | None, workdir: str | None
) -> tuple[ImageTokenizer, Params]:
  """The tokenizer of a converted checkpoint, or else of a run.

  Raises:
    UserError: if it is missing or not an image tokenizer.
  """
  if converted is None:
    run_folder = pathlib.Path(workdir or '').absolute()
    run = Run(run_folder, config.load(run_folder))
    return run.family.tokenizer, run.params('tokenizer')
  module, params = load_converted(pathlib.Path(converted))
  if not isinstance(module, ImageTokenizer):
    raise UserError(
      f'{converted} contains a {type(module).__name__}, which is not an image '
      'tokenizer'
    )
  return module, params


def tokenize(
  source: ImageSource,
  tokenizer: ImageTokenizer,
  params: Params,
  folder: pathlib.Path,
  options: TokenizationOptions,
  notice: PreemptionNotice,
) -> TokenCache:
  """Writes the missing shards; the bytes do not depend on interruptions.

  Args:
    source: labelled images.
    tokenizer: Linen module.
    params: parameters of the tokenizer.
    folder: folder of the token cache.
    options: see `TokenizationOptions`.
    notice: checked before each batch.

  Returns:
    The complete cache, opened and verified.

  Raises:
    Preempted: after a signal; finished shards are kept.
    UserError: if the options do not fit the tokenizer or the devices, or the
      folder contains a different cache.
  """
  spec = _spec(source, tokenizer, params, options)
  writer = TokenCacheWriter(folder, spec)
  encode = _encoder(tokenizer, options.flip)
  placed = encode.place(params)

  def write(shard: int, advance: Advance) -> None:
    batches = _batches(source, spec.images(shard), options, advance)
    encoded = list(encode.stream(placed, batches, options.batch_size))
    skipped = _names(source.skipped, spec.images(shard))
    writer.write(shard, *_records(spec, encoded), skipped)

  sizes = [len(spec.images(shard)) for shard in range(spec.num_shards)]
  fill(writer, 'tokenize', 'images', sizes, write, notice)
  return TokenCache(folder)


def _batches(
  source: ImageSource,
  images: range,
  options: TokenizationOptions,
  advance: Advance,
) -> Iterator[Batch]:
  batches = streams.ordered_batches(
    source,
    options.batch_size,
    options.size,
    images,
    num_threads=options.num_threads,
  )
  for number, batch in enumerate(batches):
    advance(number * options.batch_size)
    yield batch


def _spec(
  source: ImageSource,
  tokenizer: ImageTokenizer,
  params: Params,
  options: TokenizationOptions,
) -> TokenCacheSpec:
  shape = (1, options.size, options.size, source.channels)
  try:
    sharding.check_batch(
      'batch_size', options.batch_size, jax.local_device_count()
    )
    tokens = jax.eval_shape(
      functools.partial(tokenizer.apply, method='encode'),
      {'params': params},
      jax.ShapeDtypeStruct(shape, jnp.float32),
    )
  except ValueError as error:
    raise UserError(str(error)) from error
  table = jax.eval_shape(
    functools.partial(tokenizer.apply, method='table'), {'params': params}
  )
  return TokenCacheSpec(
    length=tokens.shape[1],
    groups=tokens.shape[2],
    vocab_size=table.shape[1],
    size=options.size,
    flip=options.flip,
    num_images=len(source),
    images_per_shard=options.images_per_shard,
    tokenizer=module_fingerprint(tokenizer, params),
    source=source.fingerprint,
    classes=list(source.classes),
  )


def _encoder(tokenizer: ImageTokenizer, flip: bool) -> Batched:
  """Batches of images -> (tokens [B, views, L, G], labels [B]).

  The second view is the mirror image.
  """

  def encode(params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
    images = batch['image']
    views = [images, images[:, :, ::-1]] if flip else [images]
    # Precision decides near a boundary between codes, and this runs once only.
    with jax.default_matmul_precision('highest'):
      tokens = [
        call(tokenizer, params, view, method='encode') for view in views
      ]
    return jnp.stack(tokens, axis=1), batch['label']

  return Batched(encode)


def _records(
  spec: TokenCacheSpec, encoded: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(tokens [N, L, G], labels [N], flipped [N]); views of an image adjoin."""
  views = 2 if spec.flip else 1
  none = np.empty((0, views, spec.length, spec.groups), np.int32)
  tokens, labels = joined([(none, np.empty(0, np.int32)), *encoded])
  return (
    tokens.reshape(-1, spec.length, spec.groups),
    np.repeat(labels, views),
    np.tile(np.arange(views) == 1, len(labels)),
  )


def _names(skipped: dict[int, str], indices: range) -> tuple[str, ...]:
  return tuple(name for index, name in skipped.items() if index in indices)
