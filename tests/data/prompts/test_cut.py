"""What a text tower does not read is said."""

import numpy as np

from softdimo_jax.data.prompts.cut import counted
from softdimo_jax.data.prompts.text_tokens import TextTokens


def test_truncated_prompts_are_counted_over_all_calls(caplog):
  def tokenize(texts):
    ids = np.zeros((len(texts), 4), np.int32)
    return TextTokens(ids, ids > 0, np.array([len(x) > 4 for x in texts]))

  ids = counted(tokenize, 'the reward x')
  assert ids(['short', 'yes']).shape == (2, 4)
  assert '1 of 2 prompts are longer than the 4 tokens' in caplog.text
  caplog.clear()
  ids(['yes'])
  assert not caplog.messages
  ids(['longer'])
  assert '2 of 4 prompts' in caplog.text and 'the reward x' in caplog.text
