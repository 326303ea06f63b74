"""The machine: files, devices, processes, checkpoints, signals."""
