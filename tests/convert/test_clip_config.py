"""What configurations beside CLIP's weights say."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from softdimo_jax.convert import clip_config, command, folder, weights
from softdimo_jax.convert.clip import convert_clip
from softdimo_jax.convert.shapes import Shapes
from softdimo_jax.convert.tree import ConversionError
from softdimo_jax.errors import UserError
from softdimo_jax.networks.rewards.clip import CLIP
from tests.convert.test_clip_rules import example

OPEN_CLIP, TRANSFORMERS = 'open_clip_config.json', 'config.json'
SHAPES = Shapes({})


def model_cfg(**changes):
  return {
    'model_cfg': {
      'vision_cfg': {'width': 128, 'head_width': 32},
      'text_cfg': {'width': 64, 'heads': 2},
    }
    | changes
  }


def tower(act):
  return {'hidden_act': act, 'num_attention_heads': 2, 'hidden_size': 128}


def clip_config_of(image, text):
  return {'model_type': 'clip', 'vision_config': image, 'text_config': text}


def options(path, of=clip_config.of_model, shapes=SHAPES, **files):
  for name, content in files.items():
    (path / f'{name}.json').write_text(json.dumps(content))
  return of(path, shapes)


@pytest.mark.parametrize(
  ('file', 'content', 'expected'),
  [
    ('open_clip_config', model_cfg(quick_gelu=True), ('quick_gelu', 4, 2)),
    ('open_clip_config', model_cfg(), ('gelu', 4, 2)),
    (
      'config',
      clip_config_of(tower('gelu'), tower('gelu')),
      ('gelu', 2, 2),
    ),
    ('config', clip_config_of({}, {}), ('quick_gelu', 12, 8)),
    (
      'config',
      clip_config_of({}, {})
      | {
        f'{name}_config_dict': {'hidden_act': 'gelu'}
        for name in ('text', 'vision')
      },
      ('gelu', 12, 8),
    ),
  ],
)
def test_options_of_a_model(tmp_path, file, content, expected):
  found = options(tmp_path, **{file: content})
  assert tuple(found[x] for x in ('activation', 'num_heads', 'text_heads')) == (
    expected
  )
  text = options(tmp_path, clip_config.of_text)
  assert (text['activation'], text['num_heads']) == (expected[0], expected[2])


def test_configurations_of_other_networks_say_nothing(tmp_path):
  assert options(tmp_path) == {}
  assert options(tmp_path, config={'model_type': 'blip'}) == {}
  text = {'model_type': 'clip_text_model', 'hidden_act': 'gelu'}
  assert options(tmp_path, clip_config.of_text, config=text) == {
    'activation': 'gelu',
    'num_heads': 8,
  }


@pytest.mark.parametrize(
  ('files', 'message'),
  [
    (
      {
        'config': clip_config_of({}, {}),
        'open_clip_config': model_cfg(),
      },
      'do not agree',
    ),
    ({'config': clip_config_of({}, tower('gelu'))}, 'two activations'),
    ({'config': clip_config_of(tower('swish'), {})}, 'hidden_act swish'),
    (
      {'config': clip_config_of({'layer_norm_eps': 1e-6}, {})},
      'layer_norm_eps 1e-06',
    ),
    (
      {
        'open_clip_config': model_cfg(
          text_cfg={'no_causal_mask': True, 'heads': 2}
        )
      },
      'no_causal_mask True is not supported',
    ),
    (
      {'open_clip_config': {'preprocess_cfg': {'mean': [0.5] * 3}}},
      'normalises images by the mean',
    ),
    ({'preprocessor_config': {'image_mean': [0.5] * 3}}, 'by the mean'),
    ({'config': {'model_type': 'clip', 'vision_config': 3}}, 'is not the conf'),
  ],
)
def test_what_our_towers_do_not_compute_is_refused(tmp_path, files, message):
  with pytest.raises(ConversionError, match=message):
    options(tmp_path, **files)


def test_a_configuration_of_another_width_is_refused(tmp_path):
  shapes = Shapes({'visual.class_embedding': (64,)})
  with pytest.raises(ConversionError, match='has the width 128 instead of 64'):
    options(tmp_path, shapes=shapes, open_clip_config=model_cfg())


@pytest.fixture
def model(tmp_path):
  """(file, module, configuration) of a small model of open_clip."""
  state, module = example('openclip_model_quick')
  file = tmp_path / 'weights' / 'model.safetensors'
  file.parent.mkdir()
  safetensors.numpy.save_file(state, file)
  width, text = module.image.width, module.text.width
  config = model_cfg(
    quick_gelu=True,
    vision_cfg={'width': width, 'head_width': width // 4},
    text_cfg={'width': text, 'heads': 4},
  )
  return file, module, config


def test_the_configuration_decides_for_a_file_and_its_conversion(
  model, tmp_path
):
  file, module, config = model
  (file.parent / OPEN_CLIP).write_text(json.dumps(config))
  found = weights.find(str(file), 'clip', default=CLIP)
  assert found.module == module
  command.run(command.Conversion('clip', str(file), out=tmp_path / 'quick'))
  assert folder.load_module(tmp_path / 'quick') == module
  given = {'activation': 'gelu'}
  command.run(
    command.Conversion(
      'clip', str(file), out=tmp_path / 'gelu', overrides=given
    )
  )
  assert folder.load_module(tmp_path / 'gelu').text.activation == 'gelu'


def test_an_activation_is_never_guessed(model):
  file, *_ = model
  with pytest.raises(UserError, match=r'do not tell its activation.*--activat'):
    weights.find(str(file), 'clip', default=CLIP)


def test_buffers_of_older_files_are_checked():
  state, module = example('openclip_model_quick')
  length = module.text.length
  mask = np.triu(np.full((length, length), -np.inf, np.float32), 1)
  params, report = convert_clip(
    state | {'attn_mask': mask, 'logit_scale': state['logit_scale'][None]},
    module,
  )
  assert report.ignored == ('attn_mask',)
  expected, _ = convert_clip(state, module)
  jax.tree.map(np.testing.assert_array_equal, params, expected)
  assert params['logit_scale'].shape == ()
  for name in ('attn_mask', 'visual.position_ids'):
    with pytest.raises(ConversionError, match='differs from ours'):
      convert_clip(state | {name: np.zeros_like(mask)}, module)
  with pytest.raises(ConversionError, match='cannot be transformed'):
    convert_clip(state | {'logit_scale': jnp.ones(2)}, module)
