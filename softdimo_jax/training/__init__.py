"""Stages, state, optimisation, checkpoints and the one training loop."""
