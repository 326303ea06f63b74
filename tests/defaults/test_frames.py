"""Variants of the configuration files."""

import importlib
import pathlib

import pytest

from softdimo_jax import defaults

CONFIGS = sorted(
  path.stem
  for path in (pathlib.Path(__file__).parents[2] / 'configs').glob('*.py')
  if path.stem != '__init__'
)
KINDS = (('small', 'large'), 'small'), (('tiny',), '')


def test_one_variant_of_each_kind():
  assert defaults.choose('x.py', 'tiny,large', *KINDS) == ('large', 'tiny')
  assert defaults.choose('x.py', 'tiny', *KINDS) == ('small', 'tiny')


def test_contradictions_and_unknown_names_are_refused():
  with pytest.raises(ValueError, match=r"'small' and 'large' of .* exclude"):
    defaults.choose('x.py', 'small,large', *KINDS)
  with pytest.raises(ValueError, match=r"'huge' of .* small, large, tiny"):
    defaults.choose('x.py', 'huge', *KINDS)


def test_changes_name_fields_that_exist():
  with pytest.raises(KeyError, match='learning_rat'):
    defaults.distillation('teacher', 1e-4, gan={'optimizer': {'rat': 1}})


@pytest.mark.parametrize('name', CONFIGS)
def test_stages_of_a_configuration_are_sections(name):
  config = importlib.import_module(f'configs.{name}').get_config()
  assert all('kind' in config[stage] for stage in config.stages)
