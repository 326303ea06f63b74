"""Rates of duplicate token sequences, among samples and of training data."""

import numpy as np


def exact_copy_rate(tokens: np.ndarray, reference_tokens: np.ndarray) -> float:
  """Share of generated token sequences that occur in the training set.

  Args:
    tokens: int [N, ...], generated; each sample is compared as a flat sequence.
    reference_tokens: int [M, ...], of the training images.

  Returns:
    A share in [0, 1].

  Raises:
    ValueError: on non-integer tokens, no tokens, or different lengths.
  """
  sequences = _sequences(tokens)
  references = _sequences(reference_tokens)
  if len(sequences[0]) != len(references[0]):
    raise ValueError(
      f'token sequences differ in shape: {np.shape(tokens)[1:]} and'
      f' {np.shape(reference_tokens)[1:]}'
    )
  known = set(references)
  return sum(sequence in known for sequence in sequences) / len(sequences)


def unique_rate(tokens: np.ndarray) -> float:
  """Number of distinct token sequences over N, in (0, 1].

  Args:
    tokens: int [N, ...]; each sample is compared as a flat sequence.

  Raises:
    ValueError: on non-integer tokens or no tokens.
  """
  sequences = _sequences(tokens)
  return len(set(sequences)) / len(sequences)


def _sequences(tokens: np.ndarray) -> list[bytes]:
  """Each sample's tokens as bytes, comparable across integer types."""
  tokens = np.asarray(tokens)
  if not np.issubdtype(tokens.dtype, np.integer):
    raise ValueError(f'tokens must be integers, got {tokens.dtype}')
  if tokens.ndim < 2 or tokens.size == 0:
    raise ValueError(f'tokens must be [N, ...] with N > 0, got {tokens.shape}')
  rows = tokens.reshape(len(tokens), -1).astype(np.int64)
  return [row.tobytes() for row in rows]
