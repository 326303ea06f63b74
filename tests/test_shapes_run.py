"""Text to image as a user runs it, at a size that learns nothing."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from softdimo_jax.runtime import checkpoint
from tests import released
from tests.commands import call, fails, process, succeeds, trained

pytestmark = pytest.mark.command


CONFIG = '--config=configs/shapes.py:tiny'
workdir = trained('configs/shapes.py:tiny')


def test_results(workdir):
  rows = json.loads((workdir / 'results.json').read_text())['rows']
  by_model = {row['model']: row for row in rows}
  assert list(by_model) == [
    'real scenes', 'wrong scenes', 'tokenizer', 'teacher', 'dimo', 'softdimo',
    'softdimo_tteo', 'softdimo_best_of_7',
  ]  # fmt: skip
  assert by_model['real scenes']['exact'] == 1
  assert by_model['wrong scenes']['overall'] == 0
  for row in rows:
    assert np.isfinite([row['clip'], row['preference']]).all()
  page = (workdir / 'report.html').read_text()
  assert 'best_of_7' in page and 'http://' not in page


def test_rewards_and_text_tower_are_not_trained_by_the_distillation(workdir):
  metadata = max((workdir / 'softdimo' / 'checkpoints').iterdir())
  saved = (metadata / 'state' / '_METADATA').read_text()
  assert 'logit_scale' not in saved and 'codebook' not in saved
  teacher, student = (
    checkpoint.load_params(workdir / stage / 'params')['model']
    for stage in ('teacher', 'softdimo')
  )
  for frozen in ('tok_emb', 'pos_emb'):
    np.testing.assert_array_equal(teacher[frozen], student[frozen])
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), teacher, student)
  assert max(jax.tree.leaves(moved)) > 0


def test_sample(workdir, tmp_path):
  at, out = f'--workdir={workdir}', tmp_path / 'grid.png'
  prompts = tmp_path / 'prompts.txt'
  prompts.write_text('a red circle\n\ntwo blue squares\n')
  succeeds(
    call(
      'sample',
      at,
      '--prompt=a cross',
      f'--prompts={prompts}',
      '--num=9',
      '--scale=1',
      f'--out={out}',
    )
  )
  assert Image.open(out).size == (3 * 36 + 4, 3 * 36 + 4)


def test_test_time_optimisation(workdir, tmp_path):
  result = succeeds(
    call(
      'tteo',
      f'--workdir={workdir}',
      '--prompt=a red circle left of a blue square',
      '--prompt=three crosses',
      '--starts=3',
      '--steps=2',
      f'--out={tmp_path}',
    )
  )
  assert 'latency per prompt: one step' in result.out
  scores = json.loads((tmp_path / 'scores.json').read_text())
  assert [entry['prompt'] for entry in scores] == [
    'a red circle left of a blue square',
    'three crosses',
  ]
  for entry in scores:
    starts = np.array(entry['starts'])
    assert starts.shape == (3, 3)
    assert entry['score'] == starts.max()
    assert entry['score'] >= entry['first_start'] == starts[0, 0]
    assert Image.open(tmp_path / entry['image']).size == (36 * 8, 36 * 8)
  assert (tmp_path / 'before_after.png').exists()
  assert b'<svg' in (tmp_path / 'curves.svg').read_bytes()


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--prompt='], ['empty']),
    (['--prompt=a maroon circle'], ['maroon', 'nearest']),
    (['--prompt=' + 'circle ' * 1500], ['1500 words']),
    ([], ['--prompt']),
    (['--prompt=a circle', '--starts=1000000000'], ['--starts', 'GB']),
    (['--prompt=a circle', '--steps=1000000000'], ['--steps', 'GB']),
    (['--prompt=a circle', '--model=teacher'], ['teacher', 'one-step']),
    (['--prompt=a circle', '--labels=1'], ['--labels', '--prompt']),
    (['--prompts=/nowhere.txt'], ['/nowhere.txt']),
    (['--prompt=a circle', '--field=text'], ['--field', '--prompts']),
    (
      ['--prompt=a circle', '--steps=0', '--learning_rate=1'],
      ['--learning_rate', '--steps=0'],
    ),
  ],
)
def test_bad_prompts(workdir, arguments, words):
  fails(call('tteo', f'--workdir={workdir}', *arguments), *words)


def test_prompts_in_another_encoding(workdir, tmp_path):
  path = tmp_path / 'prompts.txt'
  path.write_bytes('a círcle'.encode('latin-1'))
  fails(call('sample', f'--workdir={workdir}', f'--prompts={path}'), 'UTF-8')


GENEVAL = [
  {
    'tag': 'colors',
    'include': [{'class': 'circle', 'count': 1, 'color': 'red'}],
    'prompt': 'a red circle',
  },
  {
    'tag': 'single_object',
    'include': [{'class': 'square', 'count': 1}],
    'prompt': 'a blue square',
  },
]


@pytest.mark.slow
def test_every_command_on_a_finished_run_in_a_process_of_its_own(
  workdir, tmp_path
):
  """What a run reads late must not be read for the first time in a trace."""
  (workdir / 'results.json').unlink()
  succeeds(process('main', CONFIG, f'--workdir={workdir}'))
  assert (workdir / 'results.json').exists()
  at = (f'--workdir={workdir}', '--prompt=a red circle')
  for model in ('teacher', 'softdimo'):
    arguments = (*at, f'--model={model}', '--num=2')
    succeeds(process('sample', *arguments, f'--out={tmp_path / "a.png"}'))
    succeeds(process('export', *arguments, f'--out={tmp_path / model}'))
    measured = ('--metrics=is', '--inception=rule', '--num=10')
    out = f'--out={tmp_path / f"{model}_scores"}'
    succeeds(process('evaluate', *at, f'--model={model}', *measured, out))
  succeeds(process('tteo', *at, '--starts=2', f'--out={tmp_path / "tteo"}'))


@pytest.mark.slow
def test_geneval_end_to_end(workdir, tmp_path):
  prompts, pictures = tmp_path / 'prompts.jsonl', tmp_path / 'pictures'
  prompts.write_text(''.join(json.dumps(x) + '\n' for x in GENEVAL))
  arguments = (f'--prompts={prompts}', '--num=2', f'--out={pictures}')
  result = succeeds(call('geneval', f'--workdir={workdir}', *arguments))
  names = [
    f'{prompt:05d}/samples/{number:05d}.png'
    for prompt in range(2)
    for number in range(2)
  ]
  box = [1, 1, 9, 9, 0.9]
  found = [
    {'circle': [box]}, {'circle': [box]}, {'square': []}, {'square': [box]},
  ]  # fmt: skip
  detections = tmp_path / 'detections.jsonl'
  detections.write_text(
    ''.join(
      json.dumps({'filename': name, 'detections': boxes}) + '\n'
      for name, boxes in zip(names, found, strict=True)
    )
  )
  score = ('geneval', f'--images={pictures}', f'--detections={detections}')
  fails(call(*score), 'the colour of circle', '--clip')
  clip = released.save(tmp_path / 'clip', 'clip')
  result = succeeds(call(*score, f'--clip={clip}', '--clip_vocabulary=rule'))
  assert 'oracle, best of 2' in result.out
  saved = json.loads((pictures / 'geneval.json').read_text())
  assert [row['pictures'] for row in saved['rows']] == [
    str(pictures),
    'oracle, best of 2',
  ]
  assert saved['rows'][0]['single_object'] == 0.5
  assert saved['rows'][1]['single_object'] == 1
  assert [picture['filename'] for picture in saved['pictures']] == names
  assert saved['protocol']['pictures']['stage'] == 'softdimo'


@pytest.mark.slow
def test_hpsv2_end_to_end(workdir, tmp_path):
  prompts, images = tmp_path / 'prompts', tmp_path / 'images'
  prompts.mkdir()
  for style in ('anime', 'photo'):
    texts = ['a red circle', 'a blue square', 'two blue squares']
    (prompts / f'{style}.json').write_text(json.dumps(texts))
  network = (
    f'--weights={released.save(tmp_path / "hps", "clip")}',
    '--clip_vocabulary=rule',
    f'--benchmark={prompts}',
    '--styles=anime,photo',
  )
  at = f'--workdir={workdir}'
  options = ('--best_of=2', '--batch_size=3')
  succeeds(call('hpsv2', at, *network, f'--out={images}', *options))
  saved = json.loads((images / 'hpsv2.json').read_text())
  made_by = saved['protocol']['images']['photo']['sampler']
  assert made_by['best_of'] == 2 and 'batch_size' not in made_by
  (row,) = saved['rows']
  assert row['model'].startswith('softdimo, best of 2 by ')
  assert row['num_images'] == 6 and 'missing' not in row
  np.testing.assert_allclose(row['average'], (row['anime'] + row['photo']) / 2)
  (images / 'photo' / '00001.jpg').unlink()
  succeeds(call('hpsv2', f'--images={images}', *network))
  (again,) = json.loads((images / 'hpsv2.json').read_text())['rows']
  assert again['missing'] == 1 and again['anime'] == row['anime']
