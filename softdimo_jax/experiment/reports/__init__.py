"""Rows, table and report of a finished run."""
