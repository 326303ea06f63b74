"""The commands as a user runs them, at a size that learns nothing."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from softdimo_jax.runtime import checkpoint
from tests import released
from tests.commands import call, fails, process, succeeds, trained

pytestmark = pytest.mark.command

CONFIG = '--config=configs/digits.py:tiny'
STAGES = ('features', 'judge', 'tokenizer', 'teacher', 'dimo', 'softdimo')


workdir = trained('configs/digits.py:tiny')


def test_evaluate(workdir, tmp_path):
  weights = released.save(tmp_path / 'inception', 'inception')
  reference = tmp_path / 'reference'
  reference.mkdir()
  rng = np.random.default_rng(0)
  for index in range(6):
    pixels = rng.integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(reference / f'{index}.png')
  arguments = (
    f'--workdir={workdir}',
    '--metrics=fid,is,pr',
    f'--reference={reference}',
    f'--inception={weights}',
    '--num=12',
    '--temperatures=1,0.5',
    f'--out={tmp_path / "out"}',
  )
  result = succeeds(call('evaluate', *arguments))
  assert 'FID' in result.out and 'temperature' in result.out
  rows = json.loads((tmp_path / 'out' / 'results.json').read_text())['rows']
  assert [row['temperature'] for row in rows] == [1, 0.5]
  assert rows[0]['fid'] != rows[1]['fid']
  for row in rows:
    assert row['model'] == 'softdimo' and row['num_images'] == 12
    assert row['protocol']['images']['sampler']['temperature'] > 0


@pytest.mark.slow
def test_evaluated_images_are_those_of_export(workdir, tmp_path):
  weights = released.save(tmp_path / 'inception', 'inception')
  sampled = (f'--workdir={workdir}', '--num=12', '--temperature=0.5')
  network = ('--metrics=is', f'--inception={weights}')
  archive = tmp_path / 'samples.npz'
  scores = []
  for number, arguments in enumerate(
    (
      ('export', *sampled, f'--out={archive}'),
      ('evaluate', *sampled, *network, f'--out={tmp_path / "1"}'),
      ('evaluate', f'--images={archive}', *network, f'--out={tmp_path / "2"}'),
    )
  ):
    succeeds(call(*arguments))
    if number:
      saved = (tmp_path / str(number) / 'results.json').read_text()
      scores.append(json.loads(saved)['rows'][0]['is'])
  np.testing.assert_allclose(*scores, rtol=1e-9)


def test_evaluate_refuses_what_it_cannot_do(workdir, tmp_path):
  fails(call('evaluate'), '--workdir', '--images')
  at = f'--workdir={workdir}'
  fails(call('evaluate', at, f'--out={workdir}'), '--out', 'overwritten')
  to = f'--out={workdir}'
  other = ('--images=x', '--metrics=is', '--inception=rule')
  fails(call('evaluate', *other, to), '--out', 'workdir of a run')
  (tmp_path / 'empty').mkdir()
  fails(
    call(
      'evaluate', f'--images={tmp_path / "empty"}', '--metrics=is',
      '--inception=rule',
    ),
    'contains no images',
  )  # fmt: skip


def test_results_and_report(workdir):
  results = json.loads((workdir / 'results.json').read_text())
  models = [(row['model'], row['steps']) for row in results['rows']]
  assert models == [
    ('tokenizer', 1),
    ('teacher', 1),
    ('teacher', 4),
    ('dimo', 1),
    ('softdimo', 1),
  ]
  for row in results['rows']:
    assert np.isfinite(row['fid']) and row['images_per_second'] > 0
    assert 0 <= row['precision'] <= 1 and 0 <= row['accuracy'] <= 1
  page = (workdir / 'report.html').read_text()
  assert 'softdimo' in page and 'http://' not in page
  for stage in results['config']['stages']:
    assert (workdir / stage / 'metrics.jsonl').stat().st_size > 0
    assert any((workdir / stage / 'tensorboard').iterdir())


def test_teacher_is_unchanged_by_distillation_and_not_in_its_checkpoints(
  workdir,
):
  teacher = checkpoint.load_params(workdir / 'teacher' / 'params')['model']
  student = checkpoint.load_params(workdir / 'dimo' / 'params')['model']
  for frozen in ('tok_emb', 'pos_emb', 'logit_bias'):
    np.testing.assert_array_equal(teacher[frozen], student[frozen])
  step = max((workdir / 'dimo' / 'checkpoints').iterdir())
  metadata = (step / 'state' / '_METADATA').read_text()
  assert 'layers' in metadata
  assert 'tok_emb' not in metadata and 'teacher' not in metadata


def test_second_call_trains_nothing(workdir):
  before = (workdir / 'softdimo' / 'metrics.jsonl').stat().st_mtime_ns
  result = succeeds(call('main', CONFIG, f'--workdir={workdir}'))
  assert 'steps/s' not in result.err
  assert (workdir / 'softdimo' / 'metrics.jsonl').stat().st_mtime_ns == before


@pytest.mark.parametrize(
  'arguments', [(), ('--model=teacher', '--steps=4', '--guidance_scale=1.5')]
)
def test_sample(workdir, tmp_path, arguments):
  out = tmp_path / 'grid.png'
  grid = ('--labels=0,1,2', '--num=9', f'--out={out}')
  succeeds(call('sample', f'--workdir={workdir}', *grid, *arguments))
  assert Image.open(out).size == (3 * 8 * 4 + 4, 3 * 8 * 4 + 4)


def test_the_ending_of_a_picture_is_its_format(workdir, tmp_path):
  for name, kind in (('grid.jpg', 'JPEG'), ('grid.PNG', 'PNG')):
    out = tmp_path / name
    succeeds(call('sample', f'--workdir={workdir}', '--num=4', f'--out={out}'))
    with Image.open(out) as image:
      assert image.format == kind


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['sample', '--seed=-1'], ['--seed=-1', '4294967295']),
    (['sample', '--seed=4294967297'], ['--seed=4294967297', '4294967295']),
    (['sample', '--temperature=nan'], ['--temperature=nan', 'finite']),
    (['sample', '--guidance_scale=inf'], ['--guidance_scale=inf', 'finite']),
    (['sample', '--steps=4'], ['--steps=4', 'softdimo', '--model=teacher']),
    (['export', '--guidance_scale=2', '--out=x.npz'], ['--guidance_scale']),
    (['sample', '--num=999999999'], ['--num=999999999', 'GB']),
    (['sample', '--field=text'], ['--field', '--labels']),
    (['sample', '--prompts=x.txt'], ['--prompts', '--labels']),
    (['sample', '--out=grid.gif'], ['--out=grid.gif', '.png']),
    (['sample', '--out=configs'], ['--out=configs', 'is a folder']),
    (['export', '--out=gs://b/x'], ['--out=gs://b/x', 'gs://']),
    (['evaluate', '--temperature=1', '--temperatures=1,2'], ['not both']),
  ],
)
def test_flags_that_cannot_be_used_are_refused(workdir, arguments, words):
  module, *given = arguments
  fails(call(module, f'--workdir={workdir}', *given), *words)


def test_a_run_that_cannot_be_written_trains_nothing(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  fails(call('main', CONFIG, '--workdir=s3://bucket/x'), '--workdir=s3://buc')
  (tmp_path / 'file').touch()
  fails(call('main', CONFIG, '--workdir=file'), 'is a file')
  fails(call('main', CONFIG, '--workdir=new', '--config.seed=-1'), 'seed=-1')
  assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_sample_refuses_bad_input(workdir):
  at = f'--workdir={workdir}'
  fails(call('sample', at, '--labels=0,10'), 'label 10', '0 to 9')
  fails(call('sample', at, '--labels=three'), '--labels')
  fails(call('sample', at, '--model=gan'), '--model=gan', 'dimo')
  fails(call('sample', at, '--model=teacher', '--steps=17'), '17')
  fails(call('sample', '--workdir=/nowhere'), '/nowhere')


def test_main_refuses_bad_input(workdir, tmp_path):
  at = f'--workdir={tmp_path / "new"}'
  fails(call('main', '--config=configs/none.py', at), 'configs/none.py')
  fails(call('main', '--config=configs/digits.py:nope', at), 'nope')
  fails(call('main', CONFIG, at, '--config.dimo.stepz=1'), 'stepz')
  fails(call('main', CONFIG, at, '--config.dimo.steps=many'), 'many')
  fails(call('main', CONFIG, at, '--config.dimo.steps=0'), 'steps=0')
  fails(call('main', CONFIG), 'workdir')
  fails(call('main', CONFIG, at, 'stray'), 'stray')
  fails(
    call('main', CONFIG, at, '--config.dimo.mask.schedule=sine'),
    'sine',
    'arccos',
  )
  at_run = f'--workdir={workdir}'
  other = call('main', '--config=configs/digits.py:maskbit,tiny', at_run)
  fails(other, 'another configuration', 'digits:maskgit')
  fails(call('main', CONFIG, at, '--reuse=/nowhere'), '/nowhere')
  assert not (tmp_path / 'new').exists()


def test_an_added_stage_joins_the_table(workdir, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(workdir, copy)
  more = (
    '--config=configs/digits.py:ablations,tiny',
    '--config.gan_only.steps=2',
    f'--config.stages={(*STAGES, "gan_only")}',
    '--config.softdimo.guidance_scale=3.0',
  )
  result = succeeds(call('main', *more, f'--workdir={copy}'))
  assert 'stage dimo: as it is' in result.err
  assert 'stage softdimo: trained anew' in result.err
  rows = lambda folder: {
    (row.pop('model'), row['steps']): row
    for row in json.loads((folder / 'results.json').read_text())['rows']
    if row.pop('images_per_second')
  }
  before, after = rows(workdir), rows(copy)
  assert after.keys() - before.keys() == {('gan_only', 1)}
  assert after.pop(('softdimo', 1)) != before.pop(('softdimo', 1))
  assert {key: after[key] for key in before} == before


def damage(folder) -> None:
  """Flips a bit of every file."""
  for file in folder.rglob('*'):
    if file.is_file() and file.stat().st_size:
      data = bytearray(file.read_bytes())
      data[len(data) // 2] ^= 1
      file.write_bytes(data)


def test_a_damaged_run_heals(workdir, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(workdir, copy)
  shutil.rmtree(copy / 'softdimo' / 'params')
  checkpoints = (copy / 'softdimo' / 'checkpoints').iterdir()
  newest = max(checkpoints, key=lambda p: int(p.name))
  damage(newest)
  damage(copy / 'teacher' / 'params')
  (copy / 'dimo' / 'metrics.jsonl').write_text('')
  sample = ('sample', f'--workdir={copy}', f'--out={tmp_path / "grid.png"}')
  fails(call(*sample, '--model=teacher'), 'are damaged', 'repeat the command')
  result = succeeds(call('main', CONFIG, f'--workdir={copy}'))
  assert f'checkpoint {newest} is damaged' in result.err
  assert 'restored from the checkpoint of step' in result.err
  rows = json.loads((copy / 'results.json').read_text())['rows']
  found = {row['model']: row.get('max_probability') for row in rows}
  assert found['dimo'] is None and found['softdimo'] is not None
  succeeds(call(*sample, '--model=teacher'))
  for stage in ('teacher', 'softdimo'):
    expected, actual = (
      checkpoint.load_params(folder / stage / 'params')
      for folder in (workdir, copy)
    )
    jax.tree.map(np.testing.assert_array_equal, expected, actual)
  assert {x.name for x in copy.glob('*/*.damaged')} == {'params.damaged'}


@pytest.mark.slow
def test_a_subset_of_stages_runs_to_its_end_and_a_bad_rate_is_mended(tmp_path):
  at = (CONFIG, f'--workdir={tmp_path}', "--config.stages=('tokenizer',)")
  rate = '--config.tokenizer.optimizer.learning_rate'
  fails(
    call('main', *at, f'{rate}=1e38', '--config.loop.max_skipped=2'),
    'lower its learning rate and run again',
  )
  result = succeeds(call('main', *at, f'{rate}=1e-3'))
  assert 'there is no report without the stages teacher' in result.out


@pytest.mark.slow
def test_images_depend_neither_on_devices_nor_on_batches(workdir, tmp_path):
  files = []
  for devices, size in ((1, 6), (2, 14), (4, 5)):
    at = ('export', f'--workdir={workdir}', '--num=14', f'--batch_size={size}')
    files.append(tmp_path / f'{devices}.npz')
    flags = f'--xla_force_host_platform_device_count={devices}'
    xla = f'{os.environ.get("XLA_FLAGS", "")} {flags}'
    succeeds(process(*at, f'--out={files[-1]}', XLA_FLAGS=xla))
  first, *others = (np.load(file)['arr_0'] for file in files)
  for images in others:
    # Sums in another order may change a pixel by one.
    assert np.abs(first.astype(int) - images).max() <= 1


def four_devices() -> str:
  flags = os.environ.get('XLA_FLAGS', '')
  return f'{flags} --xla_force_host_platform_device_count=4'


def test_batches_must_divide_by_the_devices(tmp_path):
  at = f'--workdir={tmp_path / "run"}'
  bad = process(
    'main', CONFIG, at, '--config.dimo.batch_size=66', XLA_FLAGS=four_devices()
  )
  fails(bad, 'batch_size=66', '4 devices')
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_four_devices(tmp_path):
  at = f'--workdir={tmp_path / "run"}'
  good = process('main', CONFIG, at, XLA_FLAGS=four_devices())
  succeeds(good)
