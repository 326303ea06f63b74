"""A workdir and what follows from it: configuration, stages, reports."""
