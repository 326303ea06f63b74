"""Images and prompts as a CLIP sees them: CLIP score and CMMD."""

import dataclasses
import types
from collections.abc import Callable, Mapping

import jax
import numpy as np
import PIL.Image

from softdimo_jax.data.images import pixels
from softdimo_jax.networks.rewards.clip import CLIP
from softdimo_jax.ops.preprocess import normalize
from softdimo_jax.runtime.batched import BatchedNetwork
from softdimo_jax.types import Params

# Side to which Di[M]O's evaluation brings an image before CLIP's own resize.
_DIMO_SIDE = 256
_PROMPTS = 64

# (uint8 [H, W, 3], side) -> uint8 [side, side, 3].
Preparation = Callable[[np.ndarray, int], np.ndarray]


def _cropped(image: np.ndarray) -> np.ndarray:
  return pixels.center_crop(image, min(image.shape[:2]))


def crop_first(image: np.ndarray, side: int) -> np.ndarray:
  """Largest square of the middle, then Pillow's bicubic resize."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageEmbedder(BatchedNetwork):
  """The image tower over images of its own resolution.

  Attributes:
    module: the model, whose parameters `params` are.
  """

  module: CLIP

  def forward(self, params: Params, pixels: jax.Array) -> tuple[jax.Array, ...]:
    """See `BatchedNetwork`; features that are no unit vectors."""
    inputs = normalize(pixels / 255)
    return (
      self.module.apply({'params': params}, inputs, method='image_features'),
    )


def embed_prompts(module: CLIP, params: Params, ids: np.ndarray) -> np.ndarray:
  """Features float32 [N, E] of prompts int [N, T], no unit vectors."""
  run = jax.jit(
    lambda params, ids: module.apply(
      {'params': params}, ids, method='text_features'
    )
  )
  padded = np.pad(ids, [(0, -len(ids) % _PROMPTS), (0, 0)])
  parts = [
    run(params, padded[start : start + _PROMPTS])
    for start in range(0, len(padded), _PROMPTS)
  ]
  return np.concatenate(jax.device_get(parts))[: len(ids)]
