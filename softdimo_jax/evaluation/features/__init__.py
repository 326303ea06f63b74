"""Networks whose features are compared, and where these are kept."""
