"""Flags for released networks, shared by the commands that score images."""

from absl import flags

from softdimo_jax.runtime import flag_types

flags.disclaim_key_flags()  # --help lists the flags under the command.


def weights(
  flag: str, network: str, default: str = ''
) -> flags.FlagHolder[str]:
  """Defines the flag for the weights of a network, see `convert.weights`."""
  return flag_types.path(
    flag,
    default,
    f'Weights of {network}: converted folder, official file, Hub id, or '
    "'rule' for synthetic weights.",
  )


def clip_vocabulary() -> flags.FlagHolder[str]:
  """Defines --clip_vocabulary."""
  return flag_types.path(
    'clip_vocabulary',
    'openai',
    "Vocabulary of CLIP: 'openai' (included), a folder, a Hub id, or 'rule' "
    'for a synthetic one.',
  )
