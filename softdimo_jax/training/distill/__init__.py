"""The update of a distillation, one file per term."""
