"""Ways to change input files: harmless ones, and ones that end their meaning.

A change gets the path of a file and random numbers, and writes the file anew.
Changes that leave another valid meaning, such as another letter in a prompt,
are not here: nobody can notice them.
"""

import copy
import csv
import gzip
import io
import json
import pathlib
import random
from collections.abc import Callable

Change = Callable[[pathlib.Path, random.Random], None]


def bytes_change(change: Callable[[bytes, random.Random], bytes]) -> Change:
  return lambda path, rng: (
    path.write_bytes(change(path.read_bytes(), rng)) and None
  )


def flipped(data: bytes, rng: random.Random) -> bytes:
  changed = bytearray(data)
  changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  return bytes(changed)


# Of text files.
KEEPS_TEXT = {
  'a byte order mark': bytes_change(lambda data, _: b'\xef\xbb\xbf' + data),
  'CRLF': bytes_change(lambda data, _: data.replace(b'\n', b'\r\n')),
  'CR': bytes_change(lambda data, _: data.replace(b'\n', b'\r')),
  'line ends': bytes_change(
    lambda data, rng: data.rstrip(b'\n') + b'\n' * rng.randrange(4)
  ),
}
NO_TEXT = {
  'nothing': bytes_change(lambda data, _: b''),
  'UTF-16': bytes_change(lambda data, _: data.decode().encode('utf-16')),
  'Latin-1': bytes_change(
    lambda data, rng: _inserted(data, rng, 'größe'.encode('latin-1'))
  ),
  'a zero byte': bytes_change(lambda data, rng: _inserted(data, rng, b'\0')),
  'zeros': bytes_change(
    lambda data, rng: data[: rng.randrange(len(data))] + b'\0' * 64
  ),
  'gzip': bytes_change(lambda data, _: gzip.compress(data)),
  'a page': bytes_change(lambda data, _: b'<!DOCTYPE html><html>404</html>\n'),
  'a pointer': bytes_change(
    lambda data, _: (
      b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n'
    )
  ),
  'no file': lambda path, _: path.unlink(),
  'a folder': lambda path, _: _as_folder(path),
}
# Of files whose contents are checked as a whole.
HURT = {
  'a flipped bit': bytes_change(flipped),
  'a truncation': bytes_change(
    lambda data, rng: data[: rng.randrange(len(data))]
  ),
  'a hole': bytes_change(lambda data, rng: _hole(data, rng)),
  'nothing': NO_TEXT['nothing'],
}
BROKEN = HURT | {'no file': NO_TEXT['no file']}


def _as_folder(path: pathlib.Path) -> None:
  path.unlink()
  path.mkdir()


def _inserted(data: bytes, rng: random.Random, new: bytes) -> bytes:
  """`new` at a random place between two letters."""
  place = rng.choice([i for i, x in enumerate(data) if x < 128])
  return data[:place] + new + data[place:]


def _hole(data: bytes, rng: random.Random) -> bytes:
  start = rng.randrange(len(data))
  stop = min(len(data), start + 1 + rng.randrange(512))
  return data[:start] + b'\0' * (stop - start) + data[stop:]


def json_change(change: Callable[[list, random.Random], None]) -> Change:
  """Of the records of a file: JSON lines, a list, or one object."""

  def apply(path: pathlib.Path, rng: random.Random) -> None:
    text = path.read_text('utf-8')
    lines = path.suffix == '.jsonl'
    value = (
      [json.loads(x) for x in text.splitlines()] if lines else json.loads(text)
    )
    records = value if isinstance(value, list) else [value]
    change(records, rng)
    if lines:
      path.write_text(''.join(json.dumps(x) + '\n' for x in records))
    else:
      path.write_text(
        json.dumps(value if isinstance(value, list) else records[0])
      )

  return apply


def written_json(dump: Callable[[object], str]) -> Change:
  """The same JSON, written in another way."""

  def apply(path: pathlib.Path, rng: random.Random) -> None:
    text = path.read_text('utf-8')
    if path.suffix == '.jsonl':
      lines = [dump(json.loads(x)) for x in text.splitlines()]
      path.write_text('\n'.join(lines) + '\n', 'utf-8')
    else:
      path.write_text(dump(json.loads(text)), 'utf-8')

  return apply


