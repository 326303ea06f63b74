"""Says how many prompts are longer than what a text tower reads."""

from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from softdimo_jax.data.prompts.text_tokens import TextTokens


def warn_of_cut(num_cut: int, count: int, length: int, reader: str) -> None:
  """Warns if prompts were truncated.

  Args:
    num_cut: number of truncated prompts.
    count: number of all prompts.
    length: number of tokens that the reader takes.
    reader: the text tower, in words.
  """
  if num_cut:
    logging.warning(
      '%d of %d prompts are longer than the %d tokens that %s reads; they are '
      'truncated',
      *(num_cut, count, length, reader),
    )


def counted(
  tokenize: Callable[[Sequence[str]], TextTokens], reader: str
) -> Callable[[Sequence[str]], np.ndarray]:
  """A function from prompts to token ids int32 [B, T] that warns.

  In training, which tokenizes batch by batch, it warns of all prompts so far
  whenever the number of truncated ones has doubled.
  """
  seen, cut, said = 0, 0, 0

  def ids(texts: Sequence[str]) -> np.ndarray:
    nonlocal seen, cut, said
    tokens = tokenize(texts)
    seen, cut = seen + len(texts), cut + int(tokens.cut.sum())
    if cut >= max(1, 2 * said):
      said = cut
      warn_of_cut(cut, seen, tokens.ids.shape[1], reader)
    return tokens.ids

  return ids
