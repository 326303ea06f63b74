"""The rules cover the official full-size checkpoints, by name and shape."""

import jax
import numpy as np
import pytest

from softdimo_jax.convert import tree
from softdimo_jax.convert.google_maskgit import convert_google_tokenizer
from softdimo_jax.convert.maskbit_tokenizer import (
  convert_maskbit_tokenizer,
  maskbit_tokenizer_rules,
)
from softdimo_jax.convert.taming_vqgan import convert_taming_vqgan
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer
from softdimo_jax.networks.tokenizers.taming_vqgan import TamingVQGAN
from softdimo_jax.parity import official_tokenizers
from tests.convert.listings import count, listing

VQGAN_PLUS_10 = MaskBitTokenizer(embedding_dim=256, codebook_size=1024)
VQGAN_PLUS_12 = MaskBitTokenizer(embedding_dim=64, codebook_size=4096)
MASKGIT = VQGAN_PLUS_10.clone(conv_downsample=False)

# Checkpoint -> module, number of parameters.
MASKBIT_FAMILY = {
  'maskbit_tokenizer_10bit': (MaskBitTokenizer(embedding_dim=10), 54_469_005),
  'maskbit_tokenizer_12bit': (MaskBitTokenizer(embedding_dim=12), 54_479_247),
  'maskbit_tokenizer_14bit': (MaskBitTokenizer(embedding_dim=14), 54_489_489),
  'maskbit_tokenizer_16bit': (MaskBitTokenizer(embedding_dim=16), 54_499_731),
  'maskbit_tokenizer_18bit': (MaskBitTokenizer(embedding_dim=18), 54_509_973),
  'maskbit_vqgan_plus_10bit': (VQGAN_PLUS_10, 55_990_915),
  'maskbit_vqgan_plus_12bit': (VQGAN_PLUS_12, 55_007_683),
  'maskbit_external_maskgit_tokenizer': (MASKGIT, 54_515_587),
}


def test_taming_checkpoint_is_covered():
  meta, entries = listing('maskgit_vqgan')
  entries['loss.discriminator.main.0.weight'] = jax.ShapeDtypeStruct(
    (64, 3, 4, 4), 'float32'
  )
  params, report = convert_taming_vqgan(entries, TamingVQGAN())
  assert len(report.used) == meta['n_entries'] == 343
  assert len(report.ignored) == 1
  assert count(params) == meta['n_params'] == 72_141_699
  assert count(params['encoder']) == 29_298_176
  assert count(params['decoder']) == 42_449_795


@pytest.mark.parametrize('name', MASKBIT_FAMILY)
def test_maskbit_checkpoints_are_covered(name):
  module, parameters = MASKBIT_FAMILY[name]
  meta, entries = listing(name)
  params, report = convert_maskbit_tokenizer(entries, module)
  assert set(report.ignored) == set(meta['kept'])
  assert len(report.used) == meta['n_entries'] - len(meta['kept'])
  assert count(params) == meta['n_params'] == parameters


def test_google_checkpoint_is_covered():
  meta, entries = listing('google_tokenizer')
  module = official_tokenizers.google_tokenizer(meta['config'])
  params, report = convert_google_tokenizer(entries, module)
  assert len(report.used) == meta['n_entries'] == 168
  assert count(params) == meta['n_params'] == 54_515_587


def test_google_options_that_no_release_has_are_refused():
  meta, _ = listing('google_tokenizer')
  with pytest.raises(ValueError, match="activation_fn 'relu' is unknown"):
    official_tokenizers.google_tokenizer(
      meta['config'] | {'activation_fn': 'relu'}
    )


def test_taming_module_from_official_arguments():
  meta, _ = listing('maskgit_vqgan')
  assert official_tokenizers.taming_vqgan(meta['config']) == TamingVQGAN()


@pytest.mark.parametrize('name', MASKBIT_FAMILY)
def test_maskbit_modules_from_official_arguments(name):
  meta, _ = listing(name)
  assert (
    official_tokenizers.maskbit_tokenizer(meta['config'])
    == MASKBIT_FAMILY[name][0]
  )


def test_an_unknown_quantizer_is_refused():
  meta, _ = listing('maskbit_tokenizer_10bit')
  with pytest.raises(ValueError, match="quantizer_type 'vae' is unknown"):
    official_tokenizers.maskbit_tokenizer(
      meta['config'] | {'quantizer_type': 'vae'}
    )


def test_a_checkpoint_of_another_size_is_refused():
  _, entries = listing('maskbit_tokenizer_10bit')
  with pytest.raises(tree.ConversionError, match='has shape'):
    convert_maskbit_tokenizer(entries, MaskBitTokenizer(embedding_dim=12))


@pytest.mark.parametrize(('legacy', 'level'), [(False, 2), (True, 0)])
def test_both_orders_of_the_decoder(legacy, level):
  rules = maskbit_tokenizer_rules(3, legacy=legacy)
  name = 'decoder.up.0.res_blocks.1.norm1.bias'
  target = {
    'decoder': {
      f'up_{level}_block_1': {
        'norm1': {'bias': jax.ShapeDtypeStruct((4,), 'float32')}
      }
    }
  }
  params, _ = tree.convert({name: np.arange(4.0)}, rules, target)
  assert count(params) == 4
