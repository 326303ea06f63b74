"""Numbered images of a run, identical for export and evaluation."""

from typing import Any

import jax
import numpy as np

from softdimo_jax.data.cache.records import module_fingerprint
from softdimo_jax.evaluation.sets.images import ImageSet
from softdimo_jax.evaluation.sets.pictures import to_uint8
from softdimo_jax.evaluation.sets.writers import ImageExport
from softdimo_jax.experiment import records
from softdimo_jax.experiment.inputs import Conditions
from softdimo_jax.experiment.methods import Method
from softdimo_jax.experiment.run import Run
from softdimo_jax.method import sampling
from softdimo_jax.runtime import json_records
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.runtime.progress import Progress


class RunImages(ImageSet):
  """Images of a run, generated range by range.

  An image depends on its index, its condition and the seed, but not on the
  range or the batch that it is generated in.
  """

  def __init__(
    self,
    run: Run,
    method: Method,
    conditions: Conditions,
    order: np.ndarray,
    seed: int,
  ):
    """Loads the parameters and puts them on the devices.

    Args:
      run: workdir and configuration.
      method: how images are generated.
      conditions: M labels or prompts.
      order: int [N], index of the condition of each image.
      seed: seed of the samples.
    """
    self._method, self._conditions, self._order = method, conditions, order
    self._seed = seed
    self._size = run.family.image_shape[:2]
    params, tokenizer = run.params(method.stage), run.params('tokenizer')
    self._fingerprint = {
      'kind': 'generated',
      'workdir': str(run.workdir),
      'config_sha256': records.fingerprint(run.config, method.stage),
      'stage': method.stage,
      'generator': module_fingerprint(run.family.generator, params),
      'tokenizer': module_fingerprint(run.family.tokenizer, tokenizer),
      'sampler': dict(method.options),
      'conditions': {
        'number': len(conditions),
        'sha256': json_records.digest([list(conditions.names), order.tolist()]),
      },
      'seed': seed,
      'random_keys': 'of each image',  # of each batch in earlier versions
    }
    self._params = method.place(params), method.place(tokenizer)

  def __len__(self) -> int:
    return len(self._order)

  @property
  def fingerprint(self) -> dict[str, Any]:
    return self._fingerprint

  def floats(self, start: int, stop: int) -> np.ndarray:
    """float32 [stop - start, H, W, C] in [0, 1]."""
    chosen = self._order[start:stop]
    _, images = self._method.generate(
      *self._params,
      sampling.image_keys(self._seed, len(chosen), start),
      self._conditions.take(chosen),
      jax.tree.map(lambda array: array[chosen], self._conditions.prompt_ids),
    )
    return images

  def read(self, start: int, stop: int) -> list[np.ndarray]:
    images = to_uint8(self.floats(start, stop))
    return list(np.broadcast_to(images, (*images.shape[:3], 3)))

  def name(self, index: int) -> str:
    return f'image {index} of {self._prompt(index)!r}'

  def size(self) -> tuple[int, int]:
    return self._size

  def prompts(self) -> list[str]:
    """The prompt, or label, of every image."""
    return [self._prompt(index) for index in range(len(self))]

  def _prompt(self, index: int) -> str:
    return self._conditions.names[self._order[index]]


def write(
  images: RunImages, export: ImageExport, name: str, notice: PreemptionNotice
) -> None:
  """Generates the images missing from an export, and finishes it.

  Args:
    images: images of the run.
    export: new or interrupted export; finished ranges are skipped.
    name: title of the progress line.
    notice: checked before every range.

  Raises:
    Preempted: after a signal; finished ranges are kept.
  """
  missing = list(export.missing())
  progress = Progress(name, 0, len(missing), unit='parts')
  for done, (start, stop) in enumerate(missing, 1):
    notice.check()
    export.write(start, images.floats(start, stop))
    progress.update(done, {})
  export.finish()
