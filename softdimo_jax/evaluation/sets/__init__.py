"""Image sets: reading, writing, and references to compare with."""
