"""What `python -m build` makes, installed where there is no clone."""

import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = [path.name for path in (ROOT / 'configs').glob('*.py')]
ARCHIVES = ('*.tar.gz', '*.whl')

pytestmark = pytest.mark.slow


def run(*command, cwd=None):
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  result = subprocess.run(
    list(map(str, command)), cwd=cwd, env=environment, capture_output=True
  )
  assert result.returncode == 0, (result.stdout + result.stderr).decode()


@pytest.fixture(scope='module')
def archives(tmp_path_factory):
  """Folder with the source distribution and the wheel."""
  folder = tmp_path_factory.mktemp('dist')
  run(sys.executable, '-m', 'build', f'--outdir={folder}', ROOT)
  return folder


def test_wheel_holds_what_is_read(archives):
  (wheel,) = archives.glob('*.whl')
  names = set(zipfile.ZipFile(wheel).namelist())
  expected = {
    'data/prompts/clip_vocabulary/merges.txt.gz',
    'data/prompts/clip_vocabulary/LICENSE',
    'evaluation/report/report.html.jinja',
    'py.typed',
    *(f'configs/{name}' for name in CONFIGS),
  }
  assert {f'softdimo_jax/{name}' for name in expected} <= names
  assert not any(name.startswith('tests/') for name in names)


def test_source_distribution_holds_the_clone(archives):
  (archive,) = archives.glob('*.tar.gz')
  with tarfile.open(archive) as tar:
    names = {name.partition('/')[2] for name in tar.getnames()}
  folders = ('benchmarks', 'configs', 'docs', 'launch', 'softdimo_jax', 'tests')
  expected = {
    str(path.relative_to(ROOT))
    for folder in folders
    for path in (ROOT / folder).rglob('*')
    if path.is_file() and path.suffix != '.pyc'
  }
  assert expected | {'LICENSE', 'README.md', 'requirements.txt'} <= names


@pytest.mark.parametrize('pattern', ARCHIVES)
def test_main_command_runs_where_only_the_archive_is_installed(
  archives, pattern, tmp_path
):
  (archive,) = archives.glob(pattern)
  python = tmp_path / 'environment' / 'bin' / 'python'
  run(sys.executable, '-m', 'venv', python.parents[1])
  run(python, '-m', 'pip', 'install', '-q', archive)
  empty = tmp_path / 'empty'
  empty.mkdir()
  run(
    *(python, '-m', 'softdimo_jax.main', '--config=configs/digits.py:tiny'),
    '--workdir=runs/digits',
    cwd=empty,
  )
  assert (empty / 'runs' / 'digits' / 'report.html').exists()
