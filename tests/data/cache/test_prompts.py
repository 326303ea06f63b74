"""Features of prompts on disk."""

import dataclasses

import numpy as np
import pytest

from softdimo_jax.data.cache.prompts import (
  EncodedPrompts,
  PromptCache,
  PromptCacheSpec,
  PromptCacheWriter,
)
from softdimo_jax.data.cache.records import shard_file
from softdimo_jax.errors import UserError

SPEC = PromptCacheSpec(
  length=3,
  features={'states': [3, 2], 'pooled': [4]},
  dtype='float32',
  null='nothing',
  num_prompts=4,  # with the unconditional one in shards of 2: the last is short
  prompts_per_shard=2,
  tower={'params_sha256': '0', 'options': {'width': 2}},
  tokens={'clean': 'hf'},
  prompts={'name': 'some.txt'},
)


def encoded(records):
  """What record i holds tells i."""
  index = np.array(records, np.float32)
  return EncodedPrompts(
    texts=[SPEC.null if not i else f'größe {i}' for i in records],
    ids=np.tile(index.astype(int)[:, None], (1, 3)),
    features={
      'states': np.tile(index[:, None, None], (1, 3, 2)) / 3,
      'pooled': np.tile(index[:, None], (1, 4)),
    },
  )


def write(folder, spec=SPEC, shards=None):
  writer = PromptCacheWriter(folder, spec)
  for shard in writer.missing()[:shards]:
    writer.write(shard, encoded(spec.records(shard)), num_cut=shard)
  return folder


@pytest.mark.parametrize(
  ('dtype', 'error'), [('float32', 0), ('float16', 1e-3)]
)
def test_records(tmp_path, dtype, error):
  cache = PromptCache(write(tmp_path, dataclasses.replace(SPEC, dtype=dtype)))
  assert len(cache) == 4 and cache.num_cut == 0 + 1 + 2
  assert cache.null.texts == ['nothing'] and cache.null.ids.tolist() == [
    [0] * 3
  ]
  found = cache.gather(np.array([3, 0]))
  assert found.texts == ['größe 4', 'größe 1']
  expected = encoded([4, 1])
  np.testing.assert_array_equal(found.ids, expected.ids)
  for name, values in expected.features.items():
    assert found.features[name].dtype == np.float32
    np.testing.assert_allclose(found.features[name], values, rtol=error)


def test_writing_goes_on_with_identical_bytes(tmp_path):
  contents = lambda folder: {x.name: x.read_bytes() for x in folder.iterdir()}
  whole, broken = write(tmp_path / 'a'), write(tmp_path / 'b', shards=1)
  with pytest.raises(UserError, match=r'lacks 2 of 3 shards.*encode_prompts'):
    PromptCache(broken)
  assert contents(write(broken)) == contents(whole)


def test_a_truncated_shard_is_found_and_written_again(tmp_path):
  path = write(tmp_path) / shard_file(SPEC, 1)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(UserError, match='is corrupt; run python -m'):
    PromptCache(tmp_path)
  assert PromptCacheWriter(tmp_path, SPEC).missing() == [1]


def test_damage_is_found_when_it_is_read(tmp_path):
  path = write(tmp_path) / shard_file(SPEC, 1)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)
  with pytest.raises(UserError, match=r'is damaged \(Corrupted .*; run python'):
    PromptCache(tmp_path).gather(np.arange(4))
  assert PromptCacheWriter(tmp_path, SPEC).missing() == [1]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'tower': {**SPEC.tower, 'params_sha256': '1'}}, 'by another text tower'),
    (
      {'tower': {**SPEC.tower, 'options': {'width': 3}}},
      "another text tower: options is {'width': 2}, not {'width': 3}",
    ),
    ({'tokens': {'clean': 'openai'}}, "other token ids: clean is 'hf', not"),
    ({'null': ''}, "another unconditional prompt: 'nothing', not ''"),
    ({'features': {'pooled': [4]}}, 'for another model'),
  ],
)
def test_caches_of_something_else_are_refused(tmp_path, change, message):
  cache = PromptCache(write(tmp_path))
  cache.check({name: getattr(SPEC, name) for name in change})
  with pytest.raises(UserError, match=message):
    cache.check(change)
  other = dataclasses.replace(SPEC, **change)
  with pytest.raises(UserError, match=f'was started with {next(iter(change))}'):
    PromptCacheWriter(tmp_path, other)


@pytest.mark.parametrize(
  ('dtype', 'value', 'message'),
  [
    ('float16', 1e5, 'not finite as float16: choose --dtype=float32'),
    ('float32', np.nan, 'weights of the text tower are damaged'),
  ],
)
def test_features_that_do_not_fit(tmp_path, dtype, value, message):
  spec = dataclasses.replace(SPEC, dtype=dtype)
  prompts = encoded(spec.records(0))
  prompts.features['pooled'][1, 2] = value
  writer = PromptCacheWriter(tmp_path, spec)
  with pytest.raises(UserError, match=message):
    writer.write(0, prompts, num_cut=0)
  assert writer.missing() == [0, 1, 2]


def test_folders_that_are_no_cache(tmp_path):
  with pytest.raises(UserError, match=r'is not a prompt cache.*encode_prompts'):
    PromptCache(tmp_path)
