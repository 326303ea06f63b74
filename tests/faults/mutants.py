"""Single changes of a module's syntax tree: operators, numbers, swaps.

Left out are texts, annotations, decorators, messages of `raise` and
`strict=` of zip, none of which computes anything.
"""

import ast
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator

_OPERATORS = {
  ast.Lt: (ast.LtE, ast.Gt),
  ast.LtE: (ast.Lt, ast.GtE),
  ast.Gt: (ast.GtE, ast.Lt),
  ast.GtE: (ast.Gt, ast.LtE),
  ast.Eq: (ast.NotEq,),
  ast.NotEq: (ast.Eq,),
  ast.In: (ast.NotIn,),
  ast.NotIn: (ast.In,),
  ast.Is: (ast.IsNot,),
  ast.IsNot: (ast.Is,),
  ast.And: (ast.Or,),
  ast.Or: (ast.And,),
  ast.Add: (ast.Sub,),
  ast.Sub: (ast.Add,),
  ast.Mult: (ast.Div,),
  ast.Div: (ast.Mult,),
  ast.FloorDiv: (ast.Mult,),
  ast.Mod: (ast.FloorDiv,),
  ast.Pow: (ast.Mult,),
  ast.BitAnd: (ast.BitOr,),
  ast.BitOr: (ast.BitAnd,),
}
_PAIRS = [
  ('min', 'max'),
  ('any', 'all'),
  ('minimum', 'maximum'),
  ('argmin', 'argmax'),
  ('zeros', 'ones'),
  ('zeros_like', 'ones_like'),
  ('floor', 'ceil'),
  ('sum', 'mean'),
]
_NAMES = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}


@dataclasses.dataclass(frozen=True)
class Mutant:
  """One change of one module.

  Attributes:
    path: the module's file.
    number: place among the mutants of this file.
  """

  path: pathlib.Path
  number: int

  def change(self) -> tuple[ast.Module, int, str, str]:
    """(changed module, line, expression before, expression after)."""
    tree = _tree(self.path)
    node, change = next(itertools.islice(_changes(tree), self.number, None))
    before = ast.unparse(node)
    change()
    after = ast.unparse(node)
    return ast.fix_missing_locations(tree), node.lineno, before, after


def of_file(path: pathlib.Path) -> list[Mutant]:
  """All mutants of a file, in an order that follows from its text."""
  return [
    Mutant(path, number) for number, _ in enumerate(_changes(_tree(path)))
  ]


def _tree(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text('utf-8'))


def _changes(
  tree: ast.Module,
) -> Iterator[tuple[ast.expr, Callable[[], None]]]:
  """Yields (expression, what changes it in place)."""
  for node in _computing(tree):
    match node:
      case ast.Compare():
        for place, op in enumerate(node.ops):
          for other in _OPERATORS[type(op)]:
            yield node, _setter(node.ops, place, other())
      case ast.BoolOp() | ast.BinOp() if type(node.op) in _OPERATORS:
        for other in _OPERATORS[type(node.op)]:
          yield node, _setter(node, 'op', other())
      case ast.UnaryOp(op=ast.Not() | ast.USub()):
        # Twice is not at all.
        inner = ast.UnaryOp(node.op, node.operand)
        yield node, _setter(node, 'operand', inner)
      case ast.Constant(value=bool()):
        yield node, _setter(node, 'value', not node.value)
      case ast.Constant(value=int() | float()):
        yield node, _setter(node, 'value', _other(node.value))
      case ast.Call():
        yield from _of_call(node)


def _of_call(
  node: ast.Call,
) -> Iterator[tuple[ast.expr, Callable[[], None]]]:
  name = node.func
  if isinstance(name, ast.Name) and name.id in _NAMES:
    yield node, _setter(name, 'id', _NAMES[name.id])
  if isinstance(name, ast.Attribute) and name.attr in _NAMES:
    yield node, _setter(name, 'attr', _NAMES[name.attr])
  first = node.args[:2]
  called = ast.unparse(name)
  if (
    len(first) == 2
    and not any(isinstance(x, ast.Starred) for x in first)
    and ast.dump(first[0]) != ast.dump(first[1])
    # Their order decides nothing, or a swap is no mistake that anybody makes.
    and called not in ('isinstance', 'zip', 'min', 'max')
  ):
    yield node, _setter(node, 'args', [first[1], first[0], *node.args[2:]])


def _other(value: float) -> float:
  """Another number: 1 more, or twice as large."""
  if isinstance(value, int):
    return value + 1
  return 2 * value if value else 1.0


def _setter(owner, place, value) -> Callable[[], None]:
  if isinstance(owner, list):
    return lambda: owner.__setitem__(place, value)
  return lambda: setattr(owner, place, value)


def _computing(node: ast.AST) -> Iterator[ast.AST]:
  """The node and those below it, without what computes nothing."""
  yield node
  for name, value in ast.iter_fields(node):
    if name in ('annotation', 'returns', 'decorator_list'):
      continue
    for child in value if isinstance(value, list) else [value]:
      skipped = (
        not isinstance(child, ast.AST)
        or isinstance(child, ast.JoinedStr | ast.Raise)
        or (isinstance(child, ast.keyword) and child.arg == 'strict')
      )
      if not skipped:
        yield from _computing(child)
