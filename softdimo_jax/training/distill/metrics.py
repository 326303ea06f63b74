"""Metrics of a distillation step beside its losses."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from softdimo_jax.families.family import Family
from softdimo_jax.method import soft_embedding
from softdimo_jax.ops.chunks import map_with_positions
from softdimo_jax.training import optim
from softdimo_jax.types import Metrics, Params


def concentration(
  family: Family, teacher: Params, logits: jax.Array, chunk: int
) -> Metrics:
  """How close the student is to one-hot, in the teacher's embedding space.

  Args:
    family: of the teacher.
    teacher: whole generator parameters.
    logits: [B, L, G, C] of the student over its temperature.
    chunk: positions at once, a divisor of L; 0 for all.
  """
  table = family.table(teacher)[:, :-1]

  def statistics(logits: jax.Array, _: jax.Array) -> dict[str, jax.Array]:
    codes = logits[..., : family.vocab_size]
    stats = soft_embedding.concentration(jax.nn.softmax(codes), table)
    return jax.tree.map(lambda x: x[None, None], dataclasses.asdict(stats))

  stats = map_with_positions(statistics, chunk, logits)
  return optim.prefix('student', jax.tree.map(jnp.mean, stats))


def norm_ratio(a: jax.Array, b: jax.Array) -> jax.Array:
  """Norm of a over the norm of b."""
  return optax.tree.norm(a) / jnp.maximum(optax.tree.norm(b), 1e-12)
