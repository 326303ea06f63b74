"""Published benchmarks, and judges of this package's data sets."""
