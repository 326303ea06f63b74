"""Stages that belong to another configuration are kept, copied or moved."""

import json
import pathlib

import jax
import numpy as np
import pytest

from configs import digits, maskbit, shapes
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config as config_lib
from softdimo_jax.experiment import records, stages
from softdimo_jax.experiment.branching import Branch
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import checkpoint
from tests.commands import call, succeeds

CONSTANT = {'optimizer': {'decay': 'constant'}}


def contents(workdir: pathlib.Path) -> dict[str, str]:
  """Text files by path."""
  return {
    str(path.relative_to(workdir)): path.read_text()
    for path in sorted(workdir.rglob('*'))
    if path.is_file()
  }


def arrange(workdir, config, *reuse) -> tuple[str, ...]:
  """What `main` does before it trains; returns the stages that it trains."""
  branch = Branch(workdir, config, reuse)
  left = branch.left
  branch.arrange()
  run = Run(workdir, config)
  assert run.left == left
  return left


def train(workdir, config, *reuse) -> tuple[str, ...]:
  """Arranges the workdir, and makes stages whose parameters are files."""
  left = arrange(workdir, config, *reuse)
  known = records.records(config)
  for name in left:
    begin(workdir / name, known[name], config[name].steps)
    finish(workdir / name, config)
  return left


