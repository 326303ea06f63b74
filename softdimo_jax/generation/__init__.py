"""Tokens and images from trained parameters."""
