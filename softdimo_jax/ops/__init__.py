"""General numerics that belong to neither paper."""
