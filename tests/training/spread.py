"""A tiny Soft-Di[M]O run on any mesh, in a process of its own.

  python -m tests.training.spread OUT KIND MESH... [--join=ADDRESS,COUNT,ID]

trains a generator of KIND on every MESH (such as data:2,fsdp:2,tensor:2; `one`
is one device), and writes its state after five steps to OUT/KIND/MESH.npz and
its losses to OUT/KIND/MESH/metrics.jsonl.
"""

import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from softdimo_jax import families
from softdimo_jax.data.batches import shuffled_batches
from softdimo_jax.method.divergence import logit_gradient
from softdimo_jax.method.soft_embedding import soft_embedding
from softdimo_jax.runtime import sharding
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.training import loop
from softdimo_jax.training.distill.step import Distiller
from softdimo_jax.training.state import Frozen
from softdimo_jax.training.supervised import SupervisedTrainer
from tests.training.plain_distillation import MODELS, OPTIMIZER, STAGE

BATCH, STEPS = 8, 5


def config(name):
  """Configuration of a Soft-Di[M]O step with all terms and real draws."""
  stage = ml_collections.ConfigDict(STAGE)
  changes = {
    'batch_size': BATCH,
    'temperature': 1.0,
    'dropout': True,
    'init.noise_scale': 0.1,
    'gan.delay_steps': 0,
    'gan.ramp_steps': 0,
    'gan.max_mask_ratio': 0.95,
    'auxiliary.fresh_sample': name == 'maskbit',
  }
  for role in ('', 'auxiliary.', 'gan.'):
    changes[f'{role}optimizer.learning_rate'] = 1e-3
    # Adam would amplify differences of gradients that are nearly zero.
    changes[f'{role}optimizer.eps'] = 1e-3
  stage.update_from_flattened_dict(changes)
  return stage


def model(name):
  """Family with classes, so that a batch contains different labels."""
  sizes = ml_collections.ConfigDict(MODELS[name])
  sizes.generator.num_classes = 5
  return families.build(sizes)


def linear_stage(mesh, steps):
  """Two matrices: compiles fast."""

  def loss(params, batch, frozen, key):
    layers = params['layers']
    hidden = batch['x'] @ layers['mlp_in']['kernel']
    output = jnp.tanh(hidden) @ layers['mlp_out']['kernel']
    noise = jax.random.normal(key, output.shape)
    value = jnp.square(output - frozen['scale'] * noise).mean()
    return value, {'loss': value}

  stage = {'steps': steps, 'ema_decay': 0.9, 'optimizer': OPTIMIZER}
  trainer = SupervisedTrainer.create(loss, ml_collections.ConfigDict(stage))
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  data = {'x': draw(64, 8)}
  params = {
    'layers': {
      'mlp_in': {'kernel': draw(8, 16)},
      'mlp_out': {'kernel': draw(16, 8)},
    }
  }
  return loop.Stage(
    name='linear',
    steps=steps,
    step=trainer.step,
    init=trainer.init,
    start=lambda: params,
    frozen=lambda: {'scale': np.float32(0.1)},
    batches=lambda: shuffled_batches(
      data, BATCH, 0, sharding.process_rows(mesh, BATCH)
    ),
    key=jax.random.key(2),
  )


def stage(name, mesh, steps=STEPS):
  """The stage to train, with this process's rows of the data."""
  if name == 'linear':
    return linear_stage(mesh, steps)
  family = model(name)
  distiller = Distiller.create(family, config(name))
  shapes = jax.eval_shape(family.init, jax.random.key(0))

  def params(seed):
    rng = np.random.default_rng(seed)
    draw = lambda x: (0.3 * rng.normal(size=x.shape)).astype(x.dtype)
    return jax.tree.map(draw, shapes)

  rng = np.random.default_rng(0)
  data = {
    'tokens': rng.integers(family.vocab_size, size=(64, *family.token_shape)),
    'label': rng.integers(5, size=64),
  }
  return loop.Stage(
    name=name,
    steps=steps,
    step=distiller.step,
    init=lambda start: distiller.init(*start),
    start=lambda: (jax.random.key(1), params(1), params(2)),
    frozen=lambda: Frozen(params(0)),
    batches=lambda: shuffled_batches(
      jax.tree.map(np.int32, data), BATCH, 0, sharding.process_rows(mesh, BATCH)
    ),
    key=jax.random.key(2),
  )


