"""Images of files and data sets."""
