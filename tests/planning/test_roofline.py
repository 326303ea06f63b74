import dataclasses

import pytest

from configs import digits, maskbit, maskgen, meissonic
from softdimo_jax import plan as command
from softdimo_jax.errors import UserError
from softdimo_jax.planning import report
from softdimo_jax.planning.chips import parse_topology
from softdimo_jax.planning.roofline import Choice, make_plan

CONFIGS = {
  module.__name__.split('.')[-1]: module
  for module in (digits, maskbit, maskgen, meissonic)
}


def plan(topology, stage='softdimo', name='digits', **choice):
  config = CONFIGS[name].get_config()
  config.model.generator.unroll = 1
  config.lock()  # as a file that comes by the flag
  mesh = choice.pop('mesh', {'data': -1})
  return make_plan(
    config, stage, parse_topology(topology), Choice(mesh=mesh, **choice)
  )


def test_gpus_are_estimated_from_shapes():
  one, eight = (
    plan('h100:8', name='maskbit', batch=8, remat='full', mesh=mesh)
    for mesh in ({'data': 8}, {'data': 1, 'fsdp': 8})
  )
  # 305 M parameters: student 16 bytes each, auxiliary 12, teacher 2.
  assert 8.5e9 < one.memory.arguments < 10e9
  assert eight.memory.arguments < one.memory.arguments / 7
  assert one.flops > one.model_flops
  assert 'estimated' in report.table('softdimo', one)
  assert one.images_per_second > 0 and one.dollars > 0


def test_a_sweep_stops_at_the_batch_that_does_not_fit():
  make = lambda choice: plan('h100:8', **dataclasses.asdict(choice))
  plans = command.sweep(make, [{'data': 8}], ['full'], [64, 10**7, 10**8])
  tried = [(p.remat, p.batch // 8, p.fits) for p in plans]
  assert tried == [('full', 64, True), ('full', 10**7, False)]


@pytest.mark.slow
@pytest.mark.parametrize('name', ['maskgen', 'meissonic'])
def test_rewards_are_planned_without_their_weights(name):
  found = plan('h100:8', name=name, batch=2, mesh={'data': 1, 'fsdp': 8})
  assert found.flops > found.model_flops > 0
  assert found.memory.total > 1e9


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'stage': 'features'}, 'features'),
    ({'stage': 'none'}, 'none'),
    ({'mesh': {'data': 3}}, 'data:3'),
    ({'mesh': {'data': -1, 'fsdp': 3}}, 'fsdp:3'),
  ],
)
def test_what_cannot_be_planned(changes, words):
  with pytest.raises(UserError, match=words):
    plan('h100:8', **changes)


def test_batch_that_does_not_divide():
  with pytest.raises(UserError, match='--batch'):
    plan('h100:256')


@pytest.mark.parametrize(
  'text',
  [
    *('', 'data', 'rows:2', 'data:x', 'data:2,,fsdp:2'),
    *('data:0', 'data:-1', 'data:2.0', 'data:\u0662'),
  ],
)
def test_what_is_no_mesh(text):
  with pytest.raises(ValueError, match='AXIS:SIZE'):
    command.parse_mesh(text)


def test_an_axis_named_twice():
  with pytest.raises(ValueError, match='the axis data is named twice'):
    command.parse_mesh('data:4,data:8')


def test_mesh():
  assert command.parse_mesh('fsdp:4') == {'data': -1, 'fsdp': 4}


@pytest.mark.tpu_compile
@pytest.mark.parametrize('mesh', [{'data': 4}, {'fsdp': 2, 'tensor': 2}])
def test_compiles_for_a_tpu_that_is_not_here(mesh):
  pytest.importorskip('libtpu')
  small = plan('v5e:2x2', mesh={'data': 1} | mesh, batch=8)
  assert small.compiled and small.fits
  assert small.traffic.collectives['all-reduce'] > 0
  assert small.bound_by in ('compute', 'memory', 'network')
  assert 'fits' in report.table('softdimo', small)
