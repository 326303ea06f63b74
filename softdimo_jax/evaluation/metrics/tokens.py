"""How many generated token strings are copies, of data or each other."""

import numpy as np


def exact_copy_rate(tokens: np.ndarray, reference_tokens: np.ndarray) -> float:
  """Share of token strings that equal one of the training set.

  Args:
    tokens: int [N, ...], generated; compared as flat strings.
    reference_tokens: int [M, ...], of the training images.

  Returns:
    A share in [0, 1].

  Raises:
    ValueError: on non-integer tokens, no tokens, or different lengths.
  """
  strings = _token_strings(tokens)
  references = _token_strings(reference_tokens)
  if len(strings[0]) != len(references[0]):
    raise ValueError(
      f'token strings differ in shape: {np.shape(tokens)[1:]} and'
      f' {np.shape(reference_tokens)[1:]}'
    )
  known = set(references)
  return sum(string in known for string in strings) / len(strings)


def unique_rate(tokens: np.ndarray) -> float:
  """Number of different token strings over the number of all, in (0, 1].

  Args:
    tokens: int [N, ...]; compared as flat strings.

  Raises:
    ValueError: on non-integer tokens or no tokens.
  """
  strings = _token_strings(tokens)
  return len(set(strings)) / len(strings)


def _token_strings(tokens: np.ndarray) -> list[bytes]:
  """Token rows as bytes, comparable whatever their integer type was."""
  tokens = np.asarray(tokens)
  if not np.issubdtype(tokens.dtype, np.integer):
    raise ValueError(f'tokens must be integers, got {tokens.dtype}')
  if tokens.ndim < 2 or tokens.size == 0:
    raise ValueError(f'tokens must be [N, ...] with N > 0, got {tokens.shape}')
  rows = tokens.reshape(len(tokens), -1).astype(np.int64)
  return [row.tobytes() for row in rows]
