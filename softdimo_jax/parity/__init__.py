"""Compares our networks and functions with the official ones, array by array.

A fixture is NAME.json (official class, configuration, names and shapes of the
state dict) and NAME.npz (inputs, random draws and outputs of the official
implementation with synthetic weights). One file per family computes all arrays
of its fixtures from the inputs; sizes and options come from the configuration
alone.

  python -m softdimo_jax.parity FOLDER [--only=NAME]
"""
