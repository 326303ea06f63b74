"""Generator, tokenizer and text tower as one system, made by `build`."""

from softdimo_jax.families.family import Family
from softdimo_jax.families.systems import build, build_clip

__all__ = ['Family', 'build', 'build_clip']
