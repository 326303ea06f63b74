"""Kills, signals and damage at random moments; nothing may come of them.

  python -m tests.faults.kills --kills=50 --terms=20 --flips=10 --out=DIR

Every interruption of a run is followed by the same command. Once the run has
ended, its parameters, curves and results are compared, bit by bit, with those
of a run that nobody touched. Damage is one flipped bit or one truncation in a
random file of a finished run's checkpoints or parameters. Prints a Markdown
table, and exits with 1 if anything differs. The random moments follow from
--seed, up to the speed of the machine.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np

from softdimo_jax.errors import PREEMPTED_CODE
from softdimo_jax.runtime import checkpoint
from softdimo_jax.runtime.curves import read_metrics

ROOT = pathlib.Path(__file__).parents[2]
_BEST = {'digits': 'fid', 'shapes': 'reward'}
# Wall times differ between any two runs.
_TIMES = ('images_per_second',)


@dataclasses.dataclass
class Event:
  """Something that happened to a run.

  Attributes:
    kind: 'SIGKILL', 'SIGTERM' or 'damage'.
    config: name of the configuration.
    place: what the run was doing, or the damaged file.
    seconds: from the signal to the end of the process.
    code: exit code after the signal, or of the command after the damage.
    difference: of the finished run from the untouched one; '' if none.
  """

  kind: str
  config: str
  place: str
  seconds: float
  code: int
  difference: str = ''


def command(name: str, workdir: pathlib.Path) -> list[str]:
  """A short run of all stages, with points, best states and an evaluation."""
  return [
    *(sys.executable, '-m', 'softdimo_jax.main'),
    f'--config=configs/{name}.py:tiny',
    '--config.loop.checkpoint_every=5',
    '--config.evaluation.every=7',
    '--config.evaluation.curve_images=20',
    f'--config.loop.keep_best={_BEST[name]}',
    f'--workdir={workdir}',
  ]


def start(name: str, workdir: pathlib.Path) -> subprocess.Popen:
  """Starts the command; its output is added to WORKDIR.log."""
  with workdir.with_suffix('.log').open('a') as log:
    return subprocess.Popen(
      command(name, workdir), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
    )


def finish(name: str, workdir: pathlib.Path) -> int:
  """Runs the command to its end; its exit code."""
  return start(name, workdir).wait()


def interrupt(
  name: str, workdir: pathlib.Path, number: signal.Signals, delay: float
) -> Event | None:
  """Starts the command and signals it; None if it ended before."""
  process = start(name, workdir)
  try:
    process.wait(delay)
    return None
  except subprocess.TimeoutExpired:
    pass
  place, then = doing(workdir), time.monotonic()
  process.send_signal(number)
  code = process.wait()
  if code == 0:
    return None  # it ended while the signal arrived
  return Event(number.name, name, place, time.monotonic() - then, code)


def doing(workdir: pathlib.Path) -> str:
  """What a run is doing, as its files show."""
  config = workdir / 'config.json'
  if not config.exists():
    return 'start'
  for stage in json.loads(config.read_text())['stages']:
    if not (workdir / stage / 'params').exists():
      writing = any(workdir.glob(f'{stage}/**/*.orbax-checkpoint-tmp*'))
      return f'{stage}, saving' if writing else stage
  return 'end' if (workdir / 'results.json').exists() else 'evaluation'


def difference(whole: pathlib.Path, other: pathlib.Path) -> str:
  """The first difference between two finished runs, in words; '' if none."""
  stages = json.loads((whole / 'config.json').read_text())['stages']
  for stage in stages:
    trees = [
      checkpoint.load_params(x / stage / 'params') for x in (whole, other)
    ]
    leaves = [jax.tree_util.tree_leaves_with_path(tree) for tree in trees]
    if len(leaves[0]) != len(leaves[1]):
      return f'parameters of {stage}'
    for (path, a), (_, b) in zip(*leaves, strict=True):
      if np.asarray(a).tobytes() != np.asarray(b).tobytes():
        return f'parameters of {stage}: {jax.tree_util.keystr(path)}'
    curves = [read_metrics(x / stage / 'metrics.jsonl') for x in (whole, other)]
    if repr(curves[0]) != repr(curves[1]):
      return f'curves of {stage}'
  found = [results(x) for x in (whole, other)]
  return '' if found[0] == found[1] else 'results.json'


def results(workdir: pathlib.Path) -> str:
  """results.json without wall times."""

  def cut(value: Any) -> Any:
    if isinstance(value, dict):
      return {k: cut(v) for k, v in value.items() if k not in _TIMES}
    return [cut(x) for x in value] if isinstance(value, list) else value

  return json.dumps(cut(json.loads((workdir / 'results.json').read_text())))


def interruptions(
  name: str,
  whole: pathlib.Path,
  seconds: float,
  numbers: list[signal.Signals],
  rng: random.Random,
) -> list[Event]:
  """Sends the signals to runs, and compares every run that ends."""
  events: list[Event] = []
  pending: list[Event] = []
  left, attempt = list(numbers), 0
  while left or pending:
    workdir = whole.with_name(f'interrupted{attempt}')
    if left:
      event = interrupt(name, workdir, left[0], rng.uniform(0, seconds))
      if event is not None:
        left.pop(0)
        pending.append(event)
        continue
    code = finish(name, workdir)  # Says that it is finished, if it is.
    found = difference(whole, workdir) if code == 0 else f'exit code {code}'
    for event in pending:
      event.difference = found
    if not found:
      shutil.rmtree(workdir)
    events += pending
    pending, attempt = [], attempt + 1
  return events


def damage(
  name: str, whole: pathlib.Path, number: int, rng: random.Random
) -> Event:
  """Damages a file of a copy of the run, and repeats the command."""
  workdir = whole.with_name(f'damaged{number}')
  shutil.copytree(whole, workdir)
  stages = json.loads((whole / 'config.json').read_text())['stages']
  folder = workdir / rng.choice(stages)
  if rng.random() < 0.5:
    tree = folder / 'params'
  else:  # As if it had been killed before it wrote its parameters.
    shutil.rmtree(folder / 'params')
    tree = checkpoint.newest_checkpoint(folder / 'checkpoints')
  files = sorted(x for x in tree.rglob('*') if x.is_file() and x.stat().st_size)
  path = rng.choice(files)
  data = bytearray(path.read_bytes())
  if rng.random() < 0.5:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  else:
    del data[rng.randrange(len(data)) :]
  path.write_bytes(data)
  (workdir / 'results.json').unlink()
  then = time.monotonic()
  code = finish(name, workdir)
  event = Event(
    *('damage', name, str(path.relative_to(workdir))),
    *(time.monotonic() - then, code),
  )
  event.difference = (
    difference(whole, workdir) if code == 0 else f'exit code {code}'
  )
  if not event.difference:
    shutil.rmtree(workdir)
  return event


def mistakes(event: Event, limit: float) -> str:
  """What is wrong with an event; '' if nothing is."""
  if event.difference:
    return event.difference
  # Before a command handles signals, they end it as they end any program.
  ends = (PREEMPTED_CODE, -signal.SIGTERM)
  if event.kind == 'SIGTERM' and event.code not in ends:
    return f'exit code {event.code} after SIGTERM'
  if event.kind == 'SIGTERM' and event.seconds > limit:
    return f'{event.seconds:.0f} s from SIGTERM to the end'
  return ''


def table(events: list[Event], limit: float) -> str:
  """Markdown: a row per configuration and kind."""
  groups = collections.defaultdict(list)
  for event in events:
    groups[event.config, event.kind].append(event)
  lines = [
    '| run | what | times | during | longest end/s | differing |',
    '|---|---|---:|---|---:|---:|',
  ]
  for (config, kind), group in groups.items():
    places = collections.Counter(x.place.split('/')[0] for x in group)
    shown = ', '.join(f'{k} {v}' for k, v in sorted(places.items()))
    longest = max(x.seconds for x in group)
    wrong = sum(bool(mistakes(x, limit)) for x in group)
    cells = config, kind, len(group), shown, f'{longest:.1f}', wrong
    lines.append(f'| {" | ".join(map(str, cells))} |')
  return '\n'.join(lines)


def run(options: argparse.Namespace) -> list[Event]:
  """All events, in order; each is printed."""
  rng, events = random.Random(options.seed), []
  for place, name in enumerate(options.configs):
    whole = options.out / name / 'whole'
    whole.parent.mkdir(parents=True, exist_ok=True)
    then = time.monotonic()
    assert finish(name, whole) == 0, whole.with_suffix('.log').read_text()
    seconds = time.monotonic() - then
    share = lambda count, place=place: len(
      range(place, count, len(options.configs))
    )
    numbers = [signal.SIGKILL] * share(options.kills)
    numbers += [signal.SIGTERM] * share(options.terms)
    rng.shuffle(numbers)
    events += interruptions(name, whole, seconds, numbers, rng)
    for number in range(share(options.flips)):
      events.append(damage(name, whole, number, rng))
  return events


def parse(argv: list[str] | None = None) -> argparse.Namespace:
  """Options of the command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--kills', type=int, default=2)
  parser.add_argument('--terms', type=int, default=2)
  parser.add_argument('--flips', type=int, default=2)
  parser.add_argument('--configs', nargs='+', default=list(_BEST))
  parser.add_argument('--seed', type=int, default=int.from_bytes(os.urandom(2)))
  parser.add_argument('--limit', type=float, default=30, help='seconds')
  parser.add_argument('--out', type=pathlib.Path, required=True)
  return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
  options = parse(argv)
  options.out = options.out.absolute()
  print(f'seed {options.seed}', flush=True)
  events = run(options)
  for event in events:
    print(dataclasses.asdict(event) | {'wrong': mistakes(event, options.limit)})
  print(table(events, options.limit))
  return int(any(mistakes(event, options.limit) for event in events))


if __name__ == '__main__':
  sys.exit(main())
