"""The layout that docs/architecture.md describes: rows and sizes."""

import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = {
  str(path.relative_to(ROOT)): path.read_text('utf-8')
  for folder in ('softdimo_jax', 'configs', 'benchmarks', 'tests')
  for path in sorted((ROOT / folder).rglob('*.py'))
}


def test_imports_keep_the_contracts_of_pyproject():
  command = pathlib.Path(sys.executable).with_name('lint-imports')
  result = subprocess.run(
    [command, '--no-cache'], cwd=ROOT, capture_output=True, text=True
  )
  assert result.returncode == 0, result.stdout + result.stderr


def test_top_level_is_the_list_of_commands():
  assert len(list((ROOT / 'softdimo_jax').glob('*.py'))) <= 16


def test_files_have_at_most_350_lines():
  lengths = {path: len(text.splitlines()) for path, text in SOURCES.items()}
  long = [
    f'{path}: {length}' for path, length in lengths.items() if length > 350
  ]
  assert not long, '\n'.join(long)


def test_functions_have_at_most_60_lines():
  long = [
    f'{path}:{node.lineno}: {node.name} {length}'
    for path, text in SOURCES.items()
    for node in ast.walk(ast.parse(text))
    if isinstance(node, ast.FunctionDef)
    and (length := node.end_lineno - node.lineno + 1) > 60
  ]
  assert not long, '\n'.join(long)
