"""Stages, their state and optimisers, and the training loop."""
