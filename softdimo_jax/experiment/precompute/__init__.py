"""The loop that fills caches of tokens and of text features."""

from collections.abc import Callable, Sequence

from softdimo_jax.data.cache.records import RecordCacheWriter
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.runtime.progress import Progress

# Called before each batch with the number of finished items in the shard.
Advance = Callable[[int], None]


def fill(
  writer: RecordCacheWriter,
  name: str,
  unit: str,
  sizes: Sequence[int],
  write: Callable[[int, Advance], None],
  notice: PreemptionNotice,
) -> None:
  """Writes the missing shards of a cache.

  Args:
    writer: writer of the cache.
    name: title of the progress line.
    unit: plural name of the items.
    sizes: number of items per shard.
    write: (shard, advance) encodes and writes one shard.
    notice: checked before each batch.

  Raises:
    Preempted: after a signal; finished shards are kept.
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
