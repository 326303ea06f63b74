"""Official constructor arguments -> options of our modules.

`config` is what the official class was built with, under its own names; the
listings of official checkpoints carry it. Arguments that only have another name
here are listed in tables, ours -> theirs.
"""

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

# Sizes as Google's and transformers' configurations call them.
BERT_SIZES = {
  'vocab_size': 'vocab_size', 'length': 'max_position_embeddings',
  'width': 'hidden_size', 'depth': 'num_hidden_layers',
  'num_heads': 'num_attention_heads', 'mlp_width': 'intermediate_size',
}  # fmt: skip


def renamed(config: Config, names: Mapping[str, str]) -> dict[str, Any]:
  """Options by their names here; `names` is ours -> theirs."""
  return {ours: config[theirs] for ours, theirs in names.items()}


def check_known(config: Config, known: Mapping[str, Any]) -> None:
  """Checks arguments that leave no trace in the weights.

  Args:
    config: of the class; absent arguments are as known.
    known: argument -> the only value that a released model has.

  Raises:
    ValueError: for another value.
  """
  for name, value in known.items():
    if config.get(name, value) != value:
      raise ValueError(f'{name} {config[name]!r} is unknown; choose {value!r}')
