"""Official state dicts -> parameter trees, one file per format, all strict."""
