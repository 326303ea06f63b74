"""Generator, tokenizer and text tower as one system.

`build` makes one of a configuration.
"""

from softdimo_jax.families.family import Family
from softdimo_jax.families.systems import build, build_clip

__all__ = ['Family', 'build', 'build_clip']
