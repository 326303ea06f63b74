"""Operations of a step by count: matrix products only, two a multiplication.

XLA's own count takes the body of a loop over layers once, so it cannot serve.
"""

import dataclasses

from ml_collections import ConfigDict

# Peak of dense bfloat16 products, by what `device_kind` begins with
# (manufacturers' data sheets). A CPU's is measured.
_PEAKS = {
  'TPU v4': 275e12,
  'TPU v5 lite': 197e12,
  'TPU v5p': 459e12,
  'TPU v5': 459e12,
  'TPU v6 lite': 918e12,
  'NVIDIA A100': 312e12,
  'NVIDIA H100': 989e12,
  'NVIDIA H200': 989e12,
}


@dataclasses.dataclass(frozen=True)
class Passes:
  """Passes through a generator in one step; backward ones count apart."""

  forward: int
  backward: int

  @property
  def equivalent(self) -> int:
    """Forward passes of the same work: a backward one is two."""
    return self.forward + 2 * self.backward


def dimo_passes(distillation: ConfigDict) -> Passes:
  """Of a Di[M]O step without GAN or reward.

  Student and auxiliary go forward and backward, the teacher once or, guided,
  twice; with a fresh sample both networks go forward once more.
  """
  teacher = 1 if distillation.guidance_scale == 1 else 2
  extra = 2 if distillation.auxiliary.fresh_sample else 0
  return Passes(2 + teacher + extra, 2)


def maskgit_forward(generator: ConfigDict) -> int:
  """One forward pass of MaskGit for one image."""
  width, length = generator.width, generator.length + 1  # the class token
  block = 4 * width**2 + 2 * width * generator.mlp_width
  attention = 2 * length * width  # a position: scores, and what they weigh
  layers = generator.depth * (block + attention)
  ends = 3 * width**2
  head = generator.length * width * (generator.vocab_size + 1)
  return 2 * (length * (layers + ends) + head)


def peak(device_kind: str) -> float | None:
  """Operations a second of a device, None if it is not known."""
  for name, value in _PEAKS.items():
    if device_kind.startswith(name):
      return value
  return None
