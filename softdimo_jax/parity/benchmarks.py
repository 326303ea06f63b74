"""Fixtures of benchmarks: GenEval's rules, applied to given detections."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from softdimo_jax.evaluation.benchmarks import geneval_rules as geneval
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays


def geneval_rules(fixture: Fixture) -> Arrays:
  """Verdicts of all cases, and the geometry behind them."""
  cases = fixture.meta['cases']
  verdicts = [geneval_verdict(fixture.config, case) for case in cases]
  correct = [verdict.correct for verdict in verdicts]
  tags = [case['metadata']['tag'] for case in cases]
  return {
    'correct': np.array(correct, int),
    'overall_f64': geneval.summarise(tags, correct).overall,
    **_geometry(fixture.config, fixture.arrays),
    **_crops(fixture.config, fixture.arrays),
  }


def geneval_verdict(
  config: Mapping[str, Any], case: Mapping[str, Any]
) -> geneval.Verdict:
  """Our verdict for one case, whose colour names are those of kept objects."""
  rules = geneval.Rules(
    threshold=config['threshold'],
    counting_threshold=config['counting_threshold'],
    max_objects=config['max_objects'],
    max_overlap=case['max_overlap'],
    position_margin=config['position_threshold'],
  )
  detections = {
    name: np.array(boxes, np.float32).reshape(-1, 5)
    for name, boxes in case['detections'].items()
  }
  return geneval.judge(
    case['metadata'],
    detections,
    lambda name, indices: case['colors'][name][: len(indices)],
    rules,
  )


def _geometry(config: Mapping[str, Any], arrays: Arrays) -> dict[str, Any]:
  pairs = list(zip(arrays['rel_box_a'], arrays['rel_box_b'], strict=True))
  relations = [
    geneval.relations(a, b, config['position_threshold']) for a, b in pairs
  ]
  flags = [[name in names for name in geneval.RELATIONS] for names in relations]
  return {
    'rel_flags': np.array(flags, int),
    'iou_f64': np.array([geneval.overlap(a, b) for a, b in pairs]),
  }


def _crops(config: Mapping[str, Any], arrays: Arrays) -> dict[str, Any]:
  image = arrays['image']
  digits = config['bgcolor'].removeprefix('#')  # A grey, as 999 or 999999.
  grey = int((digits[: len(digits) // 3] * 2)[:2], 16)
  numbers = sorted(re.findall(r'\bbox_(\d+)\b', ' '.join(arrays)))
  crops = {
    f'crop_{number}': geneval.crop(
      image, arrays[f'box_{number}'], arrays[f'mask_{number}'], grey
    )
    for number in numbers
  }
  return crops | {'crop_nomask': geneval.crop(image, arrays['box_0'])}
