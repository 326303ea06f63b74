"""Memory and network traffic of a compiled program, read from its HLO text.

XLA's cost analysis counts the body of a loop once; here it is multiplied by the
number of iterations.
"""

import collections
import dataclasses
import math
import re

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
# Instructions that name or arrange buffers without moving data.
_FREE = frozenset({
  'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while',
  'conditional', 'call', 'after-all', 'partition-id', 'replica-id', 'iota',
  'opt-barrier', 'bitcast-convert', 'async-start', 'async-update',
  'async-done', 'get-dimension-size',
})  # fmt: skip
_BITS = {
  'pred': 8, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16, 'u16': 16,
  'bf16': 16, 'f16': 16, 's32': 32, 'u32': 32, 'f32': 32, 's64': 64,
  'u64': 64, 'f64': 64, 'c64': 64,
}  # fmt: skip
# Marks a memory space other than HBM in TPU layouts.
_ON_CHIP = 'S('
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$')
_INSTRUCTION = re.compile(
  r'^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$'
)
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\](\{[^}]*\})?')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(
  r'(?:body|to_apply|calls|called_computations)=\{?%?([\w.\-]+)'
)
_CONDITION = re.compile(r'condition=%?([\w.\-]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Bytes moved per chip in one run of a program.

  Attributes:
    memory: bytes from and to HBM, if every instruction reads its operands from
      HBM and writes its result there, except for buffers that the compiler
      placed elsewhere. For slices and in-place updates, only the slice counts.
    collectives: bytes between chips by kind: results of all-gathers, operands
      of the others.
  """

  memory: int
  collectives: dict[str, int]


@dataclasses.dataclass
class _Instruction:
  name: str
  opcode: str
  bytes: int  # size of the result
  in_hbm: int  # size of the part of the result that is in HBM
  rest: str

  @property
  def operands(self) -> list[str]:
    return re.findall(r'%([\w.\-]+)', self.rest.split('), ')[0])


def traffic(text: str) -> Traffic:
  """Traffic of a compiled module, from its text."""
  entry, computations = _parse(text)
  memory, collectives = 0, collections.Counter()

  def visit(name: str, times: int) -> None:
    nonlocal memory
    instructions = computations[name]
    sizes = {item.name: item.bytes for item in instructions}
    in_hbm = {item.name: item.in_hbm for item in instructions}
    for item in instructions:
      kind = _collective(item.opcode)
      if kind is not None:
        collectives[kind] += times * _moved(item, kind, sizes)
      if item.opcode not in _FREE and not item.opcode.endswith('-done'):
        memory += times * _touched(item, in_hbm, computations)
      inside = times * _trips(item, computations)
      for called in _called(item):
        if item.opcode in ('while', 'call', 'conditional', 'async-start'):
          visit(called, inside)
        else:
          count_collectives(called, inside)

  def count_collectives(name: str, times: int) -> None:
    """Counts fused computations, whose buffers never reach HBM."""
    instructions = computations.get(name, [])
    sizes = {item.name: item.bytes for item in instructions}
    for item in instructions:
      kind = _collective(item.opcode)
      if kind is not None:
        collectives[kind] += times * _moved(item, kind, sizes)
      for called in _called(item):
        count_collectives(called, times)

  visit(entry, 1)
  return Traffic(memory, dict(collectives))


def _parse(text: str) -> tuple[str, dict[str, list[_Instruction]]]:
  entry, computations, current = '', {}, []
  for line in text.splitlines():
    start = _COMPUTATION.match(line)
    if start:
      current = computations[start[2]] = []
      entry = start[2] if start[1] else entry
      continue
    instruction = _INSTRUCTION.match(line)
    if instruction:
      name, result, opcode, rest = instruction.groups()
      arrays = [
        (_size(dtype, shape), _ON_CHIP in layout)
        for dtype, shape, layout in _ARRAY.findall(result)
      ]
      size = sum(size for size, _ in arrays)
      in_hbm = sum(size for size, on_chip in arrays if not on_chip)
      current.append(_Instruction(name, opcode, size, in_hbm, rest))
  return entry, computations


def _size(dtype: str, shape: str) -> int:
  count = math.prod(map(int, shape.split(','))) if shape else 1
  bits = _BITS.get(dtype, 8 if dtype.startswith('f8') else 0)
  return count * bits // 8


def _collective(opcode: str) -> str | None:
  kind = opcode.removesuffix('-start')
  return kind if kind in COLLECTIVES else None


def _moved(item: _Instruction, kind: str, sizes: dict[str, int]) -> int:
  read = sum(sizes.get(operand, 0) for operand in item.operands)
  if kind == 'all-gather':
    # The result of an asynchronous start contains its operands as well.
    return item.bytes - (read if item.opcode.endswith('-start') else 0)
  return read


def _touched(
  item: _Instruction,
  in_hbm: dict[str, int],
  computations: dict[str, list[_Instruction]],
) -> int:
  """Bytes of HBM that an instruction reads and writes."""
  operands = [in_hbm.get(operand, 0) for operand in item.operands]
  if item.opcode == 'copy-start':
    return item.in_hbm  # its result contains source and destination
  if item.opcode == 'slice-start':
    written = item.in_hbm - operands[0]
    return written + item.bytes - operands[0]
  if item.opcode in ('dynamic-slice', 'gather', 'slice'):
    return item.in_hbm + min(item.bytes, operands[0])
  if item.opcode == 'dynamic-update-slice':
    return 2 * in_hbm.get(item.operands[1], 0)
  if item.opcode != 'fusion':
    return item.in_hbm + sum(operands)
  inside = computations.get(_called(item)[0], [])
  read = sum(
    min(size, _sliced(inside, index, size, computations))
    for index, size in enumerate(operands)
  )
  return read + min(item.in_hbm, _updated(inside, item.in_hbm))


def _sliced(
  inside: list[_Instruction],
  index: int,
  size: int,
  computations: dict[str, list[_Instruction]],
) -> int:
  """Bytes that a fusion reads of its operand number `index`."""
  names = {
    item.name
    for item in inside
    if item.opcode == 'parameter' and item.rest.startswith(f'{index})')
  }
  total = 0
  for user in inside:
    if not names & set(user.operands):
      continue
    if user.opcode == 'bitcast':
      names.add(user.name)
    elif user.opcode in ('dynamic-slice', 'gather', 'slice'):
      total += user.bytes
    elif user.opcode == 'fusion':
      deeper = computations[_called(user)[0]]
      total += sum(
        _sliced(deeper, position, size, computations)
        for position, operand in enumerate(user.operands)
        if operand in names
      )
    elif user.opcode != 'dynamic-update-slice' or user.operands[0] not in names:
      return size
  return total


def _updated(inside: list[_Instruction], size: int) -> int:
  """Bytes that a fusion writes; in-place updates count the update only."""
  if not inside:
    return size
  by_name = {item.name: item for item in inside}

  def written(item: _Instruction) -> int:
    first = by_name.get(item.operands[0]) if item.operands else None
    if item.opcode == 'bitcast' and first is not None:
      return written(first)
    if item.opcode == 'dynamic-update-slice':
      return by_name[item.operands[1]].bytes
    return item.bytes

  root = inside[-1]
  if root.opcode == 'tuple':
    return sum(written(by_name[name]) for name in root.operands)
  return written(root)


def _trips(
  item: _Instruction, computations: dict[str, list[_Instruction]]
) -> int:
  """Iterations of a loop: annotated, or the bound of its counter."""
  if item.opcode != 'while':
    return 1
  annotated = _TRIPS.search(item.rest)
  if annotated:
    return int(annotated[1])
  condition = _CONDITION.search(item.rest)
  found = _constants(condition[1], computations) if condition else ()
  return max(found, default=1)


def _constants(
  name: str, computations: dict[str, list[_Instruction]]
) -> list[int]:
  """Integer constants of a computation and of those that it calls."""
  constants = []
  for item in computations.get(name, []):
    number = re.match(r'(\d+)\)', item.rest)
    if item.opcode == 'constant' and number:
      constants.append(int(number[1]))
    for called in _called(item):
      constants += _constants(called, computations)
  return constants


def _called(item: _Instruction) -> list[str]:
  branches = _BRANCHES.search(item.rest)
  if branches:
    return re.findall(r'%?([\w.\-]+)', branches[1])[:1]
  return _CALLED.findall(item.rest)
