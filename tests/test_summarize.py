"""Means and spreads over runs."""

import itertools
import json

import pytest

from softdimo_jax import summarize
from softdimo_jax.errors import UserError

SEEDS = itertools.count()


def write(folder, config=None, **fids: float) -> str:
  folder.mkdir()
  config = {'seed': next(SEEDS), 'dimo': {'steps': 5}} | (config or {})
  rows = [
    {'model': name, 'steps': 1, 'guidance_scale': 1.0, 'fid': fid}
    for name, fid in fids.items()
  ]
  (folder / 'results.json').write_text(
    json.dumps({'config': config, 'rows': rows})
  )
  return str(folder)


def test_mean_and_spread(tmp_path):
  runs = [write(tmp_path / str(fid), dimo=fid) for fid in (1.0, 2.0, 6.0)]
  (row,) = summarize.summarize(runs)
  assert row['fid'] == 3.0
  assert row['fid_std'] == pytest.approx(7**0.5)
  assert 'recall' not in row


def test_begins_with_the_comparison_with_the_paper(tmp_path, capsys):
  runs = [
    write(tmp_path / str(fid), dimo=10.0, softdimo=fid)
    for fid in (5.0, 8.0, 11)
  ]
  summarize.main(['summarize', *runs])
  claims, rows = capsys.readouterr().out.split('\n\n')
  assert claims.splitlines()[2:] == [
    '| Soft-Di[M]O / Di[M]O | FID    | 0.54  | 0.8  | 2 of 3      |'
  ]
  assert len(rows.splitlines()) == 4


def test_missing_results_are_named(tmp_path):
  with pytest.raises(UserError, match='finish that run'):
    summarize.summarize([str(tmp_path)])


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({'seed': 1}, 'have the same seeds'),
    ({'seed': 2, 'dimo': {'steps': 6}}, 'dimo.steps was 5 and is 6'),
    ({'seed': 2, 'name': 'shapes'}, "name was None and is 'shapes'"),
    ({'seed': 2, 'data': {'seed': 3}}, 'data.seed was None and is 3'),
  ],
)
def test_only_seeds_of_one_configuration_are_averaged(
  config, message, tmp_path
):
  runs = [
    write(tmp_path / 'a', {'seed': 1}, dimo=1.0),
    write(tmp_path / 'b', config, dimo=2.0),
  ]
  with pytest.raises(UserError, match=message):
    summarize.summarize(runs)


def test_the_mesh_and_the_seed_of_a_stage_may_differ(tmp_path):
  runs = [
    write(tmp_path / 'a', {'seed': 1, 'mesh': {'data': 1}}, dimo=1.0),
    write(tmp_path / 'b', {'seed': 1, 'dimo': {'steps': 5, 'seed': 2}}, dimo=3),
  ]
  assert summarize.summarize(runs)[0]['fid'] == 2


@pytest.mark.parametrize('field', ['model', 'steps', 'guidance_scale'])
def test_rows_without_a_name_are_refused(field, tmp_path):
  run = write(tmp_path / 'a', dimo=3)
  path = tmp_path / 'a' / 'results.json'
  results = json.loads(path.read_text())
  results['rows'][0][field] = [1]
  path.write_text(json.dumps(results))
  with pytest.raises(UserError, match=rf'{field} is \[1\]'):
    summarize.summarize([run])


@pytest.mark.parametrize('value', ['NaN', 'Infinity', '"7"', 'true', '[1]'])
def test_numbers_that_cannot_be_averaged_are_refused(value, tmp_path):
  run = write(tmp_path / 'a', dimo=3)
  path = tmp_path / 'a' / 'results.json'
  results = json.loads(path.read_text())
  results['rows'][0]['fid'] = json.loads(value)
  path.write_text(json.dumps(results))
  with pytest.raises(UserError, match='fid is '):
    summarize.summarize([run])


def test_means_are_over_all_runs(tmp_path):
  runs = [write(tmp_path / name, dimo=3, teacher=4) for name in 'ab']
  path = tmp_path / 'b' / 'results.json'
  results = json.loads(path.read_text())
  results['rows'].pop()
  path.write_text(json.dumps(results))
  with pytest.raises(UserError, match='teacher has 1 rows in 2 runs'):
    summarize.summarize(runs)


@pytest.mark.parametrize(
  'text',
  [
    *('', '[]', '{"rows": []}', '{"rows": [], "config": null}'),
    '{"rows": [], "rows": [], "config": {}}',
  ],
)
def test_damaged_results_are_named(text, tmp_path):
  (tmp_path / 'results.json').write_text(text)
  with pytest.raises(UserError, match='is not the results of a run'):
    summarize.summarize([str(tmp_path)])


def test_another_protocol_is_refused(tmp_path):
  runs = [write(tmp_path / name, dimo=1.0) for name in 'abc']
  for name, digest in (('b', None), ('c', 'other')):
    path = tmp_path / name / 'results.json'
    results = json.loads(path.read_text())
    pretrained = {'teacher': digest} if digest else {}
    path.write_text(
      json.dumps(results | {'protocol': {'pretrained': pretrained}})
    )
  assert summarize.summarize(runs[:2])
  with pytest.raises(UserError, match='measured by another protocol'):
    summarize.summarize(runs)


@pytest.mark.parametrize('text', ['[]', '3', '{"rows": [', '{"rows": 3}'])
def test_what_is_no_results_is_one_sentence(tmp_path, text):
  for name in 'ab':
    (tmp_path / name).mkdir()
    (tmp_path / name / 'results.json').write_text(text)
  with pytest.raises(UserError, match='is not the results of a run'):
    summarize.summarize([str(tmp_path / name) for name in 'ab'])
