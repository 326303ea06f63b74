"""Curves."""

import errno
import json
import os

import pytest

from softdimo_jax.errors import UserError
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


@pytest.mark.parametrize('rest', ['\0\0\0', 'null\n', '7\n', '{}\n', '\xff'])
def test_a_damaged_line_and_all_after_it_are_left_out(rest, tmp_path):
  path = tmp_path / 'metrics.jsonl'
  text = json.dumps({'step': 1, 'loss': 2.0}) + '\n' + rest
  path.write_bytes(text.encode('latin-1') + b'\n{"step": 3}\n')
  assert [row['step'] for row in read_metrics(path)] == [1]


def test_a_full_disk_is_said_with_its_path_and_nothing_is_lost(
  tmp_path, monkeypatch
):
  writer = MetricWriter(tmp_path, first_step=0)
  writer.write_scalars(5, {'loss': 1.0})
  with monkeypatch.context() as patch:

    def full(*_, **__):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(type(tmp_path), 'open', full)
    with pytest.raises(UserError, match=r'metrics.jsonl cannot be written'):
      writer.flush()
  writer.close()
  assert read_metrics(tmp_path / 'metrics.jsonl') == [{'step': 5, 'loss': 1.0}]
