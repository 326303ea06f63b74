"""Looking at many images takes the memory of looking at few."""

import json
import os
import pathlib
import resource
import subprocess
import sys

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.data import digits
from softdimo_jax.evaluation import measure
from softdimo_jax.evaluation.features import probes
from softdimo_jax.evaluation.features.network import ImageNetwork
from softdimo_jax.evaluation.sets.images import ImageSet
from softdimo_jax.runtime.preemption import PreemptionNotice

# Of Inception's outputs: 20 kB an image.
WIDTHS = {'vectors': 2048, 'spatial': 2023, 'logits': 1008}


class Digits(ImageSet):
  """Real digits over and over."""

  def __init__(self, count):
    images = digits.load()[0].images
    self.pixels = np.tile((images * 255).astype(np.uint8), 3)
    self.count = count

  def __len__(self):
    return self.count

  @property
  def fingerprint(self):
    return {'kind': 'digits'}

  def read(self, start, stop):
    return list(self.pixels[np.arange(start, stop) % len(self.pixels)])

  def name(self, index):
    return str(index)


def wide(params, pixels):
  """As wide as Inception, and no work at all."""
  flat = pixels.reshape(len(pixels), -1) / 255
  return tuple(flat @ params[name] for name in WIDTHS)


def peak_megabytes(root, count):
  """Of this process, after an evaluation of so many images."""
  images = Digits(count)
  rng = np.random.default_rng(0)
  size = images.pixels[0].size
  params = {
    name: jnp.asarray(rng.normal(size=(size, width)), jnp.float32)
    for name, width in WIDTHS.items()
  }
  probe = probes.Probe(
    network=ImageNetwork(module=nn.Module(), params=params, forward=wide),
    outputs=tuple(WIDTHS),
    prepare=np.stack,
    fingerprint={},
  )
  store = probe.store(root, images)
  probes.extract(images, [(probe, store)], PreemptionNotice())
  measure.measure(('is',), measure.Features(inception=store))
  assert store.moments('vectors').count == count
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak(folder, count):
  result = subprocess.run(
    [
      sys.executable,
      '-m',
      'tests.evaluation.features.test_memory',
      folder,
      str(count),
    ],
    env=os.environ | {'PYTHONPATH': os.getcwd()},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr[-2000:]
  return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(tmp_path):
  # So few are several ranges and several updates of the moments already.
  few, many = peak(tmp_path / 'a', 3000), peak(tmp_path / 'b', 10_000)
  print(f'{few:.0f} MB for 3,000 images, {many:.0f} MB for 10,000')
  # Features of 7,000 images are 142 MB.
  assert many < few + 60


if __name__ == '__main__':
  print(json.dumps(peak_megabytes(pathlib.Path(sys.argv[1]), int(sys.argv[2]))))
