import dataclasses
import json
import pathlib

import numpy as np
import pytest

from softdimo_jax.data.cache.records import MANIFEST, shard_file
from softdimo_jax.data.cache.tokens import (
  TokenCache,
  TokenCacheSpec,
  TokenCacheWriter,
)
from softdimo_jax.errors import UserError

SPEC = TokenCacheSpec(
  length=4,
  groups=2,
  vocab_size=128,
  size=8,
  flip=True,
  num_images=7,  # in shards of 3: the last one is short
  images_per_shard=3,
  tokenizer={'name': 'None', 'params_sha256': '0'},
  source={'kind': 'folder'},
)


def tokens_of(image: int, flipped: bool) -> np.ndarray:
  return np.arange(8).reshape(4, 2) + 8 * image + 64 * flipped


def write(
  folder: pathlib.Path, spec: TokenCacheSpec = SPEC, shards: int | None = None
) -> pathlib.Path:
  writer = TokenCacheWriter(folder, spec)
  for shard in writer.missing()[:shards]:
    pairs = [(i, flip) for i in spec.images(shard) for flip in (False, True)]
    writer.write(
      shard,
      np.stack([tokens_of(*pair) for pair in pairs]),
      np.array([10 + image for image, _ in pairs]),
      np.array([flipped for _, flipped in pairs]),
      skipped=('bad.png',) if shard == 1 else (),
    )
  return folder


def contents(folder: pathlib.Path) -> dict[str, bytes]:
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_records(tmp_path):
  cache = TokenCache(write(tmp_path))
  assert len(cache) == 14 and cache.spec == SPEC
  assert cache.skipped == ('bad.png',)
  for index in range(14):
    record = cache[index]
    image, flipped = divmod(index, 2)
    np.testing.assert_array_equal(record['tokens'], tokens_of(image, flipped))
    assert record['tokens'].dtype == np.int32
    assert record['label'] == 10 + image and record['flipped'] == bool(flipped)


@pytest.mark.parametrize(
  ('vocab_size', 'size'), [(2, 2), (2**16, 2), (2**16 + 1, 4), (2**18, 4)]
)
def test_tokens_take_the_bytes_they_need(tmp_path, vocab_size, size):
  spec = dataclasses.replace(
    SPEC, vocab_size=vocab_size, num_images=1, flip=False
  )
  assert spec.record.itemsize == 5 + 8 * size
  tokens = np.full((1, 4, 2), vocab_size - 1)
  TokenCacheWriter(tmp_path, spec).write(
    0, tokens, np.zeros(1, int), np.zeros(1, bool)
  )
  np.testing.assert_array_equal(TokenCache(tmp_path)[0]['tokens'], tokens[0])


def test_labels_fit_the_generator(tmp_path):
  cache = TokenCache(write(tmp_path / 'old'))  # labels 10 to 16, no classes
  cache.check_labels(17)
  with pytest.raises(UserError, match=r'label 16, .* are 0 to 15'):
    cache.check_labels(16)
  spec = dataclasses.replace(SPEC, classes=list('abcdefghijklmnopq'))
  cache = TokenCache(write(tmp_path / 'new', spec))
  cache.check_labels(17)
  with pytest.raises(UserError, match=r'17 classes, .* label 16 \(q\)'):
    cache.check_labels(16)


def test_manifest_says_what_is_inside(tmp_path):
  manifest = json.loads((write(tmp_path) / MANIFEST).read_text())
  assert manifest['num_records'] == 14
  assert manifest['spec'] == dataclasses.asdict(SPEC)
  assert [s['records'] for s in manifest['shards'].values()] == [6, 6, 2]
  files = {shard['file'] for shard in manifest['shards'].values()}
  assert files == {f'tokens-0000{k}-of-00003.array_record' for k in range(3)}
  assert set(contents(tmp_path)) == files | {MANIFEST}


