"""Converted checkpoints on disk."""

import json

import pytest

from softdimo_jax.convert import folder
from softdimo_jax.errors import UserError
from tests import released


def test_another_network_over_the_same_weights_is_refused(tmp_path):
  released.save(tmp_path / 'head', 'aesthetic_head')
  path = tmp_path / 'head' / 'model.json'
  model = json.loads(path.read_text())
  digest = model.pop('crc32')
  # As earlier versions wrote it.
  path.write_text(json.dumps(model))
  module, _ = folder.load_converted(tmp_path / 'head')
  assert module.widths == (4, 1)
  model['options']['widths'] = [1]  # it would ignore the second layer
  path.write_text(json.dumps(model | {'crc32': digest}))
  with pytest.raises(UserError, match='is damaged or was edited'):
    folder.load_converted(tmp_path / 'head')


@pytest.mark.parametrize('text', ['', '[]', '[' * 100_000, '{"family": []}'])
def test_a_damaged_model_is_named(text, tmp_path):
  (tmp_path / 'model.json').write_text(text)
  with pytest.raises(UserError, match=r'model\.json'):
    folder.load_module(tmp_path)
