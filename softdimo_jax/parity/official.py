"""Official constructor arguments -> options of our modules.

`config` has the arguments of the official class, under its own names; listings
of official checkpoints contain it. Tables, ours -> theirs, list the arguments
that differ only in name.
"""

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

# Names of sizes in Google's and transformers' configurations.
BERT_SIZES = {
  'vocab_size': 'vocab_size', 'length': 'max_position_embeddings',
  'width': 'hidden_size', 'depth': 'num_hidden_layers',
  'num_heads': 'num_attention_heads', 'mlp_width': 'intermediate_size',
}  # fmt: skip


def renamed(config: Config, names: Mapping[str, str]) -> dict[str, Any]:
  """Options under our names; `names` is ours -> theirs."""
  return {ours: config[theirs] for ours, theirs in names.items()}


def check_known(config: Config, known: Mapping[str, Any]) -> None:
  """Checks arguments that leave no trace in the weights.

  Args:
    config: arguments of the class; absent ones have the known value.
    known: argument -> its only value in released models.

  Raises:
    ValueError: if an argument has another value.
  """
  for name, value in known.items():
    if config.get(name, value) != value:
      raise ValueError(f'{name} {config[name]!r} is unknown; choose {value!r}')
