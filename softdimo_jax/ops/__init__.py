"""Numerics that are nobody's paper."""
