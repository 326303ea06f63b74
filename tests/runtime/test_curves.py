"""Curves and progress lines."""

import io
import json

from softdimo_jax.runtime.curves import MetricWriter, Progress, read_metrics


def test_lines_after_the_restored_step_are_dropped(tmp_path):
  writer = MetricWriter(tmp_path, first_step=0)
  for step in (5, 10, 15):
    writer.write_scalars(step, {'loss': float(step)})
  writer.close()
  writer = MetricWriter(tmp_path, first_step=10)
  writer.write_scalars(15, {'loss': 0.5})
  writer.close()
  rows = read_metrics(tmp_path / 'metrics.jsonl')
  assert [row['step'] for row in rows] == [5, 10, 15]
  assert rows[-1]['loss'] == 0.5
  assert any((tmp_path / 'tensorboard').iterdir())


def test_line_cut_short_by_a_kill_is_left_out(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(json.dumps({'step': 1, 'loss': 2.0}) + '\n{"step": 2, "lo')
  assert read_metrics(path) == [{'step': 1, 'loss': 2.0}]
  MetricWriter(tmp_path, first_step=1).close()
  assert path.read_text().count('\n') == 1


def test_progress_ends_with_a_line_and_counts_from_the_resumed_step():
  stream = io.StringIO()
  progress = Progress('teacher', 100, 200, stream, period=1e9)
  progress.update(110, {'loss': 1.0})
  assert stream.getvalue() == ''
  progress.update(200, {'loss': 0.25})
  line = stream.getvalue()
  assert '200/200 100%' in line and 'loss 0.25' in line
  assert line.endswith('\n') and '\r' not in line


def test_progress_on_a_terminal_is_one_live_line():
  stream = io.StringIO()
  stream.isatty = lambda: True
  progress = Progress('dimo', 0, 4, stream)
  progress.update(4, {})
  assert stream.getvalue().startswith('\r') and '4/4' in stream.getvalue()
  # Of a speed nothing is known after one report.
  assert '/s' not in stream.getvalue()
