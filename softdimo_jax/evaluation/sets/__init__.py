"""Sets of images: read, written, compared with."""
