"""Linen modules and nothing else."""