def test_writing_goes_on_with_identical_bytes(tmp_path):
  whole = write(tmp_path / 'whole')
  broken = write(tmp_path / 'broken', shards=2)
  with pytest.raises(UserError, match='lacks 1 of 3 shards; run python'):
    TokenCache(broken)
  (broken / '.tokens-00002-of-00003.array_record.partial').write_bytes(b'x')
  before = (broken / shard_file(SPEC, 0)).stat().st_mtime_ns
  assert TokenCacheWriter(broken, SPEC).missing() == [2]
  write(broken)
  assert (broken / shard_file(SPEC, 0)).stat().st_mtime_ns == before
  assert contents(whole) == contents(broken)


@pytest.mark.parametrize('damage', ['corrupt', 'missing'])
def test_damaged_shards_are_found_and_written_again(tmp_path, damage):
  expected = contents(write(tmp_path))
  path = tmp_path / shard_file(SPEC, 1)
  if damage == 'missing':
    path.unlink()
  else:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
  with pytest.raises(UserError, match=f'00001-of-00003.* is {damage}; run'):
    TokenCache(tmp_path)
  assert TokenCacheWriter(tmp_path, SPEC).missing() == [1]
  assert contents(write(tmp_path)) == expected


def test_a_shard_without_readable_images(tmp_path):
  spec = dataclasses.replace(SPEC, flip=False)
  writer = TokenCacheWriter(tmp_path, spec)
  for shard in writer.missing():
    count = 0 if shard == 1 else len(spec.images(shard))
    writer.write(
      shard,
      np.zeros((count, 4, 2), int),
      np.full(count, shard),
      np.zeros(count, bool),
    )
  cache = TokenCache(tmp_path)
  assert len(cache) == 4
  assert [int(cache[i]['label']) for i in range(4)] == [0, 0, 0, 2]


def test_caches_of_two_tokenizers_do_not_mix(tmp_path):
  write(tmp_path, shards=1)
  other = dataclasses.replace(
    SPEC, tokenizer={'name': 'None', 'params_sha256': '1'}
  )
  with pytest.raises(UserError, match='was started with tokenizer'):
    TokenCacheWriter(tmp_path, other)


def test_folders_that_are_no_cache(tmp_path):
  with pytest.raises(UserError, match=r'is not a token cache \(no manifest'):
    TokenCache(tmp_path)
  for text in ('{', '[]', '{"version": 1}', '{"version": 2}'):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(UserError, match='is not a valid token cache manifest'):
      TokenCache(tmp_path)


def test_batches_cover_the_epoch(tmp_path):
  iterator = TokenCache(write(tmp_path)).batches(7, seed=0)
  epochs = [[next(iterator), next(iterator)] for _ in range(2)]
  for epoch in epochs:
    tokens = np.concatenate([batch['tokens'] for batch in epoch])
    labels = np.concatenate([batch['label'] for batch in epoch])
    assert tokens.shape == (14, 4, 2) and tokens.dtype == np.int32
    assert labels.dtype == np.int32
    first, flipped = tokens[:, 0, 0] % 64, tokens[:, 0, 0] // 64
    np.testing.assert_array_equal(labels, 10 + first // 8)
    assert sorted(zip(first // 8, flipped, strict=True)) == [
      (i, flip) for i in range(7) for flip in range(2)
    ]
  assert not np.array_equal(epochs[0][0]['tokens'], epochs[1][0]['tokens'])


def test_batches_go_on_where_the_state_was_saved(tmp_path):
  cache = TokenCache(write(tmp_path))
  iterator = cache.batches(4, seed=5)
  for _ in range(5):
    next(iterator)
  state = iterator.get_state()
  expected = [next(iterator) for _ in range(5)]
  resumed = cache.batches(4, seed=5)
  resumed.set_state(state)
  for batch in expected:
    found = next(resumed)
    for name in ('tokens', 'label'):
      np.testing.assert_array_equal(batch[name], found[name])
