"""Options of modules, and fingerprints that contain them."""

import json

import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert import weights
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


def test_features_of_a_replaced_folder_are_not_reused(tmp_path):
  def probe():
    found = weights.find(str(tmp_path / 'clip'), 'clip', default=CLIP)
    return probes.clip_probe(found, 'crop', 4)

  released.save(tmp_path / 'clip', 'clip')
  before = probe().fingerprint
  # The same parameters, converted with another flag.
  file = tmp_path / 'clip' / 'model.json'
  model = json.loads(file.read_text())
  model['options']['image']['activation'] = 'quick_gelu'
  del model['crc32']  # it shows that the file was edited
  file.write_text(json.dumps(model))
  assert probe().fingerprint != before
