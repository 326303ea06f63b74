"""Prompts of any origin, and what may be wrong with them."""

import json
import sys

import numpy as np
import pytest

from softdimo_jax.data.prompts import sources
from softdimo_jax.errors import UserError


def save_json_lines(path, records):
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))
  return str(path)


def test_lines(tmp_path):
  path = tmp_path / 'prompts.txt'
  # No line ends where only Python thinks so.
  path.write_bytes(b'\xef\xbb\xbfa cat\r\n\n  zwei\xe2\x80\xa8Hunde \na cat')
  found = sources.read(str(path))
  assert found.texts == ('a cat', 'zwei\u2028Hunde', 'a cat')
  assert found.num_empty == 1 and len(found) == 3
  assert found.fingerprint['name'] == 'prompts.txt'
  path.write_text('a cat\nzwei\u2028Hunde\na dog', 'utf-8')
  assert sources.read(str(path)).fingerprint != found.fingerprint


def test_lists_and_tables(tmp_path):
  path = tmp_path / 'some.json'
  path.write_text('["a cat", ""]')
  found = sources.read(str(path))
  assert found.texts == ('a cat',) and found.num_empty == 1
  path = tmp_path / 'some.csv'
  path.write_text('image_id,text\n0,"a cat, a dog"\n')
  assert sources.read(str(path)).texts == ('a cat, a dog',)


def test_json_lines(tmp_path):
  path = save_json_lines(
    tmp_path / 'some.jsonl',
    [
      {'caption': 'a cat', 'url': 'x'},
      {'prompt': 'a dog', 'caption': 'not this'},
      {'text': ['one', '', 'two']},
      {'prompt': None},
    ],
  )
  found = sources.read(path)
  assert found.texts == ('a cat', 'a dog', 'one', 'two')
  assert found.num_empty == 2
  path = save_json_lines(tmp_path / 'other.jsonl', [{'title': 'a cat'}])
  assert sources.read(path, field='title').texts == ('a cat',)
  with pytest.raises(UserError, match=r'line 1 of .* --field: title'):
    sources.read(path)


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (3, 'line 1 of .* is not text but 3'),
    ({'a': 1}, 'line 1 of .* is not text but'),
    ('\ud800', 'line 1 of .* is not valid Unicode text'),
    ('', 'contains no prompts'),
    ([], 'contains no prompts'),
  ],
)
def test_values_that_are_no_prompts(tmp_path, value, message):
  path = save_json_lines(tmp_path / 'some.jsonl', [{'prompt': value}])
  with pytest.raises(UserError, match=message):
    sources.read(path)


def test_files_that_cannot_be_read(tmp_path):
  with pytest.raises(UserError, match=r'nowhere\.txt cannot be read: No such'):
    sources.read(str(tmp_path / 'nowhere.txt'))
  with pytest.raises(UserError, match=r'nowhere\.txt cannot be read'):
    sources.read('nowhere.txt')
  with pytest.raises(UserError, match='a folder without parquet files'):
    sources.read(str(tmp_path))
  text = tmp_path / 'text.txt'
  text.write_text('a cat')
  with pytest.raises(UserError, match="plain text, which has no field 'a'"):
    sources.read(str(text), field='a')
  with pytest.raises(UserError, match='is a file; split and data_dir are for'):
    sources.read(str(text), split='train')


def test_without_the_extras(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'pyarrow', None)
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  (tmp_path / 'a.parquet').write_bytes(b'')
  with pytest.raises(UserError, match='pip install pyarrow'):
    sources.read(str(tmp_path / 'a.parquet'))
  with pytest.raises(UserError, match='or pass a file of prompts'):
    sources.read('coco_captions')


class TestParquet:
  @pytest.fixture
  def save(self, tmp_path):
    pyarrow = pytest.importorskip('pyarrow')
    from pyarrow import parquet

    def write(name, **columns):
      parquet.write_table(pyarrow.table(columns), tmp_path / name)
      return str(tmp_path / name)

    return write

  def test_columns(self, save):
    path = save('a.parquet', url=['x', 'y'], caption=['a cat', None])
    found = sources.read(path)
    assert found.texts == ('a cat',) and found.num_empty == 1
    assert sources.read(path, field='url').texts == ('x', 'y')
    with pytest.raises(
      UserError, match=r"'prompt' is not a column.* url, caption"
    ):
      sources.read(path, field='prompt')

  def test_folder(self, save, tmp_path):
    save('1.parquet', prompt=['c'])
    save('0.parquet', prompt=['a', 'b'])
    assert sources.read(str(tmp_path)).texts == ('a', 'b', 'c')

  def test_no_usual_column(self, save):
    path = save('a.parquet', TITLE=['a cat'])
    with pytest.raises(UserError, match=r'name one with --field: TITLE'):
      sources.read(path)

  def test_broken(self, tmp_path):
    pytest.importorskip('pyarrow')
    (tmp_path / 'a.parquet').write_bytes(b'no parquet file')
    with pytest.raises(UserError, match='cannot be read as parquet'):
      sources.read(str(tmp_path / 'a.parquet'))


class TestTfds:
  @pytest.fixture
  def data_dir(self, tmp_path):
    tfds = pytest.importorskip('tensorflow_datasets')

    class Told(tfds.core.GeneratorBasedBuilder, skip_registration=True):
      VERSION = tfds.core.Version('1.0.0')

      def _info(self):
        captions = tfds.features.Sequence(
          {'id': tfds.features.Scalar(np.int64), 'text': tfds.features.Text()}
        )
        return tfds.core.DatasetInfo(
          builder=self,
          features=tfds.features.FeaturesDict({'captions': captions}),
        )

      def _split_generators(self, manager):
        return {'train': self._generate_examples()}

      def _generate_examples(self):
        for i in range(2):
          texts = [f'cat {i}', f'dog {i}']
          yield i, {'captions': [{'id': 0, 'text': text} for text in texts]}

    Told(data_dir=tmp_path, file_format='array_record').download_and_prepare()
    return tmp_path

  def test_captions(self, data_dir):
    found = sources.read('told', data_dir=data_dir)
    assert sorted(found.texts) == ['cat 0', 'cat 1', 'dog 0', 'dog 1']
    part = sources.read('told', split='train[:1]', data_dir=data_dir)
    assert len(part) == 2
    with pytest.raises(UserError, match=r'no text feature.* captions/text'):
      sources.read('told', field='captions', data_dir=data_dir)
