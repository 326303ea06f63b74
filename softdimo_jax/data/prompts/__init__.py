"""Prompts and their token ids."""
