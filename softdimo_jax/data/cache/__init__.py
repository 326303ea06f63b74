"""Tokens and text features on disk."""
