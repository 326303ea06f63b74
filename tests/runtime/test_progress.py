"""Progress lines."""

import io

from softdimo_jax.runtime.progress import Progress


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
  # One report is not enough to measure a speed.
  assert '/s' not in stream.getvalue()
