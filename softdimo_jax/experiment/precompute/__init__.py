"""Caches of tokens and of text features: the loop that fills them."""

from collections.abc import Callable, Sequence

from softdimo_jax.data.cache.records import RecordCacheWriter
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.runtime.progress import Progress

# Called before each batch with the items of the shard that are finished.
Advance = Callable[[int], None]


def fill(
  writer: RecordCacheWriter,
  name: str,
  unit: str,
  sizes: Sequence[int],
  write: Callable[[int, Advance], None],
  notice: PreemptionNotice,
) -> None:
  """Writes the shards that a cache lacks.

  Args:
    writer: of the cache.
    name: of the progress line.
    unit: what the items are, in the plural.
    sizes: items of every shard.
    write: (shard, advance) encodes a shard and writes it.
    notice: checked before each batch.

  Raises:
    Preempted: if a signal came; finished shards are kept.
  """
  missing = writer.missing()
  done = sum(sizes) - sum(sizes[shard] for shard in missing)
  progress = Progress(name, done, sum(sizes), unit=unit)

  def advance(items: int) -> None:
    notice.check()
    progress.update(done + items, {})

  for shard in missing:
    write(shard, advance)
    done += sizes[shard]
  progress.update(done, {})