KEEPS_JSON = {
  'sorted keys': written_json(lambda x: json.dumps(x, sort_keys=True)),
  'no escapes': written_json(lambda x: json.dumps(x, ensure_ascii=False)),
  'no spaces': written_json(lambda x: json.dumps(x, separators=(',', ':'))),
}


def _cut_json(data: bytes, rng: random.Random) -> bytes:
  """Ends within an object or a list, not between two."""
  end = rng.choice([i for i, x in enumerate(data) if x in b':,'])
  return data[: end + 1]


NO_JSON = NO_TEXT | {
  'a cut': bytes_change(_cut_json),
  'a comma': bytes_change(
    lambda data, _: data.rstrip()[:-1] + b',' + data.rstrip()[-1:]
  ),
  'single quotes': bytes_change(lambda data, _: data.replace(b'"', b"'")),
  'depth': bytes_change(lambda data, _: b'[' * 100_000),
}


def twice(key: str) -> Change:
  """An object that has a key twice."""

  def apply(path: pathlib.Path, rng: random.Random) -> None:
    name = json.dumps(key)
    pieces = path.read_text('utf-8').split(f'{name}:')
    place = rng.randrange(1, len(pieces))
    pieces[place] = f' null, {name}:{pieces[place]}'
    path.write_text(f'{name}:'.join(pieces), 'utf-8')

  return apply


def at(*keys: str | int, values: list) -> Change:
  """Another value at a path of keys, '*' for any; `...` takes it away."""

  def change(records: list, rng: random.Random) -> None:
    places = _places(records, keys)
    owner, key = rng.choice(places)
    value = rng.choice(values)
    if value is ...:
      del owner[key]
    else:
      owner[key] = copy.deepcopy(value)

  return json_change(change)


def _places(value, keys) -> list:
  """(owner, key) of every value at the path."""
  key, *rest = keys
  if not isinstance(value, list | dict):
    return []
  if key == '*':
    found = range(len(value)) if isinstance(value, list) else list(value)
  else:
    there = key < len(value) if isinstance(value, list) else key in value
    found = [key] if there else []
  if not rest:
    return [(value, x) for x in found]
  return [place for x in found for place in _places(value[x], rest)]


NO_NUMBERS = [float('nan'), float('inf'), float('-inf'), None, 'many', [1], {}]


def table_change(
  change: Callable[[list[list[str]], random.Random], None],
  quoting: int = csv.QUOTE_MINIMAL,
) -> Change:
  """Of the rows of a .csv or .tsv file, the header included."""

  def apply(path: pathlib.Path, rng: random.Random) -> None:
    delimiter = '\t' if path.suffix == '.tsv' else ','
    rows = list(
      csv.reader(io.StringIO(path.read_text('utf-8')), delimiter=delimiter)
    )
    change(rows, rng)
    text = io.StringIO()
    csv.writer(
      text, delimiter=delimiter, quoting=quoting, lineterminator='\n'
    ).writerows(rows)
    path.write_text(text.getvalue(), 'utf-8')

  return apply


def _with_column(rows: list[list[str]], rng: random.Random) -> None:
  place = rng.randrange(2)
  for number, row in enumerate(rows):
    row.insert(place, str(number) if number else 'aesthetics')


def _reversed_columns(rows: list[list[str]], rng: random.Random) -> None:
  for row in rows:
    row.reverse()


def _upper_header(rows: list[list[str]], rng: random.Random) -> None:
  rows[0] = [x.upper() for x in rows[0]]


KEEPS_TABLE = {
  'another column': table_change(_with_column),
  'quotes': table_change(lambda rows, _: None, csv.QUOTE_ALL),
  'reversed columns': table_change(_reversed_columns),
  'an upper-case header': table_change(_upper_header),
}
NO_TABLE = NO_TEXT | {
  'a short row': table_change(lambda rows, rng: rng.choice(rows[1:]).pop()),
  'a long row': table_change(lambda rows, rng: rng.choice(rows).append('')),
  'no header': table_change(lambda rows, _: rows.pop(0)),
  'a double header': table_change(
    lambda rows, _: [x.append(x[0]) for x in rows]
  ),
  'only the header': table_change(
    lambda rows, _: rows.__delitem__(slice(1, None))
  ),
  'an open quote': bytes_change(lambda data, _: data.replace(b'\n', b'\n"', 1)),
}
