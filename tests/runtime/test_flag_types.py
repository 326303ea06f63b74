"""Values of flags that cannot be used are refused when they are read."""

import functools
import pathlib

import pytest
from absl import flags

from softdimo_jax.runtime import bounds, flag_types


@pytest.fixture(autouse=True)
def values(monkeypatch):
  """Flags of this test only."""
  values = flags.FlagValues()
  for name in ('DEFINE', 'DEFINE_multi'):
    define = functools.partial(getattr(flags, name), flag_values=values)
    monkeypatch.setattr(flags, name, define)
  monkeypatch.setattr(
    flags,
    'register_validator',
    lambda name, check: REGISTER(name, check, flag_values=values),
  )
  return values


REGISTER = flags.register_validator


def parse(values, text):
  values(['command', f'--x={text}'])
  return values['x'].value


@pytest.mark.parametrize('text', ['nan', 'inf', '-inf', '1e400', '1e39', 'x'])
def test_numbers_are_finite(values, text):
  flag_types.number('x', None, '', bounds.Bounds())
  with pytest.raises(flags.IllegalFlagValueError, match=rf'--x={text}: must'):
    parse(values, text)


@pytest.mark.parametrize('text', ['-1', '1001', '1e-40', '1_0', '\u0661', ''])
def test_numbers_are_in_their_range(values, text):
  flag_types.number('x', None, '', bounds.TEMPERATURE)
  with pytest.raises(flags.IllegalFlagValueError, match='must be'):
    parse(values, text)


def test_numbers_keep_their_value(values):
  flag_types.number('x', None, '', bounds.TEMPERATURE)
  assert parse(values, '0.7') == 0.7 and parse(values, '0') == 0


@pytest.mark.parametrize(
  'text', ['-1', '4294967296', '4294967297', '1e20', '.5']
)
def test_seeds_have_32_bits(values, text):
  flag_types.seed('x', '')
  with pytest.raises(flags.IllegalFlagValueError, match=r'4294967295\]'):
    parse(values, text)


def test_seeds_and_counts_are_whole(values):
  flag_types.seed('x', '')
  assert parse(values, '4294967295') == 2**32 - 1
  assert type(parse(values, '7')) is int


@pytest.mark.parametrize('text', ['0', '1.5', '-3', '99999999999999', 'nan'])
def test_counts_are_refused(values, text):
  flag_types.count('x', 1, '')
  with pytest.raises(flags.IllegalFlagValueError, match='must be'):
    parse(values, text)


def test_lists_name_the_wrong_entry(values):
  flag_types.number_list('x', '', bounds.TEMPERATURE)
  assert parse(values, '1, 2') == [1, 2]
  for text, word in (('1,nan', 'nan must'), ('1,,2', 'empty'), ('', 'empty')):
    with pytest.raises(flags.IllegalFlagValueError, match=word):
      parse(values, text)


def test_home_is_expanded_and_addresses_are_refused(values, monkeypatch):
  monkeypatch.setenv('HOME', '/home/somebody')
  flag_types.path('x', None, '')
  assert parse(values, '~/weights') == '/home/somebody/weights'
  assert parse(values, 'org/name') == 'org/name'
  for text in ('gs://bucket/x', 'S3://b', 'gs:/b', 'file:///x', '~no-one/x'):
    with pytest.raises(flags.IllegalFlagValueError, match=f'--x={text}'):
      parse(values, text)


def test_tfds_reads_addresses_itself(values):
  flag_types.tfds_folder('x', '')
  assert parse(values, 'gs://tfds-data') == 'gs://tfds-data'


def test_outputs_are_checked_before_anything_runs(values, tmp_path):
  (tmp_path / 'file').touch()
  flag_types.output('x', None, '')
  assert parse(values, tmp_path / 'new' / 'folder')
  for text, word in (
    (tmp_path / 'file', 'is a file; name a folder'),
    (tmp_path / 'file' / 'below', 'is a file'),
    ('', 'is empty'),
  ):
    with pytest.raises(flags.IllegalFlagValueError, match=word):
      parse(values, text)


def test_read_only_places_are_refused(values, tmp_path, monkeypatch):
  monkeypatch.setattr('os.access', lambda path, mode: False)
  flag_types.output('x', None, '')
  with pytest.raises(flags.IllegalFlagValueError, match='read-only'):
    parse(values, tmp_path / 'new')


def test_pictures_have_a_format(values, tmp_path):
  flag_types.picture('x', 'samples.png', '', ('.png', '.jpg'))
  assert pathlib.Path(parse(values, tmp_path / 'a.JPG')).name == 'a.JPG'
  for text, word in (
    (tmp_path, 'is a folder'),
    (f'{tmp_path}/new/', 'is a folder'),
    (tmp_path / 'grid', 'must end with .png or .jpg'),
    (tmp_path / 'grid.gif', 'must end with'),
  ):
    with pytest.raises(flags.IllegalFlagValueError, match=word):
      parse(values, text)


def test_a_flag_that_is_repeated_counts_as_others_do(values):
  holder = flag_types.counts('x', '')
  values(['command', '--x=8', '--x=16'])
  assert holder.value == [8, 16]
  for text in ('0', '1_0', '1.5', 'nan'):
    with pytest.raises(flags.IllegalFlagValueError, match=f'--x={text}'):
      parse(values, text)


def test_an_output_is_no_input(values, tmp_path):
  flag_types.path('reference', None, '')
  flag_types.path_list('reuse', '')
  flag_types.output('save', None, '', folder=lambda path: False)
  file, link = tmp_path / 'a.npz', tmp_path / 'link.npz'
  file.touch()
  link.symlink_to(file)
  for text in (f'--reference={file}', f'--reuse={tmp_path},{file}'):
    values(['command', text, f'--save={link}'])
    with pytest.raises(flags.IllegalFlagValueError, match=r'--save=.* --re'):
      flag_types.check_outputs(values)
    values(['command', text, f'--save={tmp_path / "b.npz"}'])
    flag_types.check_outputs(values)
    values.unparse_flags()
