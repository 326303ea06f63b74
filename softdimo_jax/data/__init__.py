"""Data sets and iterators with a saved position."""
