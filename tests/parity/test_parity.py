"""The parity command, as a user runs it."""

import json
import shutil

import numpy as np
import pytest

from softdimo_jax.errors import UserError
from softdimo_jax.parity import fixture, kinds
from tests.commands import call, fails, process, succeeds
from tests.golden import parity
from tests.golden.parity import GOLDEN

FIXTURES = fixture.names(GOLDEN)
# Fixtures whose JSON files list neither inputs nor outputs.
RULES = 'geneval_rules'
METRICS = 'metrics'  # It has repositories in place of a class.
CLIPS = tuple(name for name in FIXTURES if 'clip_model' in name)
REWARDS = ('aesthetic_head', 'blip_imagereward')
TEXTS = ('bert_tokenizer', 'clip_tokenizer')  # Their only inputs are texts.
# Computed only once, by another test, because of their full size.
INCEPTIONS = ('fid_inception', 'fid_inception_gain')
UNLISTED = (
  *(RULES, METRICS, 'preprocess'),
  *(*CLIPS, *REWARDS, *TEXTS, *INCEPTIONS),
)
COVERED = [name for name in FIXTURES if name not in UNLISTED]
SMALL = 'class_schedules'  # quick to compute
# Arrays of Meissonic that times other than 0, guidance or gradients amplify.
LOOSE = ('logits_b', 'logits_c', 'cfg_logits', 'time_proj_b', 'soft_grad_z')


@pytest.fixture
def run(monkeypatch):
  """The command -> (exit status, lines); computes each fixture only once.

  Copies in other folders are identified by their names.
  """
  find = kinds.find
  monkeypatch.setattr(
    kinds, 'find', lambda f: find(f) and (lambda f: parity.ours(f.name))
  )

  def run(folder, *arguments):
    result = call('parity', folder, *arguments)
    return result.code, result.out.splitlines()

  return run


@pytest.fixture
def copy(tmp_path):
  """Folder with one small fixture, and a function that rewrites its arrays."""
  for file in GOLDEN.glob(f'{SMALL}.*'):
    shutil.copy(file, tmp_path)

  def rewrite(change):
    arrays = dict(np.load(tmp_path / f'{SMALL}.npz'))
    change(arrays)
    np.savez(tmp_path / f'{SMALL}.npz', **arrays)
    return tmp_path

  return rewrite


def compared(lines):
  """Pairs (fixture, array) of all lines."""
  return {tuple(line.split()[:2]) for line in lines}


def outputs(names, inputs=()):
  """Pairs (fixture, array) of all arrays of fixtures except their inputs."""
  return {
    (name, array)
    for name in names
    for array in set(fixture.load(GOLDEN, name).arrays) - set(inputs)
  }


@pytest.mark.command
def test_the_command_runs():
  result = succeeds(process('parity', GOLDEN, f'--only={SMALL}'))
  assert f'{SMALL} google_mask_topk 0.0e+00 0 ok' in result.out


# The tests of networks and samplers compare the same arrays one by one.
@pytest.mark.slow
def test_every_covered_fixture_passes(run):
  status, lines = run(GOLDEN, f'--only={",".join(COVERED)}')
  assert status == 0
  assert COVERED and compared(lines) == {
    (name, array)
    for name in COVERED
    for array in fixture.load(GOLDEN, name).meta['output_arrays']
  }
  for line in lines:
    name, array, error, tolerance, verdict = line.split()
    loose = array in fixture.SINUSOIDS or (
      name.startswith('meissonic_') and array in LOOSE
    )
    assert float(error) <= float(tolerance) <= (1e-4 if loose else 2e-5)
    assert verdict == 'ok'


def test_benchmark_rules_pass(run):
  status, lines = run(GOLDEN, f'--only={RULES}')
  assert status == 0
  assert [line.split()[1] for line in lines] == [
    'correct',
    'crop_0',
    'crop_1',
    'crop_2',
    'crop_nomask',
    'iou_f64',
    'overall_f64',
    'rel_flags',
  ]
  assert all(line.endswith(' ok') for line in lines)


def test_metrics_pass_at_tolerances_of_their_own(run):
  status, lines = run(GOLDEN, f'--only={METRICS}')
  assert status == 0
  inputs = (
    *('ref', 'gen', 'lowrank_ref', 'lowrank_gen', 'logits', 'acts', 'W'),
    *('emb_x', 'emb_y', 'isc_adm_split_size'),
  )
  assert compared(lines) == outputs([METRICS], inputs)
  tolerances = {line.split()[1]: float(line.split()[3]) for line in lines}
  assert tolerances['fid_adm_f64'] == 1e-6
  assert tolerances['kid_mean_f64'] == 2e-5
  assert tolerances['adm_recall_fp16_f64'] == 3e-3
  assert tolerances['kid_idx_ref_first'] == 0


