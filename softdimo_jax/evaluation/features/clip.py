"""CLIP features of images and prompts, for the CLIP score and CMMD."""

import types
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import numpy as np
import PIL.Image

from softdimo_jax.data.images import pixels
from softdimo_jax.evaluation.features.network import ImageNetwork
from softdimo_jax.networks.call import call
from softdimo_jax.networks.rewards.clip import CLIP
from softdimo_jax.ops.preprocess import normalize
from softdimo_jax.runtime.batched import Batched
from softdimo_jax.types import Params

# Side to which Di[M]O's evaluation resizes images before CLIP's own resize.
_DIMO_SIDE = 256
_PROMPTS = 64  # prompts per call

# (uint8 [H, W, 3], side) -> uint8 [side, side, 3].
Preparation = Callable[[np.ndarray, int], np.ndarray]


def _cropped(image: np.ndarray) -> np.ndarray:
  return pixels.center_crop(image, min(image.shape[:2]))


def crop_first(image: np.ndarray, side: int) -> np.ndarray:
  """Largest center crop, then Pillow's bicubic resize."""
  return pixels.resize(_cropped(image), side, side)


def _dimo(image: np.ndarray, side: int) -> np.ndarray:
  small = pixels.resize(
    _cropped(image), _DIMO_SIDE, _DIMO_SIDE, PIL.Image.Resampling.LANCZOS
  )
  return pixels.square(small, side)


PREPARATIONS: Mapping[str, Preparation] = types.MappingProxyType(
  {
    'open_clip': pixels.square,  # open_clip's, OpenAI's
    'dimo': _dimo,  # Di[M]O's evaluation
    'crop': crop_first,  # CMMD's
  }
)


def image_embedder(
  module: CLIP, params: Params, batch_size: int = 64
) -> ImageNetwork:
  """The image tower, on images of its own resolution.

  It returns unnormalised features float32 [B, E].
  """

  def forward(params: Params, pixels: jax.Array) -> tuple[jax.Array, ...]:
    inputs = normalize(pixels / 255)
    return (call(module, params, inputs, method='image_features'),)

  return ImageNetwork(
    module=module, params=params, forward=forward, batch_size=batch_size
  )


def embed_prompts(
  module: nn.Module, params: Params, ids: np.ndarray
) -> np.ndarray:
  """Token ids int [N, T] -> unnormalised features float32 [N, E]."""
  run = Batched(
    lambda params, ids: call(module, params, ids, method='text_features')
  )
  return run(params, ids, _PROMPTS)
