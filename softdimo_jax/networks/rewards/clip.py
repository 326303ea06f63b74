"""CLIP (Radford et al. 2021), for the CLIP score, HPSv2 and PickScore.

Official classes: `CLIPModel` of transformers, and `CLIP` of open_clip and of
tgxs002/HPSv2. All compute the same; the rewards differ in their weights and in
how they use the cosines.
"""

import math

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.networks.text.clip import CLIPTextTower
from softdimo_jax.networks.towers import ImageTower
from softdimo_jax.ops.precision import at_least_float32
from softdimo_jax.ops.quantization import l2_normalize

_TEMPERATURE = 0.07


@flax.struct.dataclass
class ImageOutput:
  """Features of a batch of images.

  Attributes:
    hidden: [depth + 1, B, 1 + P, D], input of the blocks and output of every
      block, before the final norm; the class token is first.
    final: [B, D], the class token after the final norm.
    pooled: float32 [B, E], projection of `final`.
  """

  hidden: jax.Array
  final: jax.Array
  pooled: jax.Array


@flax.struct.dataclass
class CLIPOutput:
  """Images and prompts as unit vectors.

  Attributes:
    image: image features, float32 [B, E].
    text: text features, float32 [B, E].
    scale: float32 [], the exponential of the logit scale.
  """

  image: jax.Array
  text: jax.Array
  scale: jax.Array

  @property
  def cosines(self) -> jax.Array:
    """Cosine of each image and its own prompt, float32 [B]: HPSv2's score."""
    return (self.image * self.text).sum(-1)

  @property
  def logits(self) -> jax.Array:
    """Scaled cosines of all images (rows) and all prompts, float32 [B, B]."""
    return self.scale * (self.image @ self.text.T)


class CLIPImageTower(ImageTower):
  """Pre-norm transformer over patches; defaults are ViT-H/14's.

  Attributes:
    projection_width: width of the projected features, E.
    activation: 'gelu' (erf; LAION's weights) or 'quick_gelu' (OpenAI's).

  Raises:
    ValueError: at first use, if a patch is larger than the image.
  """

  patch: int = 14
  width: int = 1280
  depth: int = 32
  mlp_width: int = 5120
  projection_width: int = 1024
  activation: str = 'gelu'

  def setup(self) -> None:
    normal = nn.initializers.normal(self.width**-0.5)
    # The official convolution without bias, as a matrix over flat patches.
    self.patch_kernel = self.param(
      'patch_kernel',
      layers.torch_linear_init,
      self.patch_shape,
    )
    self.class_emb = self.param('class_emb', normal, (self.width,))
    self.pos_emb = self.param('pos_emb', normal, (self.positions, self.width))
    self.projection = self.param(
      'projection', normal, (self.width, self.projection_width)
    )
    self.initial_norm = layers.LayerNorm(self.epsilon, self.dtype)
    self.layers = self.blocks(
      activation=self.activation, attention=self.attention
    )
    self.final_norm = layers.LayerNorm(self.epsilon, self.dtype)

  def __call__(self, images: jax.Array) -> ImageOutput:
    """Features of images.

    Args:
      images: float [B, H, H, 3], H = `resolution`, normalised as in training.

    Returns:
      ImageOutput; `hidden` and `final` have dtype `dtype`.

    Raises:
      ValueError: if the images have a different shape.
    """
    x = self.initial_norm(self.embed(images))
    last, outputs = self.layers(x, None)
    # The official code normalises all positions, but reads only the first.
    final = self.final_norm(last[:, 0])
    pooled = layers.matmul_2d(final, self.projection, self.dtype)
    return ImageOutput(
      hidden=jnp.concatenate([x[None], outputs]),
      final=final,
      pooled=at_least_float32(pooled),
    )

  def embed(self, images: jax.Array) -> jax.Array:
    """Class token and patches with positions, before the norm: [B, 1 + P, D].

    Raises:
      ValueError: if the images are not [B, H, H, 3].
    """
    patches = layers.matmul_2d(
      self.patches(images), self.patch_kernel, self.dtype
    )
    return self.with_class(patches, self.class_emb, self.pos_emb)


class CLIP(nn.Module):
  """Both towers and the scale of their cosines; defaults are ViT-H/14's.

  Attributes:
    image: image tower.
    text: text tower.

  Raises:
    ValueError: at first use, if the towers project to different widths.
  """

  image: CLIPImageTower = CLIPImageTower()
  text: CLIPTextTower = CLIPTextTower()

  def setup(self) -> None:
    image, text = self.image.projection_width, self.text.projection_width
    if image != text:
      raise ValueError(
        f'image features have width {image}, text features {text}; they must '
        'be equal'
      )
    self.logit_scale = self.param(
      'logit_scale', nn.initializers.constant(-math.log(_TEMPERATURE)), ()
    )

  def image_features(self, images: jax.Array) -> jax.Array:
    """Features of inputs of `CLIPImageTower`, not normalised: float32 [B, E].

    Raises:
      ValueError: if the images have a different shape.
    """
    return self.image(images).pooled

  def text_features(self, ids: jax.Array) -> jax.Array:
    """Features of int ids [B, T], not normalised: float32 [B, E].

    Raises:
      ValueError: if the prompts are too long.
    """
    return self.text(ids).pooled

  def __call__(self, images: jax.Array, ids: jax.Array) -> CLIPOutput:
    """Compares images with prompts.

    Args:
      images: float [B, H, H, 3], normalised as in training.
      ids: int [B, T], padded as in training; in CLIP's vocabulary padding has
        no effect.

    Returns:
      CLIPOutput of unit vectors, without NaN even for zero features.

    Raises:
      ValueError: if the images have a different shape or the prompts are too
        long.
    """
    return CLIPOutput(
      image=l2_normalize(self.image_features(images)),
      text=l2_normalize(self.text_features(ids)),
      scale=jnp.exp(self.logit_scale),
    )


def openai_vit_l() -> CLIP:
  """OpenAI's ViT-L/14, for the aesthetic predictor and GenEval's colours."""
  sizes = {'projection_width': 768, 'activation': 'quick_gelu'}
  return CLIP(
    CLIPImageTower(width=1024, depth=24, mlp_width=4096, **sizes),
    CLIPTextTower(width=768, depth=12, num_heads=12, mlp_width=3072, **sizes),
  )


def openai_vit_b() -> CLIP:
  """OpenAI's ViT-B/32, the smallest one released."""
  sizes = {'projection_width': 512, 'depth': 12, 'activation': 'quick_gelu'}
  return CLIP(
    CLIPImageTower(patch=32, width=768, num_heads=12, mlp_width=3072, **sizes),
    CLIPTextTower(width=512, num_heads=8, mlp_width=2048, **sizes),
  )
