"""ImageReward (Xu et al. 2023): a head that scores BLIP's text features.

Official classes: `ImageReward` of THUDM/ImageReward over `VisionTransformer`
and `BertModel` of its models/BLIP. The text attends to the image in every
layer, so only the token ids of a prompt can be precomputed.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers, transformer
from softdimo_jax.networks.rewards.head import LinearHead
from softdimo_jax.networks.towers import ImageTower, TextTower
from softdimo_jax.ops.precision import at_least_float32


@flax.struct.dataclass
class BLIPOutput:
  """Scores of a batch of images with one prompt each.

  Attributes:
    image: [B, 1 + P, Di], image states after the final norm.
    text: [depth, B, T, D], output of every block of the text encoder.
    raw: float32 [B], output of the head.
    score: float32 [B], `raw` standardised by its mean and standard deviation
      over the official data.
  """

  image: jax.Array
  text: jax.Array
  raw: jax.Array
  score: jax.Array


class BLIPImageTower(ImageTower):
  """Pre-norm transformer over patches; defaults are ViT-L/16's.

  Unlike CLIP's, it has a patch bias and no norm before the blocks, and returns
  all positions.
  """

  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """States of images.

    Args:
      images: float [B, H, H, 3], H = `resolution`, normalised as for CLIP.

    Returns:
      `dtype` [B, 1 + P, Di]; the class token is first.

    Raises:
      ValueError: if the images have a different shape or are smaller than a
        patch.
    """
    blocks = self.blocks(attention=self.attention, name='layers')
    last, _ = blocks(self._embed(images), None)
    return layers.LayerNorm(self.epsilon, self.dtype, name='final_norm')(last)

  def _embed(self, images: jax.Array) -> jax.Array:
    """Class token and patches with positions: [B, 1 + P, Di]."""
    # The official convolution, as a matrix over flat patches.
    kernel = self.param(
      'patch_kernel', layers.torch_linear_init, self.patch_shape
    )
    bias = self.param('patch_bias', nn.initializers.zeros_init(), (self.width,))
    class_emb = self.param('class_emb', layers.normal_02, (self.width,))
    pos_emb = self.param(
      'pos_emb', layers.normal_02, (self.positions, self.width)
    )
    x = layers.matmul_2d(self.patches(images), kernel, self.dtype) + bias
    return self.with_class(x, class_emb, pos_emb)


class CrossAttention(nn.Module):
  """Attention from text to image: [B, T, D], [B, M, Di] -> [B, T, D]."""

  num_heads: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, image: jax.Array) -> jax.Array:
    width = x.shape[-1]

    def project(states: jax.Array, name: str) -> jax.Array:
      y = layers.Dense(width, self.dtype, name=name)(states)
      return transformer.split_heads(y, self.num_heads)

    query = project(x, 'query')
    query = query * query.shape[-1] ** -0.5
    key, value = project(image, 'key'), project(image, 'value')
    scores = jnp.einsum('blhd,bmhd->bhlm', query, key)
    weights = jax.nn.softmax(at_least_float32(scores)).astype(self.dtype)
    mixed = jnp.einsum('bhlm,bmhd->blhd', weights, value)
    return layers.Dense(width, self.dtype, name='out')(mixed.reshape(x.shape))


class TextBlock(nn.Module):
  """Post-norm block of BERT: self-attention, cross-attention, MLP.

  Written as the body of `nn.scan`: (x, mask, image) -> (x, x).

  Attributes:
    num_heads: attention heads.
    mlp_width: hidden width of the MLP.
    epsilon: epsilon of the norms.
    dtype: dtype of the matrix products.
  """

  num_heads: int
  mlp_width: int
  epsilon: float
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, mask: jax.Array | None, image: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    """Output of the block, twice.

    Args:
      x: [B, T, D].
      mask: bool [B, T], False at positions hidden from all; or None.
      image: image states [B, M, Di]; None omits the cross-attention.
    """
    attention = transformer.SelfAttention(
      self.num_heads, dtype=self.dtype, name='attention'
    )
    y = attention(x, mask, deterministic=True)
    x = self._norm('attention_norm', x + y)
    if image is not None:
      cross = CrossAttention(self.num_heads, self.dtype, name='cross_attention')
      x = self._norm('cross_norm', x + cross(x, image))
    x = self._norm('mlp_norm', x + self._mlp(x))
    return x, x

  def _norm(self, name: str, x: jax.Array) -> jax.Array:
    return layers.LayerNorm(self.epsilon, self.dtype, name=name)(x)

  def _mlp(self, x: jax.Array) -> jax.Array:
    y = layers.Dense(self.mlp_width, self.dtype, name='mlp_in')(x)
    y = layers.ACTIVATIONS['gelu'](y)
    return layers.Dense(x.shape[-1], self.dtype, name='mlp_out')(y)


class BLIPTextEncoder(TextTower):
  """BERT with attention to an image; defaults are the base size's.

  Attention is bidirectional, and there is no embedding of token types. The rows
  of the table are BERT's words, [DEC] and [ENC].
  """

  vocab_size: int = 30524
  length: int = 512
  width: int = 768
  depth: int = 12
  num_heads: int = 12
  mlp_width: int = 3072
  epsilon: float = 1e-12

  @nn.compact
  def __call__(
    self,
    ids: jax.Array,
    mask: jax.Array | None = None,
    image: jax.Array | None = None,
  ) -> jax.Array:
    """Output of every block: `dtype` [depth, B, T, D].

    Args:
      ids: int [B, T], T <= length.
      mask: bool [B, T], False at padding, with at least one True; None hides
        nothing. The official code subtracts 10,000 from hidden scores, which is
        equivalent in float32.
      image: image states [B, M, Di]; None reads the text alone, as for BLIP's
        text features.

    Raises:
      ValueError: if T > length.
    """
    x = self.embedded(ids, layers.normal_02)
    x = layers.LayerNorm(self.epsilon, self.dtype, name='emb_norm')(x)
    blocks = self.scanned(TextBlock, self.depth)(
      self.num_heads, self.mlp_width, self.epsilon, self.dtype, name='layers'
    )
    _, outputs = blocks(x, mask, image)
    return outputs


class BLIPScorer(nn.Module):
  """The network of ImageReward; defaults are v1.0's.

  Attributes:
    image: image tower.
    text: prompt encoder.
    head_widths: output widths of the head's layers; the head reads the first
      text state.
    mean: mean of the head's output over the official data.
    std: standard deviation of the head's output over the official data.
  """

  image: BLIPImageTower = BLIPImageTower()
  text: BLIPTextEncoder = BLIPTextEncoder()
  head_widths: tuple[int, ...] = (1024, 128, 64, 16, 1)
  mean: float = 0.16717362830052426
  std: float = 1.0333394966054072

  def setup(self) -> None:
    dtype = jnp.promote_types(self.text.dtype, jnp.float32)
    self.head = LinearHead(self.head_widths, dtype)

  def __call__(
    self, images: jax.Array, ids: jax.Array, mask: jax.Array | None = None
  ) -> BLIPOutput:
    """Scores images for prompts.

    Args:
      images: float [B, H, H, 3], normalised as for CLIP.
      ids: int [B, T], [CLS] first.
      mask: bool [B, T], False at padding.

    Raises:
      ValueError: if the images have a different shape or the prompts are too
        long.
    """
    image = self.image(images)
    text = self.text(ids, mask, image)
    raw = self.head(text[-1, :, 0])
    return BLIPOutput(
      image=image, text=text, raw=raw, score=(raw - self.mean) / self.std
    )
