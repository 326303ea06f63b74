"""Whether a step fits a machine, and what it would cost there."""
