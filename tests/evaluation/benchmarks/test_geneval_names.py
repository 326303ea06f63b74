"""A misspelt name is refused, with the one that was meant."""

import pytest

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks import geneval_names
from softdimo_jax.evaluation.benchmarks.detections import Picture


def record(name='bench', tag='single_object', **more):
  entry = {'class': name, 'count': 1, **more}
  return {'tag': tag, 'prompt': 'a photo', 'include': [entry]}


def picture(*names, **colors):
  boxes = dict.fromkeys(names, ())
  return Picture(boxes=boxes, masks={}, colors=colors)


def test_coco_has_80_classes():
  assert len(set(geneval_names.CLASSES)) == 80
  assert all(name == name.strip() for name in geneval_names.CLASSES)


@pytest.mark.parametrize(
  ('given', 'detected', 'words'),
  [
    (record('bnech'), None, "class 'bnech'.*'bench'"),
    (record('bnech'), ['bench'], "'bnech'.*'bench'"),
    (record(), ['benhc'], "name a class 'benhc', the prompts 'bench'"),
    (record('traffic light'), ['traffic_light'], "'traffic_light'"),
    (record('computer mouse'), ['mouse'], "'mouse', the prompts 'computer"),
    (record('robot'), ['bench'], "'robot', which neither.*empty list"),
    (record(tag='two_objcet'), None, "'two_objcet'; is it 'two_object'"),
    (record(color='rde'), None, "colour 'rde'.*'red'"),
    (record(color='grue'), ['bench'], "colour 'grue'"),
    (record(position=['left off', 0]), None, "relation 'left off'.*'left of'"),
  ],
)
def test_misspelt_names_are_refused(given, detected, words):
  pictures = None if detected is None else [picture(*detected)]
  with pytest.raises(UserError, match=words):
    geneval_names.check([given], pictures)


def test_other_names_are_welcome(capsys):
  geneval_names.check([record('robot', tag='my_own', color='cyan')])
  geneval_names.check([record('robot')], [picture('robot', 'person', 'sheet')])
  geneval_names.check(
    [record(color='grey')], [picture('bench', bench=['grey'])]
  )
  assert not capsys.readouterr().err


def test_classes_that_nothing_detects_are_said(capsys):
  geneval_names.check([record('bench'), record('cup')], [picture('cup')])
  assert '1 classes' in (said := capsys.readouterr().err) and 'bench' in said
