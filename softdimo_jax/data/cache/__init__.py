"""On-disk caches of tokens and text features."""
