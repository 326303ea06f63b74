"""Prompts, and the token ids of texts."""
