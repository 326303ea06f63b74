"""Our networks and functions against the official ones, array by array.

A fixture is NAME.json (what official class, its configuration, its state dict
by names and shapes) and NAME.npz (inputs, random draws and outputs of the
official implementation with weights by rule). One file a family computes all
arrays of its fixtures from the inputs; nothing but the configuration tells it
sizes and options.

  python -m softdimo_jax.parity FOLDER [--only=NAME]
"""
