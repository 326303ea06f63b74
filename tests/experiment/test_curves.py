"""Curves of tiny distillations whose other stages are not trained."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits, shapes
from softdimo_jax.data import shapes as world
from softdimo_jax.evaluation.benchmarks.labels_judge import Judge
from softdimo_jax.experiment import curves, methods, stages
from softdimo_jax.experiment.reports import results
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import checkpoint
from softdimo_jax.runtime.curves import read_metrics
from softdimo_jax.runtime.preemption import PreemptionNotice


def prepared(folder, config, **changes):
  """A run whose stages before the distillations have fresh parameters."""
  config.update_from_flattened_dict(changes)
  run = Run(folder, config)
  key, image = jax.random.key(0), jnp.zeros((1, *run.family.image_shape))
  for name in config.stages:
    kind = config[name].kind
    if kind == 'classifier':
      params = run.inputs.classifier.init(key, image)['params']
    elif kind == 'tokenizer':
      params = run.family.init_tokenizer(key)
    elif kind == 'teacher':
      params = run.family.init(key)
    elif kind in ('contrastive', 'preference'):
      ids = jnp.zeros((1, run.inputs.source.length), jnp.int32)
      params = run.inputs.clip.init(key, image, ids)['params']
    else:
      continue
    checkpoint.save_params(run.folder(name) / 'params', {'model': params})
  return run


def trained(run):
  stages.train(run, run.mesh, PreemptionNotice())
  return run


def lines(run, stage, *, evaluations):
  rows = read_metrics(run.folder(stage) / 'metrics.jsonl')
  return [row for row in rows if ('evaluation/fid' in row) == evaluations]


def of_digits(folder, **changes):
  config = digits.get_config('tiny')
  kept = ('dimo', 'softdimo') if 'dimo.steps' in changes else ('dimo',)
  config.stages = (*config.stages[:4], *kept)
  return prepared(folder, config, **changes)


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
  return trained(of_digits(tmp_path_factory.mktemp('plain')))


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
  """A run whose FIDs are 3, 1, 2, and again, so that the second is the best."""
  fids, measure = itertools.cycle([3.0, 1.0, 2.0]), Judge.quality
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      Judge, 'quality', lambda *x: measure(*x) | {'fid': next(fids)}
    )
    return trained(
      of_digits(
        tmp_path_factory.mktemp('measured'),
        **{
          'evaluation.every': 10,
          'evaluation.curve_images': 20,
          'loop.keep_best': 'fid',
          'dimo.steps': 20,
        },
      )
    )


def test_points_stand_beside_an_unchanged_training(plain, measured):
  expected, actual = (
    lines(run, 'dimo', evaluations=False) for run in (plain, measured)
  )
  assert len(expected) == 4 and expected == actual
  points = lines(measured, 'dimo', evaluations=True)
  assert [row['step'] for row in points] == [0, 10, 20]
  assert [row['evaluation/fid'] for row in points] == [3, 1, 2]
  assert {'evaluation/precision', 'evaluation/recall'} < set(points[0])


def test_the_best_is_used_and_the_last_is_kept(plain, measured):
  equal = lambda a, b: all(
    map(np.array_equal, *(jax.tree.leaves(x) for x in (a, b)))
  )
  last = measured.params('dimo', 'last')
  assert equal(last, plain.params('dimo'))
  assert equal(last, plain.params('dimo', 'last'))  # no other is kept
  assert not equal(last, measured.params('dimo'))
  auxiliary = measured.params('dimo', 'auxiliary')
  assert equal(auxiliary, plain.params('dimo', 'auxiliary'))
  # The best is what the next stage starts from.
  start = stages.build(measured, 'softdimo').start()[1]
  assert equal(start, measured.params('dimo'))


def test_the_row_names_the_step_and_describes_the_student_there(
  plain, measured
):
  rows = {
    row['step']: row for row in lines(measured, 'dimo', evaluations=False)
  }
  row = results.of_training(measured, 'dimo')
  assert row['best_step'] == 10
  assert row['delta_share'] == rows[10]['student/delta_share']
  assert row['max_probability'] == rows[10]['student/max_probability']
  row = results.of_training(plain, 'dimo')
  assert row['max_probability'] == rows[20]['student/max_probability']
  assert 'best_step' not in row


def test_the_report_shows_the_curves_beside_those_of_the_paper(plain, measured):
  results.write(measured, {'rows': []}, (), title='Digits')
  page = (measured.workdir / 'report.html').read_text('utf-8')
  titles = ('FID from teacher', 'The paper (MaskBit', 'FID from dimo')
  places = [page.find(title) for title in titles]
  assert -1 not in places and places == sorted(places)
  found = {curve.title: curve.series for curve in results.curves(measured)}
  steps, fids = found['FID from dimo']['softdimo']
  assert (list(steps), list(fids)) == ([0, 10, 20], [3, 1, 2])
  shown = [curve.title for curve in results.curves(plain)]
  assert shown and not any('paper' in x or 'FID' in x for x in shown)


def test_scenes_are_judged_by_their_prompts_and_rewards(tmp_path):
  config = shapes.get_config('tiny')
  run = prepared(
    tmp_path,
    config,
    **{'evaluation.every': 10, 'evaluation.curve_images': 32},
  )
  records = run.inputs.prompts(5, curves._SEED)
  ids = world.tokenize_all([record['prompt'] for record in records])
  rng = np.random.default_rng(0)
  scenes = [
    world.realise(run.inputs.world, rng, world.parse(record['prompt']))
    for record in records
  ]
  images = world.render(run.inputs.world, scenes)
  objects = [sum(e['count'] for e in r['include']) for r in records]
  seen = {}

  def generate(student, tokenizer, key, condition, prompt_ids):
    seen.update(condition=condition)
    return None, images

  stage = stages.build(run, 'dimo')
  state = stage.init(stage.start())
  with pytest.MonkeyPatch.context() as patch:
    fake = methods.sampled(run, 'dimo', 30)
    object.__setattr__(fake, 'generate', generate)
    patch.setattr(methods, 'sampled', lambda *x: fake)
    point = stage.evaluate(state)
  assert point['exact'] == point['overall'] == 1
  assert point['occupied'] == pytest.approx(np.mean(objects))
  jax.tree.map(
    np.testing.assert_array_equal, seen['condition'], run.inputs.encode(ids)
  )
  scores = {
    name: reward.score(run.params(name), jnp.asarray(images), ids).mean()
    for name, reward in run.inputs.trained_rewards.items()
  }
  expected = 5 * scores['clip'] + scores['preference']
  assert point['reward'] == pytest.approx(float(expected), rel=1e-5)


def test_neither_noise_nor_prompts_are_those_of_the_report():
  report = world.evaluation_prompts(64)
  curve = world.evaluation_prompts(64, curves._SEED)
  shared = sum(a == b for a, b in zip(report, curve, strict=True))
  assert shared < len(report) / 3  # some by chance: there are few of some kinds
  assert digits.get_config().evaluation.seeds < curves._SEED
