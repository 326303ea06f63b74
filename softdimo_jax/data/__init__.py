"""Data sets and their checkpointable iterators."""