def train(name, mesh, folder, *, steps=STEPS, notice=None):
  """Final state of a run that logs every step and saves at the end."""
  return loop.run(
    stage(name, mesh, steps),
    folder,
    mesh,
    loop.LoopOptions(log_every=1, checkpoint_every=steps, max_skipped=0),
    notice or PreemptionNotice(),
  )


def whole(tree):
  """Host arrays of a tree that may be distributed over several processes."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  return multihost_utils.process_allgather(tree, tiled=True)


def check_functions(mesh):
  """Splitting the vocabulary changes neither values nor gradients."""
  keys = jax.random.split(jax.random.key(0), 4)
  logits = jax.random.normal(keys[0], (BATCH, 3, 2, 9))  # 9 does not divide
  other = jax.random.normal(keys[1], logits.shape)
  table = jax.random.normal(keys[2], (2, 9, 5))
  weight = jax.random.normal(keys[3], (BATCH, 3, 5))

  def functions(logits, other, table):
    loss = lambda z, table: jnp.sum(
      weight * soft_embedding(jax.nn.softmax(z), table)
    )
    return (
      jax.value_and_grad(loss, argnums=(0, 1))(logits, table),
      [logit_gradient(logits, other, beta=beta) for beta in (0, 0.3, 1)],
    )

  plain = jax.jit(functions)(logits, other, table)
  with jax.set_mesh(mesh):
    split = jax.jit(functions)(logits, other, table)
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6, rtol=1e-5)
  jax.tree.map(close, whole(split), jax.device_get(plain))


def check_initialisation(mesh):
  """No device ever holds an array with the full size of a split parameter."""
  family = model('maskgit')
  init = lambda key: Distiller.create(family, config('maskgit')).init(
    key, family.init(key), family.init(key)
  )
  key = jax.random.key(0)
  shapes = jax.eval_shape(init, key)
  layout = sharding.layout(shapes, mesh)
  whole = {
    leaf.shape
    for leaf, place in zip(
      jax.tree.leaves(shapes), jax.tree.leaves(layout), strict=True
    )
    if place.shard_shape(leaf.shape) != leaf.shape
  }
  assert len(whole) > 3
  compiled = jax.jit(init, out_shardings=layout).lower(key).compile()
  compiled_shapes = set(re.findall(r'f32\[([\d,]+)\]', compiled.as_text()))
  for shape in whole:
    assert ','.join(map(str, shape)) not in compiled_shapes, shape
  for leaf in jax.tree.leaves(compiled(key)):
    for shard in leaf.addressable_shards:
      assert shard.data.shape == leaf.sharding.shard_shape(leaf.shape)


def sizes(mesh):
  """Axis -> size, parsed from a mesh's name."""
  pairs = [part.split(':') for part in mesh.split(',')]
  return {axis: int(size) for axis, size in pairs}


def main(out, kind, *meshes):
  for name in meshes:
    devices = jax.devices()[:1] if name == 'one' else None
    mesh = sharding.make_mesh(
      {'data': 1} if name == 'one' else sizes(name), devices
    )
    if mesh.shape['tensor'] > 1 and kind != 'linear':
      check_functions(mesh)
    if mesh.shape['fsdp'] > 1 and kind != 'linear':
      check_initialisation(mesh)
    folder = pathlib.Path(out) / kind / name.replace(':', '')
    folder.mkdir(parents=True, exist_ok=True)
    state = whole(train(kind, mesh, folder))
    if jax.process_index() == 0:
      np.savez(f'{folder}.npz', *jax.tree.leaves(state))


if __name__ == '__main__':
  arguments = sys.argv[1:]
  if arguments[-1].startswith('--join='):
    address, count, index = arguments.pop().removeprefix('--join=').split(',')
    jax.distributed.initialize(address, int(count), int(index))
  main(*arguments)
