"""What the documents name exists: paths, modules, flags, variants, keys.

Docstrings of configurations and helps of scripts are documents, too.
"""

import ast
import functools
import importlib
import itertools
import pathlib
import re
import shlex

import pytest

from tests import commands
from tests.commands import ROOT

PACKAGE = ROOT / 'softdimo_jax'
DOCUMENTS = {
  str(path.relative_to(ROOT)): path
  for path in sorted(
    [
      *ROOT.glob('*.md'),
      *(ROOT / 'docs').glob('*.md'),
      *(ROOT / '.github').rglob('*.md'),
      *(ROOT / 'tests').glob('*/README.md'),
      *(ROOT / 'configs').glob('*.py'),
      *(ROOT / 'launch').glob('*.s*'),
      ROOT / 'benchmarks' / 'README.md',
      ROOT / 'launch' / 'README.md',
    ]
  )
}
CONFIGS = tuple((ROOT / 'configs').glob('*.py'))
HISTORY = 'CHANGELOG.md'  # may name what is gone
FOLDERS = 'benchmarks|configs|docs|launch|softdimo_jax|tests'
PLACEHOLDER = re.compile(r'NAME|COMMAND|[*$<]')

each_document = pytest.mark.parametrize('name', DOCUMENTS)


@each_document
def test_paths_exist(name):
  missing = [path for path in _paths(name) if not _found(path, name)]
  assert not missing


@each_document
def test_links_lead_to_headings(name):
  text = _text(name)
  missing = [
    f'{path}#{heading}'
    for path, heading in re.findall(r'\]\(([\w./-]*)#([\w-]+)\)', text)
    if heading
    not in _headings(DOCUMENTS[name].parent / path if path else DOCUMENTS[name])
  ]
  assert not missing


@each_document
def test_dotted_names_exist(name):
  text = '' if name == HISTORY else _text(name)
  dotted = re.findall(r'\b(?:softdimo_jax|benchmarks)(?:\.\w+)+', text)
  dotted = {x for x in dotted if not PLACEHOLDER.search(x)}
  assert not [x for x in dotted if not _defined(x)]


@each_document
def test_commands_have_their_flags(name):
  unknown = [
    f'{module} --{flag}'
    for module, words in _commands(name)
    for flag in _flags(words)
    if flag.split('.')[0] not in _flags_of(module)
  ]
  assert not unknown


@each_document
def test_commands_name_keys_of_their_configuration(name):
  unknown = []
  for _, words in _commands(name):
    given = [w.removeprefix('--config=') for w in words if '--config=' in w]
    for source in given:
      if PLACEHOLDER.search(source) or not source.startswith('configs/'):
        continue
      config = _config(source)
      for flag in _flags(words):
        first, *keys = flag.split('.')
        if first == 'config' and not _has(config, keys):
          unknown.append(f'{source} has no {flag}')
  assert not unknown


@each_document
def test_keys_in_the_text_exist(name):
  pattern = r'(?<![\w.])(?:--)?config\.(?!json)([a-z][\w.]*\w)'
  keys = (
    set() if name.startswith('tests/') else re.findall(pattern, _prose(name))
  )
  configs = [_config(f'configs/{x.name}') for x in CONFIGS]
  configs.append(_config('configs/maskgen.py:tteo'))
  assert not [
    key
    for key in keys
    if not any(_has(config, key.split('.')) for config in configs)
  ]


@each_document
def test_variants_exist(name):
  text = _text(name)
  for source in set(re.findall(r'configs/\w+\.py:[\w,]*\w', text)):
    _config(source)


@each_document
def test_flags_in_the_text_exist(name):
  text = _prose(name)
  given = set(re.findall(r'(?<![\w-])--([A-Za-z][\w-]*)', text))
  assert not given - _all_flags()


def test_every_command_is_in_the_readme():
  text = _text('README.md')
  section = text.split('\n## Commands\n')[1].split('\n## ')[0]
  listed = re.findall(r'^\| `(\w+)` \|', section, re.MULTILINE)
  assert sorted(listed) == sorted(_command_names())


def test_every_room_is_in_the_readme_and_in_the_rows():
  rooms = {path.parent.name for path in PACKAGE.glob('*/__init__.py')}
  readme = _text('README.md')
  rows = _text('docs/architecture.md')
  assert not [name for name in rooms if f'`softdimo_jax/{name}/`' not in readme]
  assert not [name for name in rooms if f'| `{name}/` |' not in rows]


@functools.cache
def _text(name):
  """A document; of a configuration its docstring, of a script its help."""
  text = DOCUMENTS[name].read_text('utf-8')
  if name.endswith('.py'):
    return ast.get_docstring(ast.parse(text))
  if name.startswith('launch/') and not name.endswith('.md'):
    head = itertools.takewhile(lambda x: x.startswith('#'), text.splitlines())
    return '\n'.join(line[2:] for line in head)
  return text


