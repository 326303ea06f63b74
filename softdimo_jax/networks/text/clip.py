"""CLIP's text tower (Radford et al. 2021), for Meissonic and MaskGen.

Official classes: `CLIPTextModelWithProjection` of transformers, and the text
half of open_clip's `CLIP`, which bytedance/1d-tokenizer reads through
`modeling/maskgen.py:open_clip_text_encoding`. Both compute the same. Only
transformers can mask padding, and only on request; otherwise padding is
attended to. In CLIP's vocabulary padding follows the end of the text, so it
does not change the row of the end token.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.networks.towers import TextTower


@flax.struct.dataclass
class TextOutput:
  """Features of a batch of prompts.

  Attributes:
    hidden: [depth + 1, B, T, D], the embedded tokens and the output of every
      block, before the final norm.
    final: [B, T, D], output of the last block after the final norm: the text
      guidance of TA-TiTok.
    end: int32 [B], position of the end-of-text token.
    pooled: float32 [B, P], projection of `final` at `end`.
  """

  hidden: jax.Array
  final: jax.Array
  end: jax.Array
  pooled: jax.Array

  @property
  def penultimate(self) -> jax.Array:
    """Output of the second-to-last block, [B, T, D]: the states of prompts.

    They are Meissonic's `encoder_hidden_states` and MaskGen's `condition`.
    """
    return self.hidden[-2]


class CLIPTextTower(TextTower):
  """Causal pre-norm transformer over token ids; defaults are ViT-H/14's.

  Attributes:
    projection_width: width of the pooled features, P.
    activation: 'gelu' (erf; LAION's weights) or 'quick_gelu' (OpenAI's).
    end_token: id whose first occurrence ends a prompt; None for the largest id
      in the prompt, which is the same in CLIP's vocabulary.
    attention: see `transformer.SelfAttention`.
  """

  projection_width: int = 1024
  activation: str = 'gelu'
  end_token: int | None = None
  attention: layers.Attention = 'xla'

  @nn.compact
  def __call__(
    self, ids: jax.Array, mask: jax.Array | None = None
  ) -> TextOutput:
    """Features of token ids.

    Args:
      ids: int [B, T], T <= length, padded as in training.
      mask: bool [B, T], False at positions hidden from all, True at the first;
        None hides nothing.

    Returns:
      TextOutput; `hidden` and `final` have dtype `dtype`.

    Raises:
      ValueError: if T > length.
    """
    x = self.embedded(ids, nn.initializers.normal(0.01)).astype(self.dtype)
    blocks = self.blocks(
      activation=self.activation,
      causal=True,
      attention=self.attention,
      name='layers',
    )
    last, outputs = blocks(x, mask)
    final = layers.LayerNorm(self.epsilon, self.dtype, name='final_norm')(last)
    end = self._end(ids)
    projection = self.param(
      'projection',
      nn.initializers.normal(self.width**-0.5),
      (self.width, self.projection_width),
    )
    pooled = final[jnp.arange(len(ids)), end]
    return TextOutput(
      hidden=jnp.concatenate([x[None], outputs]),
      final=final,
      end=end,
      pooled=layers.matmul_2d(pooled, projection, self.dtype).astype(
        jnp.float32
      ),
    )

  def _end(self, ids: jax.Array) -> jax.Array:
    scores = ids if self.end_token is None else ids == self.end_token
    return scores.argmax(-1).astype(jnp.int32)
