"""The update of a distillation, one file a term."""
