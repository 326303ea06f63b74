"""The papers as pure functions of arrays: no networks, no files."""
