"""The released rewards from a configuration, at tiny sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax import rewards
from softdimo_jax.errors import UserError
from softdimo_jax.networks.rewards.blip import BLIPScorer
from softdimo_jax.ops.preprocess import ImageTransform
from tests import released

PROMPTS = ['a red cube', 'Two crosses!']
TERMS = {
  'clip': 0.01,
  'hpsv2': 5.0,
  'pickscore': 0.05,
  'imagereward': 1.0,
  'aesthetic': 0.1,
}


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  """All five rewards, in converted folders; the CLIPs differ."""
  root = tmp_path_factory.mktemp('weights')
  kinds = {
    'clip': ('clip', 0),
    'hpsv2': ('clip', 1),
    'pickscore': ('clip', 2),
    'imagereward': ('image_reward', 0),
    'aesthetic_clip': ('clip', 3),
    'aesthetic': ('aesthetic_head', 0),
  }
  return {
    'terms': TERMS,
    'weights': {
      name: released.save(root / name, family, seed)
      for name, (family, seed) in kinds.items()
    },
    'clip_vocabulary': 'rule',
    'bert_vocabulary': 'rule',
  }


def images(size=11):
  return jax.random.uniform(jax.random.key(0), (len(PROMPTS), size, size, 3))


def test_the_sum_is_that_of_its_parts(config):
  combined = rewards.build(config)
  assert combined.terms == TERMS
  params, captions = combined.load_params(), combined.captions(PROMPTS)
  assert set(params) == set(captions) == set(TERMS)
  scores = jax.jit(lambda p, x, c: rewards.scores(combined.rewards, p, x, c))(
    params, images(), captions
  )
  total = jax.jit(combined.score)(params, images(), captions)
  expected = sum(TERMS[name] * scores[name] for name in TERMS)
  np.testing.assert_allclose(total, expected, rtol=1e-5)
  # Cosines, unlike those that the learnt scale multiplies.
  assert np.abs(scores['hpsv2']).max() <= 1
  module = released.module('image_reward')
  assert isinstance(module, BLIPScorer)
  ids = captions['imagereward']
  output = module.apply(
    {'params': released.params('image_reward')},
    ImageTransform(size=released.SIZE)(images()),
    ids,
    ids != 0,
  )
  np.testing.assert_allclose(scores['imagereward'], output.score, rtol=1e-4)


def test_only_what_terms_name_is_read(config):
  weights = {'clip': config['weights']['clip'], 'hpsv2': 'nowhere.pt'}
  combined = rewards.build(
    {**config, 'terms': {'clip': 2.0}, 'weights': weights}
  )
  assert list(combined.rewards) == ['clip']
  assert combined.sources == {'clip': weights['clip']}


def test_antialiasing_is_a_field(config):
  config = {**config, 'terms': {'hpsv2': 1.0}}
  score = {}
  for antialias in (True, False):
    combined = rewards.build({**config, 'antialias': antialias})
    score[antialias] = combined.score(
      combined.load_params(), images(20), combined.captions(PROMPTS)
    )
  assert np.abs(score[True] - score[False]).max() > 1e-5


def test_half_precision_and_remat_reach_both_towers(config):
  options = {'dtype': 'bfloat16', 'remat': 'full'}
  for name in ('clip', 'imagereward'):
    combined = rewards.build({**config, **options, 'terms': {name: 1.0}})
    module = combined.rewards[name].module
    for tower in (module.image, module.text):
      assert tower.dtype == jnp.bfloat16 and tower.remat == 'full'


def test_weights_by_rule_need_no_file(config):
  weights = {**config['weights'], 'aesthetic': 'rule'}
  combined = rewards.build(
    {**config, 'weights': weights, 'terms': {'aesthetic': 1.0}}
  )
  assert combined.sources['aesthetic'].startswith('rule on ')
  params, captions = combined.load_params(), combined.captions(PROMPTS)
  assert np.isfinite(combined.score(params, images(), captions)).all()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'terms': {}}, 'rewards.terms is empty'),
    ({'terms': {'hps': 1.0}}, 'terms.hps is unknown; .*hpsv2'),
    ({'antialiased': True}, 'rewards.antialiased is unknown'),
    ({'remat': 'some'}, "remat.*'some'"),
    ({'dtype': 'float33'}, "dtype.*'float33'"),
    ({'weights': {'clip': 'none.pt'}}, 'weights.clip: none.pt is neither'),
    ({'weights': {'clip': ''}}, 'weights.clip is empty'),
    ({'weights': {'clop': 'x'}}, 'rewards.weights.clop is unknown'),
    ({'weights': {'clip': 'imagereward'}}, 'image_reward, expected clip'),
    ({'clip_vocabulary': '/nowhere'}, 'clip_vocabulary: /nowhere'),
  ],
)
def test_mistakes_are_one_sentence(config, changes, message):
  changes = dict(changes)
  if 'weights' in changes:
    names = {
      key: config['weights'].get(value, value)
      for key, value in changes['weights'].items()
    }
    changes['weights'] = {**config['weights'], **names}
  with pytest.raises(UserError, match=message):
    rewards.build({**config, **changes})