def begin(folder: pathlib.Path, record: records.Record, step: int) -> None:
  folder.mkdir(exist_ok=True)
  records.write(folder, record)
  for number in (step // 2, step):
    (folder / 'checkpoints' / str(number)).mkdir(parents=True, exist_ok=True)
    (folder / 'checkpoints' / str(number) / 'state').write_text(str(number))


def finish(folder: pathlib.Path, config) -> None:
  (folder / 'params').mkdir()
  (folder / 'params' / 'array').write_text(json.dumps(config.to_dict()))


def test_another_guidance_scale_keeps_tokenizer_and_teacher(tmp_path, capsys):
  config = digits.get_config()
  assert train(tmp_path, config) == config.stages
  assert capsys.readouterr().err == ''
  before = contents(tmp_path)
  config.dimo.guidance_scale = 1.5
  assert train(tmp_path, config) == ('dimo', 'softdimo')
  after = contents(tmp_path)
  for path, text in before.items():
    name = path.split('/')[0]
    if name in ('features', 'judge', 'tokenizer', 'teacher'):
      assert after[path] == text
  told = capsys.readouterr().err.splitlines()
  assert told[3] == 'stage teacher: as it is'
  assert 'dimo.guidance_scale was 1.75 and is 1.5' in told[4]
  assert 'trained anew: it reads dimo;' in told[5]
  assert sorted(before.values()) == sorted(
    text
    for path, text in after.items()
    if path.startswith(('earlier', 'features', 'judge', 'tokenizer', 'teacher'))
  )


def test_the_first_configuration_finds_its_stages_again(tmp_path):
  config = digits.get_config()
  train(tmp_path, config)
  first = contents(tmp_path)
  for guidance in (2.0, 2.5):
    config.dimo.guidance_scale = guidance
    assert train(tmp_path, config) == ('dimo', 'softdimo')
  for guidance in (2.0, 1.75):
    config.dimo.guidance_scale = guidance
    assert train(tmp_path, config) == ()
  last = contents(tmp_path)
  earlier = [path for path in last if path.startswith('earlier')]
  assert sum(path.endswith('stage.json') for path in earlier) == 4
  assert sum('config-' in path for path in earlier) == 4
  assert {k: v for k, v in last.items() if k not in earlier} == first


def test_fields_that_no_stage_reads_change_no_stage(tmp_path):
  config = digits.get_config()
  train(tmp_path, config)
  (tmp_path / 'results.json').write_text('of before')
  config.name, config.evaluation.num_images = 'renamed', 7
  config.loop.log_every, config.sampling.steps = 1, 2
  config.sampling.temperature = 0.5
  assert train(tmp_path, config) == ()
  assert config_lib.load(tmp_path).name == 'renamed'
  assert not (tmp_path / 'results.json').exists()
  kept = contents(tmp_path / 'earlier')
  assert kept['results-1.json'] == 'of before' and 'config-1.json' in kept
  config.mesh.fsdp = 2
  assert train(tmp_path, config) == ()
  assert contents(tmp_path / 'earlier') == kept


def test_every_kind_names_what_it_reads():
  assert tuple(records._KINDS) == stages.KINDS


def test_what_stages_read():
  def changed(before, config) -> set[str]:
    now = records.records(config)
    return {x for x in now if now[x].digest != before[x].digest}

  config = shapes.get_config()
  before = records.records(config)
  config.model.generator.depth = 5
  generators = {
    *('teacher', 'preference'),
    *('dimo', 'softdimo', 'reward_only'),
  }
  assert changed(before, config) == generators
  config = shapes.get_config()
  config.preference.num_examples = 8
  assert changed(before, config) == {'preference', 'softdimo', 'reward_only'}
  config = shapes.get_config()
  config.sampling.plan.choice_temperature = 1.0
  assert changed(before, config) == generators - {'teacher', 'dimo'}
  config = shapes.get_config()
  config.seed = 1
  assert changed(before, config) == set(config.stages)

  config = maskbit.get_config('all')
  before = records.records(config)
  config.data.tokens = 'cache'  # of the GAN
  assert changed(before, config) == {'softdimo'}
  config.pretrained.teacher = 'elsewhere'
  assert changed(before, config) == {'dimo', 'softdimo'}


def test_a_new_version_of_a_kind_is_trained_anew(tmp_path, monkeypatch, capsys):
  config = digits.get_config()
  train(tmp_path, config)
  version, read = records._KINDS['teacher']
  monkeypatch.setitem(records._KINDS, 'teacher', (version + 1, read))
  assert train(tmp_path, config) == ('teacher', 'dimo', 'softdimo')
  assert 'version of teacher was 1 and is 2' in capsys.readouterr().err
  assert len(list((tmp_path / 'earlier').iterdir())) == 3


def test_a_field_added_with_the_old_behaviour_changes_no_stage():
  config = digits.get_config()
  before = records.records(config)
  for name in ('dimo', 'softdimo'):
    del config[name].auxiliary['burn_in']
  assert records.records(config) == before
  config = digits.get_config()
  config.softdimo.auxiliary.burn_in = 1
  changed = records.records(config)['softdimo']
  assert 'burn_in was None and is 1' in changed.difference(before['softdimo'])


def test_stages_without_records_are_those_of_the_configuration(tmp_path):
  config = digits.get_config()
  train(tmp_path, config)
  for file in tmp_path.glob('*/stage.json'):
    file.unlink()
  before = contents(tmp_path)
  assert train(tmp_path, config) == ()
  assert contents(tmp_path) == before
  config.softdimo.gan.weight = 1.0
  assert train(tmp_path, config) == ('softdimo',)
  config.softdimo.gan.weight = 30.0
  assert train(tmp_path, config) == ()


def test_finished_stages_of_other_runs_are_copied(tmp_path, capsys):
  old, config = tmp_path / 'old', digits.get_config()
  train(old, config)
  before = contents(old)
  config.softdimo.gan.weight = 1.0
  new = tmp_path / 'new'
  assert train(new, config, tmp_path / 'old') == ('softdimo',)
  assert f'stage dimo: copied from {old / "dimo"}' in capsys.readouterr().err
  assert contents(old) == before
  copied = contents(new / 'dimo')
  assert copied == {
    k: v for k, v in contents(old / 'dimo').items() if 'checkpoints' not in k
  }
  with pytest.raises(UserError, match='not the workdir of a run'):
    train(new, config, tmp_path / 'none')


def test_a_finished_copy_replaces_a_stage_that_has_begun(tmp_path):
  old, new, config = tmp_path / 'old', tmp_path / 'new', digits.get_config()
  train(old, config)
  known = records.records(config)
  assert arrange(new, config) == config.stages
  begin(new / 'features', known['features'], 10)
  assert arrange(new, config) == config.stages  # it is continued
  assert (new / 'features' / 'checkpoints').exists()
  assert arrange(new, config, old) == ()
  assert (new / 'features' / 'params').exists()
  assert len(list((new / 'earlier').glob('features-*/checkpoints/*'))) == 2


def test_a_longer_stage_goes_on_where_its_length_does_not_matter(tmp_path):
  config = digits.get_config()
  config.dimo.update(steps=100, **CONSTANT)
  config.dimo.auxiliary.update(CONSTANT)
  train(tmp_path, config)
  config.dimo.steps = 200
  assert arrange(tmp_path, config) == ('dimo', 'softdimo')
  saved = lambda folder: [x.name for x in (folder / 'checkpoints').iterdir()]
  assert saved(tmp_path / 'dimo') == ['100']
  (former,) = (tmp_path / 'earlier').glob('dimo-*')
  assert (former / 'params').exists() and sorted(saved(former)) == ['100', '50']

  config.dimo.steps = 50
  arrange(tmp_path, config)
  assert not (tmp_path / 'dimo').exists()  # shorter
  config.dimo.update(steps=200, guidance_scale=3.0)
  arrange(tmp_path, config)
  assert not (tmp_path / 'dimo').exists()  # another
  config.dimo.guidance_scale = 1.75
  assert arrange(tmp_path, config) == ('dimo', 'softdimo')
  assert saved(tmp_path / 'dimo') == ['100']  # taken back, as it had begun


def test_a_longer_stage_whose_rate_decays_is_trained_anew(tmp_path):
  config = digits.get_config()
  config.dimo.update(CONSTANT)
  train(tmp_path, config)
  config.dimo.steps += 1
  arrange(tmp_path, config)
  assert not (tmp_path / 'dimo').exists()  # the auxiliary's decays


def test_the_workdir_of_another_run_is_refused(tmp_path):
  train(tmp_path, digits.get_config())
  before = contents(tmp_path)
  with pytest.raises(UserError, match='another configuration'):
    Branch(tmp_path, shapes.get_config()).left  # noqa: B018
  assert contents(tmp_path) == before
  config = digits.get_config()
  config.data.held_out += 1  # concerns every stage
  assert train(tmp_path, config) == config.stages


@pytest.mark.command
def test_the_longer_stage_is_that_of_an_uninterrupted_run(tmp_path):
  def run(name: str, steps: int, *reuse: str):
    result = call(
      'main',
      '--config=tests/short_run.py',
      f'--workdir={tmp_path / name}',
      *(f'--reuse={tmp_path / other}' for other in reuse),
      *('--config.mesh.fsdp=1', f'--config.dimo.steps={steps}'),
      '--config.dimo.optimizer.decay=constant',
      '--config.dimo.auxiliary.optimizer.decay=constant',
    )
    told = succeeds(result).err
    return told, checkpoint.load_params(tmp_path / name / 'dimo' / 'params')

  _, whole = run('whole', 7)
  told, short = run('short', 5, 'whole')
  assert 'stage teacher: copied' in told
  assert 'stage dimo: trained anew: dimo.steps was 7 and is 5' in told
  for name, reuse in (('other', ('short',)), ('short', ())):
    told, longer = run(name, 7, *reuse)
    assert 'stage dimo: goes on from step 5' in told
    jax.tree.map(np.testing.assert_array_equal, longer, whole)
  (former,) = (tmp_path / 'short' / 'earlier').glob('dimo-*')
  kept = checkpoint.load_params(former / 'params')
  jax.tree.map(np.testing.assert_array_equal, kept, short)
