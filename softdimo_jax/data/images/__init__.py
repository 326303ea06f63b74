"""Labelled images from files and data sets."""
