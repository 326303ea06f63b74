"""Labelled data of a run, checked before anything is trained."""

import numpy as np
import PIL.Image
import pytest

from configs import digits
from softdimo_jax import families
from softdimo_jax.errors import UserError
from softdimo_jax.experiment.inputs import LabelsInMemory, open_inputs


@pytest.fixture
def config(tmp_path):
  for label in range(3):
    for index in range(4):
      path = tmp_path / 'set' / f'{label}' / f'{index}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      pixels = np.full((16, 12, 3), 100 * label, np.uint8)
      PIL.Image.fromarray(pixels).save(path)
  config = digits.get_config('tiny')
  config.data.name = str(tmp_path / 'set')
  config.data.held_out = 3
  return config


def inputs(config) -> LabelsInMemory:
  found = open_inputs(config, families.build(config.model), {}.__getitem__)
  assert isinstance(found, LabelsInMemory)
  return found


def test_a_folder_needs_the_classes_of_the_networks(config):
  with pytest.raises(
    UserError, match=r'3 classes, but config\.model\.generator\.num_classes=10'
  ):
    inputs(config).check(['tokenizer'], False)
  config.model.generator.num_classes = 3
  with pytest.raises(UserError, match=r'config\.classifier\.num_classes=10'):
    inputs(config).check(['tokenizer'], False)
  config.classifier.num_classes = 3
  train, held_out = inputs(config).splits
  assert train.images.shape == (9, 8, 8, 1) and len(held_out.labels) == 3
  assert (train.labels < 3).all()


def test_digits_need_ten_classes(config):
  config.data.update({'name': 'digits', 'held_out': 360})
  config.model.generator.num_classes = 11
  with pytest.raises(UserError, match=r'10 classes, but .*num_classes=11'):
    inputs(config).check(['teacher'], True)


def test_a_run_that_is_done_reads_no_data(config):
  config.data.name = '/nowhere'
  inputs(config).check([], False)
