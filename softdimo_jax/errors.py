"""Exit codes, and errors that are reported in one sentence."""

USER_ERROR_CODE = 2
PREEMPTED_CODE = 75  # EX_TEMPFAIL: run the same command again
LOST_CODE = 76  # EX_PROTOCOL: another process of the run died


class UserError(Exception):
  """A mistake that the user can fix; says what is wrong and what to do."""


class Preempted(Exception):
  """The run saved its state after a signal and can be resumed."""
