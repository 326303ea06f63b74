"""--config outside a clone: files of the working directory, or shipped ones."""

import os
import pathlib
import subprocess
import sys

import pytest

from softdimo_jax.experiment import config_flag

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = '--config=configs/digits.py:tiny,maskbit'
READ = """
import sys
from absl import flags
from softdimo_jax.experiment import config_flag

holder = config_flag.define('FILE')
flags.FLAGS(sys.argv)
print(holder.value.seed, holder.value.dimo.steps)
"""


def test_command_reads_variants_and_overrides_of_a_shipped_file(tmp_path):
  result = subprocess.run(
    [sys.executable, '-c', READ, CONFIG, '--config.seed=7'],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert result.stdout.split() == ['7', '20'], result.stderr


def test_file_of_the_working_directory_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = pathlib.Path('configs/digits.py')
  assert config_flag.find(path) == ROOT / path
  path.parent.mkdir()
  path.touch()
  assert config_flag.find(path) == path


@pytest.mark.parametrize('name', ['configs/x.py', 'digits.py', 'a/digits.py'])
def test_unknown_file_names_the_shipped_ones(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=r'configs/cifar10\.py, configs/digits'):
    config_flag.find(pathlib.Path(name))


def test_package_of_a_wheel_holds_its_configurations(tmp_path, monkeypatch):
  monkeypatch.setattr(config_flag, '_PACKAGE', tmp_path / 'softdimo_jax')
  assert config_flag.shipped() == tmp_path / 'configs'
  inside = tmp_path / 'softdimo_jax' / 'configs'
  inside.mkdir(parents=True)
  assert config_flag.shipped() == inside
