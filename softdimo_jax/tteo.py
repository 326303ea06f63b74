"""Optimises the input embeddings of a one-step model for prompts (TTEO).

  python -m softdimo_jax.tteo --workdir=DIR --prompt="a red circle" --out=FOLDER

Gradient ascent moves every start towards a higher composite score of
`config.tteo`; the best of all iterates is kept. The folder receives one image
per prompt, a before-and-after grid, the score curves and scores.json. With
--steps=0 this is best-of-N.
"""

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.report.plots import Curve, render_curve
from softdimo_jax.evaluation.sets import pictures
from softdimo_jax.experiment import best_of, methods, sampling_flags
from softdimo_jax.experiment.inputs import Conditions
from softdimo_jax.experiment.run import Run
from softdimo_jax.generation.tteo import TTEO, Best
from softdimo_jax.method import sampling
from softdimo_jax.runtime import bounds, cli, flag_types, lock
from softdimo_jax.runtime.files import write_atomically

_STARTS = flag_types.count('starts', 16, 'Number of starts N per prompt.')
_STEPS = flag_types.count('steps', 4, 'Number of ascent steps K per start.', 0)
_LEARNING_RATE = flag_types.number(
  'learning_rate',
  None,
  'Learning rate of the ascent; default: config.tteo.learning_rate.',
  bounds.POSITIVE,
)
_OUT = flag_types.output('out', 'tteo', 'Output folder.')
_SCALE = flag_types.count(
  'scale',
  None,
  'Output pixels per image pixel; 8 for images below 128 px, else 1.',
)
flags.adopt_module_key_flags(sampling_flags)

# Curves are drawn for at most this many prompts.
_DRAWN = 8


def main(argv: list[str]) -> None:
  """Optimises, writes the folder and prints the latency."""
  cli.no_arguments(argv)
  if not _STEPS.value:
    sampling_flags.refuse(('learning_rate',), '--steps=0 ascends nowhere')
  run = sampling_flags.load_run()
  if not run.family.reads_text:
    raise UserError(
      'test-time optimisation needs prompts, but this run is class-conditional'
    )
  stage = run.generator(sampling_flags.MODEL.value)
  if run.config[stage].kind != 'distill':
    raise UserError(f'--model={stage} is not a one-step model of this run')
  conditions = sampling_flags.conditions(run, best_of.terms_of(run))
  _check_memory(run, len(conditions))
  optimizer = best_of.optimizer(
    run,
    stage,
    starts=_STARTS.value,
    steps=_STEPS.value,
    learning_rate=_LEARNING_RATE.value,
  )
  scale = sampling_flags.file_scale(run, _SCALE.value, 8)
  with lock.held(_OUT.value):
    best = _optimize(run, stage, optimizer, conditions)
    _write(pathlib.Path(_OUT.value), conditions, best, scale)
  _print_latency(run, stage, optimizer, conditions)
  gain = best.scores.mean() - best.curves[:, 0, 0].mean()
  print(
    f'{len(conditions)} images of {stage} in {_OUT.value}; the composite score '
    f'rose by {gain:.3f} over the first start'
  )


def _check_memory(run: Run, prompts: int) -> None:
  """Checks that the images and scores of all starts fit into host memory.

  Raises:
    UserError: if they need more than half of the free memory.
  """
  height, width, channels = run.family.image_shape
  floats = 2 * height * width * channels + _STEPS.value + 1
  needed = 4 * prompts * _STARTS.value * floats
  sampling_flags.check_memory(
    f'--starts={_STARTS.value} with --steps={_STEPS.value} for {prompts} '
    'prompts',
    needed,
  )


def _optimize(
  run: Run,
  stage: str,
  optimizer: TTEO,
  conditions: Conditions,
) -> Best:
  return optimizer(
    run.params(stage),
    run.params('tokenizer'),
    run.reward_params(optimizer.terms),
    sampling.image_keys(sampling_flags.SEED.value, len(conditions)),
    conditions.take(np.arange(len(conditions))),
    conditions.prompt_ids,
  )


def _write(
  folder: pathlib.Path,
  conditions: Conditions,
  best: Best,
  scale: int,
) -> None:
  for number, image in enumerate(best.images):
    pixels = pictures.image_grid(image[None], scale=scale, padding=0)
    pictures.save_picture(folder / f'{number:04d}.png', pixels)
  pairs = np.stack([best.first, best.images], axis=1)
  pairs = pairs.reshape(-1, *best.images.shape[1:])
  pictures.save_picture(
    folder / 'before_after.png',
    pictures.image_grid(pairs, columns=2, scale=scale),
  )
  write_atomically(
    folder / 'curves.svg', render_curve(_curve(conditions, best))
  )
  write_atomically(
    folder / 'scores.json',
    json.dumps(_scores(conditions, best), indent=2) + '\n',
  )


def _curve(conditions: Conditions, best: Best) -> Curve:
  """Running best score per prompt, over all of its starts."""
  so_far = np.maximum.accumulate(best.curves.max(1), axis=1)
  steps = np.arange(so_far.shape[1])
  return Curve(
    title='Composite score',
    x_label='step',
    y_label='best of all starts',
    series={
      name: (steps, scores)
      for name, scores in zip(conditions.names[:_DRAWN], so_far, strict=False)
    },
  )


def _scores(conditions: Conditions, best: Best) -> list[dict[str, Any]]:
  return [
    {
      'prompt': name,
      'image': f'{number:04d}.png',
      'score': float(best.scores[number]),
      'first_start': float(best.curves[number, 0, 0]),
      'starts': best.curves[number].tolist(),
    }
    for number, name in enumerate(conditions.names)
  ]


def _print_latency(
  run: Run,
  stage: str,
  optimizer: TTEO,
  conditions: Conditions,
) -> None:
  """Prints the wall time for the first prompt alone, after compilation."""
  first = conditions.part(slice(1))
  one_step = methods.sampled(run, stage, 1)
  params = one_step.place(run.params(stage))
  tokenizer = one_step.place(run.params('tokenizer'))
  text, keys = first.take(np.arange(1)), sampling.image_keys(0, 1)
  plain = _seconds(
    lambda: one_step.generate(params, tokenizer, keys, text, None)
  )
  optimized = _seconds(lambda: _optimize(run, stage, optimizer, first))
  print(
    f'latency per prompt: one step {1e3 * plain:.1f} ms, {_STARTS.value} '
    f'starts with {_STEPS.value} steps {1e3 * optimized:.1f} ms'
  )


def _seconds(call: Callable[[], Any]) -> float:
  call()
  start = time.monotonic()
  call()
  return time.monotonic() - start


if __name__ == '__main__':
  cli.run(main)
