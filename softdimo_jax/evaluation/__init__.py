"""Scores of image sets, and the tables and pages that show them."""
