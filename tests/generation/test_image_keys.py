"""An image depends on its index and the seed: any batch, any devices."""

import functools
import subprocess
import sys

import jax
import ml_collections
import numpy as np
import pytest

from softdimo_jax import families
from softdimo_jax.families.start import Start
from softdimo_jax.generation.sampler import Sampler
from softdimo_jax.generation.tokens import multi_step_tokens, one_step_tokens
from softdimo_jax.method import sampling
from tests.families.test_text_families import networks
from tests.processes import environment

IMAGES, CODES = 13, 8
INIT = ml_collections.FrozenConfigDict(
  {
    'mask_ratio': 0.5,
    'max_mask_ratio': None,
    'noise_scale': 0.5,
    'noise_unit': 'absolute',
  }
)


@functools.cache
def labelled():
  """(family, generator, tokenizer, labels int [13], None)."""
  family = families.build(
    ml_collections.ConfigDict({
      'generator': {
        'name': 'maskgit', 'vocab_size': CODES, 'num_classes': 3, 'length': 4,
        'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_width': 16,
      },
      'tokenizer': {
        'name': 'patch_vq', 'patch': 4, 'hidden': 8, 'codebook_size': CODES,
        'embedding_dim': 3,
      },
    })
  )  # fmt: skip
  rng = np.random.default_rng(0)
  generator, tokenizer = (
    jax.tree.map(
      lambda leaf: 0.4 * rng.normal(size=leaf.shape).astype(leaf.dtype),
      jax.eval_shape(init, jax.random.key(0)),
    )
    for init in (family.init, family.init_tokenizer)
  )
  return family, generator, tokenizer, np.arange(IMAGES) % 3, None


@functools.cache
def prompted():
  """As `labelled`, with the features of 13 prompts and of the empty one."""
  n = networks('maskgen')
  rows = np.arange(IMAGES) % 4
  text = jax.tree.map(lambda x: np.asarray(x)[rows], n.text)
  return n.family, n.params, n.tokenizer, text, n.null


SYSTEMS = {'labels': labelled, 'prompts': prompted}
CASES = [(s, m) for s in SYSTEMS for m in ('student', 'teacher')]


def sampler(family, null, model, batch_size):
  if model == 'student':
    tokens_fn = functools.partial(
      one_step_tokens, family, init=INIT, temperature=1.0
    )
  else:
    plan = {'name': 'maskgit', 'choice_temperature': 2.0}
    options = {'steps': 3, 'guidance_scale': 2.0, 'plan': plan}
    tokens_fn = functools.partial(
      multi_step_tokens,
      family,
      options=ml_collections.ConfigDict(options),
      null=null,
    )
  return Sampler(tokens_fn, family, batch_size)


def generated(system, model, batch_size, rows=slice(None)):
  """(tokens, images) of these rows of the 13 images."""
  family, generator, tokenizer, condition, null = SYSTEMS[system]()
  return sampler(family, null, model, batch_size)(
    generator,
    tokenizer,
    sampling.image_keys(7, IMAGES)[rows],
    jax.tree.map(lambda x: x[rows], condition),
  )


def assert_same(found, expected):
  np.testing.assert_array_equal(found[0], expected[0])
  # Matrix products of other sizes may sum in another order.
  np.testing.assert_allclose(found[1], expected[1], atol=1e-5)


@pytest.mark.parametrize(('system', 'model'), CASES)
def test_images_do_not_depend_on_their_batch(system, model):
  expected = generated(system, model, IMAGES)
  assert len(np.unique(expected[0], axis=0)) > IMAGES // 2
  for batch_size in (3, 5, 8):
    assert_same(generated(system, model, batch_size), expected)
  part = slice(4, 9)
  assert_same(
    generated(system, model, 3, part), tuple(x[part] for x in expected)
  )


def save(path):
  """Tokens and images of every case, in batches of 5 over all devices."""
  arrays = {}
  for system, model in CASES:
    tokens, images = generated(system, model, 5)
    arrays |= {f'{system} {model} 0': tokens, f'{system} {model} 1': images}
  np.savez(path, **arrays)


def test_images_do_not_depend_on_the_devices(tmp_path):
  code = 'import sys; from tests.generation import test_image_keys as t; '
  for devices in (1, 2, 4):
    file = str(tmp_path / f'{devices}.npz')
    subprocess.run(
      [sys.executable, '-c', f'{code}t.save(sys.argv[1])', file],
      env=environment(devices),
      check=True,
    )
  one, *others = (np.load(tmp_path / f'{n}.npz') for n in (1, 2, 4))
  for other in others:
    for case in CASES:
      names = [f'{" ".join(case)} {part}' for part in range(2)]
      assert_same(*([file[name] for name in names] for file in (other, one)))


def test_keys_continue_from_any_image():
  keys = sampling.image_keys(3, 9)
  data = jax.random.key_data
  np.testing.assert_array_equal(
    data(sampling.image_keys(3, 4, 5)), data(keys[5:])
  )
  expected = jax.random.fold_in(jax.random.key(3), 8)
  np.testing.assert_array_equal(data(keys[8]), data(expected))
  assert len(np.unique(data(keys), axis=0)) == 9


@pytest.mark.parametrize('system', SYSTEMS)
def test_the_input_of_a_sample_is_drawn_from_its_key(system):
  family, params, *_ = SYSTEMS[system]()
  keys, start = sampling.image_keys(0, 3), Start.in_sampling(INIT)
  found = family.sampled_embeddings(params, keys, start)
  for key, embeddings in zip(keys, found, strict=True):
    alone = family.initial_embeddings(params, key, 1, start)[0]
    np.testing.assert_allclose(embeddings, alone, rtol=1e-6, atol=1e-6)
