"""Differentiable rewards: their interface and the released ones.

`build` returns a weighted sum of released rewards, a `Rewards`. A new reward is
a class in `scoring.py` and a line in `RELEASED` (`released.py`).
"""

from softdimo_jax.rewards.released import Rewards, build
from softdimo_jax.rewards.scoring import scores

__all__ = ['Rewards', 'build', 'scores']
