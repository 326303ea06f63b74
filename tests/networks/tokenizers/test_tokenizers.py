"""Parity of the image tokenizers with the official implementations."""

import pytest

from tests.golden import parity


@pytest.mark.parametrize(
  'name', ['maskgit_vqgan', 'maskbit_tokenizer', 'google_tokenizer']
)
def test_parity(name):
  parity.check(name)
