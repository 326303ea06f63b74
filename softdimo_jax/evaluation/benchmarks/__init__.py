"""Rules of published benchmarks and of the own judges."""
