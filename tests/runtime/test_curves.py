"""Curves."""

import json

from softdimo_jax.runtime.curves import MetricWriter, read_metrics


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
