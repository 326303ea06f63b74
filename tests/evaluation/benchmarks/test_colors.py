"""Colour names by a CLIP, with towers that see colours by construction."""

import numpy as np

from softdimo_jax.data.prompts.text_tokens import CLIPTokenizer
from softdimo_jax.evaluation.benchmarks import colors
from softdimo_jax.evaluation.benchmarks.colors import COLORS, ColorClassifier
from softdimo_jax.evaluation.features.clip import embed_prompts, image_embedder
from tests import released


def classifier():
  tokenizer = CLIPTokenizer.load('rule', clean='openai', length=12)
  embedder = image_embedder(
    released.module('clip'), released.params('clip'), batch_size=4
  )
  return ColorClassifier(embedder, lambda texts: tokenizer(texts).ids)


def test_the_nearest_colour_is_named():
  classify = classifier()
  rng = np.random.default_rng(0)
  crops = [
    rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((9, 12), (8, 8))
  ]
  found = classify('cup', [*crops, np.zeros((0, 5, 3), np.uint8)])
  assert found[2] == '' and set(found[:2]) <= set(COLORS)
  # By hand: the mean of unit vectors of the three templates.
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  embedder = classify.embedder
  texts = lambda color: [
    f'a photo of a {color} cup',
    f'a photo of a {color}-colored cup',
    f'a photo of a {color} object',
  ]
  text = np.stack(
    [
      unit(
        unit(
          embed_prompts(
            embedder.module, embedder.params, classify.tokenize(texts(color))
          )
        ).mean(0)
      )
      for color in COLORS
    ]
  )
  image = next(embedder.outputs(colors.pixels.square(crops[0], 8)[None]))[0]
  assert found[0] == COLORS[int((unit(image) @ text.T).argmax())]
