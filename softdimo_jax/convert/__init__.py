"""Official state dicts -> parameter trees, one file a family, all strict."""
