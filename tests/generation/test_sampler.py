"""What a sampler accepts."""

import types

import numpy as np
import pytest

from softdimo_jax.generation.sampler import Sampler


@pytest.mark.parametrize('label', [-1, 11, 500])
def test_labels_outside_the_classes_are_refused(label):
  family = types.SimpleNamespace(reads_text=False, null_label=10)
  sampler = Sampler(lambda *_: None, family, 1)
  with pytest.raises(ValueError, match=rf'label {label} is not in \[0, 10\]'):
    sampler({}, {}, None, np.array([0, 10, label]))
