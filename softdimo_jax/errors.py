"""Mistakes a user can mend: reported as one sentence, without a traceback."""

USER_ERROR_CODE = 2
PREEMPTED_CODE = 75  # EX_TEMPFAIL: run the same command again
LOST_CODE = 76  # EX_PROTOCOL: another process of the run has gone


class UserError(Exception):
  """Says in one sentence what is wrong and what to do."""


class Preempted(Exception):
  """The run saved its state after a signal and can be continued."""
