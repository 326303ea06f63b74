"""Where the packages are; everything else is in pyproject.toml."""

import setuptools

setuptools.setup(
  packages=[
    # Folders of data are packages, too: setuptools asks for it.
    *setuptools.find_namespace_packages(
      include=['softdimo_jax*'], exclude=['*__pycache__*']
    ),
    'softdimo_jax.configs',
  ],
  # A clone keeps the configurations at its top level.
  package_dir={'softdimo_jax.configs': 'configs'},
  package_data={
    'softdimo_jax': ['py.typed'],
    'softdimo_jax.data.prompts.clip_vocabulary': ['*'],
    'softdimo_jax.evaluation.report': ['*.jinja'],
  },
)
