"""Results do not depend on how a run is spread over devices and processes."""

import jax
import numpy as np
import pytest

from softdimo_jax.runtime import sharding
from softdimo_jax.runtime.curves import read_metrics
from tests import processes
from tests.training import spread

pytestmark = pytest.mark.command


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Folder with the results of one device, and of eight along all axes."""
  out = tmp_path_factory.mktemp('spread')
  run(out, 'maskgit', 'one', 'data:2,fsdp:2,tensor:2')
  return out


def run(out, kind, *meshes, count=1):
  """Trains on eight devices of one process, or four each of two processes."""
  address = processes.free_address()
  logs = [out / f'{index}.log' for index in range(count)]
  start = lambda index, *join: processes.start(
    ['-m', 'tests.training.spread', str(out), kind, *meshes, *join],
    8 if count == 1 else 2,
    logs[index],
  )
  running = [
    start(index, *([f'--join={address},{count},{index}'] if count > 1 else []))
    for index in range(count)
  ]
  codes = processes.wait(running)
  assert codes == [0] * count, logs[0].read_text()[-3000:]


def assert_same(folder, kind, mesh):
  expected, actual = (
    folder / kind / name.replace(':', '') for name in ('one', mesh)
  )
  parameters = [np.load(f'{path}.npz') for path in (expected, actual)]
  for name in parameters[0].files:
    np.testing.assert_allclose(
      parameters[1][name], parameters[0][name], rtol=0, atol=1e-5
    )
  losses = [read_metrics(path / 'metrics.jsonl') for path in (expected, actual)]
  assert len(losses[0]) == 5
  for before, after in zip(*losses, strict=True):
    assert after == pytest.approx(before, rel=1e-5, abs=1e-5)


def test_eight_devices(folder):
  assert_same(folder, 'maskgit', 'data:2,fsdp:2,tensor:2')


def test_two_processes(tmp_path):
  mesh = sharding.make_mesh({'data': 1}, jax.devices()[:1])
  one = tmp_path / 'linear' / 'one'
  one.mkdir(parents=True)
  state = spread.train('linear', mesh, one)
  np.savez(f'{one}.npz', *jax.tree.leaves(jax.device_get(state)))
  run(tmp_path, 'linear', 'fsdp:2,tensor:2', count=2)
  assert_same(tmp_path, 'linear', 'fsdp:2,tensor:2')


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['maskgit', 'maskbit'])
def test_more_meshes(folder, kind):
  meshes = ('data:8', 'fsdp:8', 'data:4,tensor:2', 'data:2,fsdp:2,tensor:2')
  run(folder, kind, 'one', *meshes)
  for mesh in meshes:
    assert_same(folder, kind, mesh)


@pytest.mark.slow
@pytest.mark.parametrize(
  'mesh', ['data:4', 'fsdp:4', 'data:2,fsdp:2', 'data:2,tensor:2']
)
def test_more_processes(folder, mesh):
  run(folder, 'maskgit', mesh, count=2)
  assert_same(folder, 'maskgit', mesh)
