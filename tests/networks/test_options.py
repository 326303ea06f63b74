"""Options of modules, and fingerprints that contain them."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.convert import folder, weights
from softdimo_jax.data.cache.records import module_fingerprint, same_module
from softdimo_jax.evaluation.features import probes
from softdimo_jax.networks import options
from softdimo_jax.networks.rewards.clip import CLIP, CLIPImageTower
from tests import released


def test_options_of_parts_are_json_values():
  module = CLIP(image=CLIPImageTower(depth=3, dtype=jnp.bfloat16))
  described = options.described(module)
  assert json.loads(json.dumps(described)) == described
  assert described['image']['depth'] == 3
  assert 'dtype' not in described['image']


def test_fingerprints_tell_options():
  params = {'a': np.ones(2)}
  first, second = (
    module_fingerprint(CLIPImageTower(activation=name), params)
    for name in ('gelu', 'quick_gelu')
  )
  assert first['params_sha256'] == second['params_sha256']
  assert not same_module(first, second)
  # Caches of earlier versions.
  old = {name: first[name] for name in ('name', 'params_sha256')}
  assert same_module(old, first) and same_module(old, second)
  assert not same_module(old | {'params_sha256': '0'}, first)


@pytest.mark.parametrize('kind', ['clip', 'inception'])
def test_features_of_a_replaced_folder_are_not_reused(tmp_path, kind):
  def probe():
    found = weights.find(str(tmp_path / kind), kind, default=CLIP)
    if kind == 'clip':
      return probes.clip_probe(found, 'crop', 4)
    return probes.inception_probe(found, 'clean', 4)

  released.save(tmp_path / kind, kind)
  before = probe().fingerprint
  file = tmp_path / kind / 'model.json'
  model = json.loads(file.read_text())
  if kind == 'clip':  # The same parameters, converted with another flag.
    model['options']['image']['activation'] = 'quick_gelu'
  else:
    model['options']['resolution'] = 76
  file.write_text(json.dumps(model))
  assert probe().fingerprint != before
  assert folder.is_converted(tmp_path / kind)
