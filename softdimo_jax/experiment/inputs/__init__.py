"""What the stages of a run read, one file a regime."""