def test_clip_models_pass(run):
  status, lines = run(GOLDEN, f'--only={",".join(CLIPS)}')
  assert status == 0
  inputs = ('pixel_values', 'input_ids', 'attention_mask')
  assert CLIPS and compared(lines) == outputs(CLIPS, inputs)
  assert all(line.endswith(' 1e-05 ok') for line in lines)


def test_the_other_rewards_pass(run):
  status, lines = run(GOLDEN, f'--only={",".join(REWARDS)}')
  assert status == 0
  inputs = ('pixel_values', 'input_ids', 'attention_mask')
  assert compared(lines) == outputs(REWARDS, (*inputs, 'clip_image_features'))
  assert all(line.endswith(' 1e-05 ok') for line in lines)


def test_text_tokenizers_pass_exactly(run):
  status, lines = run(GOLDEN, f'--only={",".join(TEXTS)}')
  assert status == 0
  assert compared(lines) == outputs(TEXTS)
  assert all(line.endswith(' 0.0e+00 0 ok') for line in lines)


def test_fixtures_of_unknown_kinds_are_named(run, tmp_path):
  (tmp_path / 'strange.json').write_text('{"class": "nobody.py"}')
  np.savez(tmp_path / 'strange.npz', array=np.zeros(3))
  status, lines = run(tmp_path)
  assert status == 1
  assert lines == ['strange not covered: no function computes nobody.py']


@pytest.mark.parametrize('name', ['google_ratio_cosine', 'halton_order_4'])
def test_a_corrupted_array_fails(run, copy, name):
  def corrupt(arrays):
    flat = arrays[name].reshape(-1)
    flat[3] += 1 if flat.dtype.kind == 'i' else 1e-4

  status, lines = run(copy(corrupt))
  assert status == 1
  failed = [line for line in lines if not line.endswith(' ok')]
  assert len(failed) == 1
  assert failed[0].startswith(f'{SMALL} {name} ')


def test_nan_fails(run, copy):
  def corrupt(arrays):
    arrays['google_ratio_cosine'][0] = np.nan

  status, lines = run(copy(corrupt))
  assert status == 1
  assert f'{SMALL} google_ratio_cosine nan 2e-05 FAIL' in lines


def test_a_renamed_array_has_no_counterpart(run, copy):
  def rename(arrays):
    arrays['another'] = arrays.pop('halton_order_4')

  status, lines = run(copy(rename))
  assert status == 1
  assert [line for line in lines if not line.endswith(' ok')] == [
    f'{SMALL} another - 0 FAIL has no counterpart',
    f'{SMALL} halton_order_4 - 0 FAIL listed, but not in the NPZ',
  ]


def test_another_shape_fails(run, copy):
  def cut(arrays):
    arrays['halton_order_4'] = arrays['halton_order_4'][1:]

  status, lines = run(copy(cut))
  assert status == 1
  assert any('has shape (15, 2), ours (16, 2)' in line for line in lines)


def test_a_broken_fixture_does_not_hide_the_others(run, copy):
  folder = copy(lambda arrays: None)
  (folder / 'a_broken.json').write_text('{')
  (folder / 'b_alone.npz').write_bytes(b'')
  status, lines = run(folder)
  assert status == 1
  assert lines[0].startswith('a_broken cannot be computed')
  assert lines[1].startswith('b_alone cannot be computed')
  assert f'{SMALL} google_mask_topk 0.0e+00 0 ok' in lines


def test_a_missing_input_is_named(copy):
  folder = copy(lambda arrays: arrays.pop('ratio'))
  loaded = fixture.load(folder, SMALL)
  with pytest.raises(UserError, match='lacks the input array ratio'):
    kinds.find(loaded)(loaded)


@pytest.mark.parametrize('name', [*COVERED, *UNLISTED])
def test_the_official_class_determines_the_kind(tmp_path, name):
  meta = json.loads((GOLDEN / f'{name}.json').read_text())
  renamed = fixture.Fixture('some_other_name', meta, {})
  assert kinds.find(renamed) is kinds.find(fixture.load(GOLDEN, name))
  # If the class is unknown, the name does.
  suffixed = fixture.Fixture(f'{name}_b', meta | {'class': 'moved.py'}, {})
  assert kinds.find(suffixed) is kinds.find(renamed)


def test_tags_with_a_common_prefix_are_distinguished():
  arrays = {'x_z': 1, 'x_l2_z': 2, 'x_l2_codes': 3, 'y': 4}
  whole = fixture.Fixture('name', {}, arrays)
  parts = {tag: dict(part.arrays) for tag, part in whole.tagged(['x', 'x_l2'])}
  assert parts == {'x': {'z': 1}, 'x_l2': {'z': 2, 'codes': 3}}


def test_bad_arguments_are_refused(tmp_path):
  fails(call('parity'), 'FOLDER')
  fails(call('parity', tmp_path / 'nowhere'), 'is not a folder')
  fails(call('parity', tmp_path), 'contains no fixture')
  fails(call('parity', GOLDEN, '--only=x'), '--only=x is not in', SMALL)
