"""Machines that a step can be planned for, from published data sheets."""

import dataclasses
import math
import re


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One accelerator.

  Attributes:
    title: product name.
    memory: usable HBM in bytes.
    peak: bfloat16 FLOP/s.
    bandwidth: HBM bandwidth in bytes per second.
    link: bandwidth to other chips in bytes per second, one direction, all links
      together.
    price: on-demand list price in dollars per hour; `--price` overrides it.
    compiler: (topology name, accelerator type) in libtpu; None if the chip is
      needed to compile for it.
    cores: cores per chip in libtpu's accelerator type.
  """

  title: str
  memory: float
  peak: float
  bandwidth: float
  link: float
  price: float
  compiler: tuple[str, str] | None = None
  cores: int = 1


CHIPS = {
  'v5e': Chip(
    title='TPU v5e', memory=15.75 * 2**30, peak=197e12, bandwidth=819e9,
    link=200e9, price=1.20, compiler=('v5e', 'v5litepod'),
  ),
  'v5p': Chip(
    title='TPU v5p', memory=95.0 * 2**30, peak=459e12, bandwidth=2.765e12,
    link=600e9, price=4.20, compiler=('v5', 'v5p'), cores=2,
  ),
  'v6e': Chip(
    title='TPU v6e', memory=31.25 * 2**30, peak=918e12, bandwidth=1.638e12,
    link=448e9, price=2.70, compiler=('v6e', 'v6e'),
  ),
  'a100': Chip(
    title='NVIDIA A100 80 GB', memory=76.0 * 2**30, peak=312e12,
    bandwidth=2.039e12, link=300e9, price=3.00,
  ),
  'h100': Chip(
    title='NVIDIA H100 SXM', memory=76.0 * 2**30, peak=989e12,
    bandwidth=3.35e12, link=450e9, price=4.00,
  ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
  """Chips and their interconnect, such as v5e:16x16.

  Attributes:
    name: name as written by the user.
    chip: kind of chip.
    shape: chips along the axes of the torus; for GPUs, their number.
  """

  name: str
  chip: Chip
  shape: tuple[int, ...]

  @property
  def num_chips(self) -> int:
    """Number of chips of the whole machine."""
    return math.prod(self.shape)


def parse_topology(text: str) -> Topology:
  """Parses e.g. 'v5e:16x16', 'v5p:4x4x4' or 'h100:8'.

  Raises:
    ValueError: for an unknown chip or another format.
  """
  match = re.fullmatch(r'(\w+):(\d+(?:x\d+)*)', text)
  if match is None or match[1] not in CHIPS:
    raise ValueError(
      f'topology {text!r} is unknown; write CHIP:SHAPE, such as v5e:16x16, '
      f'v5p:4x4x4 or h100:8, where CHIP is one of {tuple(CHIPS)}'
    )
  shape = tuple(map(int, match[2].split('x')))
  chip = CHIPS[match[1]]
  axes = {'v5e': 2, 'v6e': 2, 'v5p': 3}.get(match[1], 1)
  if len(shape) != axes or 0 in shape:
    raise ValueError(
      f'topology {text!r}: the shape of {chip.title} has {axes} positive sizes'
    )
  return Topology(name=text, chip=chip, shape=shape)
