"""Checkpoints whose entries are renamed or make no sense."""

import numpy as np
import pytest

from softdimo_jax.convert import registry
from softdimo_jax.convert.tree import ConversionError
from tests.convert.test_command import GOLDEN
from tests.golden.weights import load


def test_renamed_encoders_are_named():
  _, state, _ = load(GOLDEN, 'maskgit_vqgan')
  renamed = {
    name.replace('encoder.down.', 'encoder.downs.'): array
    for name, array in state.items()
  }
  with pytest.raises(ConversionError, match=r'entry encoder\.down\.N'):
    registry.infer('taming_vqgan', renamed, {})


def test_whatever_a_module_of_impossible_sizes_raises_is_one_sentence():
  class Broken:
    def __getattr__(self, name):
      raise IndexError('tuple index out of range')

  state = {'tok_emb.weight': np.zeros((2, 2), np.float32)}
  with pytest.raises(ConversionError, match=r'not fit any maskgit.*IndexError'):
    registry.convert('maskgit', state, Broken())