def _prose(name):
  """The text without blocks of code."""
  text = _text(name)
  return re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE)


def _headings(file):
  """Anchors of the headings of a document, as GitHub makes them."""
  lines = re.findall(r'^#+ (.*)', file.read_text('utf-8'), re.MULTILINE)
  return {re.sub(r'[^\w\s-]', '', x).lower().replace(' ', '-') for x in lines}


def _paths(name):
  """Paths of this repository, wherever the document has them."""
  text = _text(name)
  found = set(re.findall(rf'(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w/?', text))
  if name != HISTORY:
    spans = re.findall(r'`([^`\s]+)`', _prose(name))
    found |= {span.split(':')[0] for span in spans if _is_path(span)}
  links = re.findall(r'\]\(([^)\s]+)\)', text)
  found |= {x.split('#')[0] for x in links if '://' not in x}
  return {x for x in found if x and not PLACEHOLDER.search(x)}


def _is_path(span):
  first, slash, _ = span.partition('/')
  if slash and first and (PACKAGE / first).is_dir():
    return True
  return re.search(r'\.(py|md|sh|sbatch|toml)(:[\w,]+)?$', span) is not None


def _found(path, name):
  folders = (ROOT, PACKAGE, DOCUMENTS[name].parent)
  return any((folder / path).exists() for folder in folders)


def _defined(dotted):
  """Whether a dotted name is a module, or something that one defines."""
  parts = dotted.split('.')
  for end in range(len(parts), 0, -1):
    file = _source(parts[:end])
    if file is not None:
      rest = parts[end:]
      text = file.read_text('utf-8')
      return not rest or re.search(rf'\b{rest[0]}\b', text) is not None
  return False


def _source(parts):
  path = ROOT.joinpath(*parts)
  for file in (path.with_suffix('.py'), path / '__init__.py'):
    if file.is_file():
      return file
  return path / '__main__.py' if (path / '__main__.py').is_file() else None


def _commands(name):
  """(module, words) of every `python -m` in the document."""
  text = _text(name)
  lines = re.sub(r'\\\n\s*', ' ', text)
  pattern = r'python -m ((?:softdimo_jax|benchmarks)[\w.]*)([^`\n]*)'
  for module, arguments in re.findall(pattern, lines):
    module = module.rstrip('.')
    if PLACEHOLDER.search(module):
      continue
    assert _source(module.split('.')) is not None, module
    yield module, shlex.split(arguments, comments=True)


def _flags(words):
  own = itertools.takewhile(lambda word: word not in ('|', '&&', ';'), words)
  return [
    match.group(1)
    for word in own
    if (match := re.match(r'--([\w.-]+)', word)) and word != '--help'
  ]


def _command_names():
  names = {path.stem for path in PACKAGE.glob('*.py')}
  names |= {path.parent.name for path in PACKAGE.glob('*/__main__.py')}
  return names - {'__init__', 'errors', 'types'}


@functools.cache
def _flags_of(module):
  package, name = module.split('.')
  if package == 'softdimo_jax':
    flags = {n: flag.boolean for n, flag in commands.flags_of(name).items()}
  else:
    flags = _defined_flags(ROOT / package / f'{name}.py')
    flags |= _defined_flags(ROOT / package / 'options.py')
  return set(flags) | {f'no{n}' for n, boolean in flags.items() if boolean}


def _defined_flags(file):
  """Name of a flag -> whether it is boolean, from calls of `flags.DEFINE_*`."""
  return {
    node.args[0].value: node.func.attr == 'DEFINE_bool'
    for node in ast.walk(ast.parse(file.read_text('utf-8')))
    if isinstance(node, ast.Call)
    and isinstance(node.func, ast.Attribute)
    and node.func.attr.startswith('DEFINE_')
  }


@functools.cache
def _all_flags():
  """Flags of all commands, benchmarks and scripts."""
  found = {'help', 'helpfull'}
  for name in _command_names():
    found |= _flags_of(f'softdimo_jax.{name}')
  for name in ('train_step', 'sampler'):
    found |= _flags_of(f'benchmarks.{name}')
  for script in (ROOT / 'launch').iterdir():
    if script.suffix in ('.sh', '.sbatch'):
      found |= set(re.findall(r'--([A-Za-z][\w-]*)', script.read_text('utf-8')))
  return found


@functools.cache
def _config(source):
  """The configuration of configs/NAME.py:VARIANTS."""
  file, _, variants = source.partition(':')
  module = importlib.import_module('.'.join(pathlib.Path(file).parts)[:-3])
  return module.get_config(*([variants] if variants else []))


def _has(config, keys):
  for key in keys:
    if key not in config:
      return False
    config = config[key]
  return True
