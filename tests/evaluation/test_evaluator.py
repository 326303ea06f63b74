"""Whole evaluations of folders of images, in tiny networks."""

import functools
import json

import jax
import numpy as np
import PIL.Image
import pytest

from softdimo_jax.convert import folder, registry
from softdimo_jax.data.images.pixels import center_crop
from softdimo_jax.data.prompts.text_tokens import DIMO_PREFIX, CLIPTokenizer
from softdimo_jax.errors import Preempted, UserError
from softdimo_jax.evaluation import measure, metrics
from softdimo_jax.evaluation.evaluator import EvaluationRequest, Evaluator
from softdimo_jax.evaluation.features import clip as embeddings
from softdimo_jax.evaluation.features import probes
from softdimo_jax.evaluation.features.inception import feature_extractor
from softdimo_jax.evaluation.measure import Options
from softdimo_jax.evaluation.sets.images import FolderImages, NpzImages
from softdimo_jax.ops.preprocess import normalize
from softdimo_jax.runtime.batched import joined
from softdimo_jax.runtime.preemption import PreemptionNotice
from tests import released

OURS, THEIRS = 12, 15
# Two classes of images, so that features have some spread.
PICTURES = {
  'ours': np.random.default_rng(0).integers(0, 200, (OURS, 9, 9, 3), np.uint8),
  'theirs': np.random.default_rng(1).integers(
    50, 256, (THEIRS, 9, 9, 3), np.uint8
  ),
}
ALL = tuple(measure.METRICS)
# Some repeat, and they are in no order.
PROMPTS = [f'{"cats" if i % 2 else "dogs"} {7 * i % 5}' for i in range(OURS)]
# Reads whole prompts, and tells them and images apart; weights by rule don't.
CLIP_OPTIONS = {
  tower: options | ({'length': 40} if tower == 'text' else {})
  for tower, options in released.OPTIONS['clip'].items()
}
CLIP = registry.build('clip', CLIP_OPTIONS)


@functools.cache
def clip_params():
  inputs = released.inputs('clip')
  drawn = jax.jit(CLIP.init)(jax.random.key(0), *inputs)['params']
  return jax.tree.map(lambda x: 3 * x, drawn)  # far apart


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """Networks and pictures."""
  root = tmp_path_factory.mktemp('evaluation')
  released.save(root / 'inception', 'inception')
  source = folder.Source(weights='random', file='none', sha256='0')
  folder.save_converted(
    root / 'clip', 'clip', CLIP_OPTIONS, clip_params(), source
  )
  for name, pictures in PICTURES.items():
    (root / name).mkdir()
    for index, pixels in enumerate(pictures):
      PIL.Image.fromarray(pixels).save(root / name / f'{index:03d}.png')
  return root


@pytest.fixture(scope='module', autouse=True)
def one_network():
  """Every evaluator gets the network that was compiled for the first."""
  made, make = {}, probes.inception_probe

  def cached(weights, resize, batch_size):
    key = weights.source, resize, batch_size
    if key not in made:
      made[key] = make(weights, resize, batch_size)
    return made[key]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(probes, 'inception_probe', cached)
    yield


@pytest.fixture(scope='module')
def request_of(place):
  """Makes requests for the tiny networks."""

  def make(names, **changes):
    fields = {
      'out': place / 'out',
      'reference': str(place / 'theirs'),
      'inception': str(place / 'inception'),
      'clip': str(place / 'clip'),
      'cmmd_clip': str(place / 'clip'),
      'clip_vocabulary': 'rule',
      'batch_size': 8,
      'options': Options(kid_subsets=3, kid_subset_size=6),
    }
    return EvaluationRequest(metrics=tuple(names), **fields | changes)

  return make


@pytest.fixture(scope='module')
def evaluated(place, request_of):
  """(row of all metrics, how often a signal was looked for)."""
  images = FolderImages(place / 'ours')
  request = request_of(ALL)
  request.check(has_prompts=True)
  return Evaluator(request, PreemptionNotice()).evaluate(images, PROMPTS)


@pytest.fixture(scope='module')
def features(evaluated):
  """Features of both sets, directly: (vectors, spatial, logits)."""
  del evaluated  # Whose compiled program this one finds.
  network = feature_extractor(
    released.module('inception'), released.params('inception'), batch_size=8
  )
  return {name: joined(network.outputs(x)) for name, x in PICTURES.items()}


def test_metrics_are_those_of_the_features(evaluated, features):
  ours, our_spatial, our_logits = features['ours']
  theirs, their_spatial, _ = features['theirs']
  moments = metrics.FeatureStatistics.from_features
  expected = {
    'fid': metrics.frechet_distance(moments(ours), moments(theirs)),
    'sfid': metrics.frechet_distance(
      moments(our_spatial), moments(their_spatial)
    ),
    'is': metrics.inception_score(our_logits).mean,
    'is_adm': metrics.inception_score(our_logits, np.zeros(OURS, int)).mean,
    'kid': metrics.kid(theirs, ours, subsets=3, subset_size=6).mean,
    'precision': metrics.precision_recall(theirs, ours).precision,
    'recall_float16': metrics.precision_recall(
      theirs, ours, adm_float16=True
    ).recall,
    'density': metrics.precision_recall_density_coverage(theirs, ours).density,
  }
  for name, value in expected.items():
    np.testing.assert_allclose(evaluated[name], value, rtol=1e-5, err_msg=name)


def image_features(name, preparation):
  """Of a set of pictures by a CLIP, taken one by one."""
  params = {'params': clip_params()}
  prepare = embeddings.PREPARATIONS[preparation]
  look = jax.jit(functools.partial(CLIP.apply, method='image_features'))
  squares = (prepare(picture, released.SIZE) for picture in PICTURES[name])
  return np.concatenate(
    [look(params, normalize(square[None] / 255)) for square in squares]
  )


def test_the_clip_score_is_of_every_image_with_its_own_prompt(evaluated):
  params = {'params': clip_params()}
  tokenize = CLIPTokenizer.load(
    'rule', clean='openai', prefix=DIMO_PREFIX, length=CLIP.text.length
  )
  read = jax.jit(functools.partial(CLIP.apply, method='text_features'))
  texts = np.concatenate([read(params, tokenize([p]).ids) for p in PROMPTS])
  images = image_features('ours', 'dimo')
  np.testing.assert_allclose(
    evaluated['clip_score'], metrics.clip_score(images, texts), rtol=1e-5
  )
  # Another order would be noticed.
  for other in (np.roll(texts, 1, 0), texts[::-1]):
    difference = metrics.clip_score(images, other) - evaluated['clip_score']
    assert abs(difference) > 1e-4


def test_cmmd_is_of_the_unit_features(evaluated):
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  ours, theirs = (
    unit(image_features(name, 'crop').astype(np.float64)) for name in PICTURES
  )
  np.testing.assert_allclose(
    evaluated['cmmd'], metrics.cmmd(theirs, ours), rtol=1e-4
  )


def test_every_number_carries_its_protocol(evaluated, place):
  protocol = evaluated['protocol']
  assert evaluated['num_images'] == protocol['num_images'] == OURS
  assert protocol['image_size'] == [9, 9]
  assert protocol['images']['path'] == str(place / 'ours')
  assert protocol['reference']['num_images'] == THEIRS
  assert protocol['networks']['inception']['resize'] == 'tensorflow'
  assert protocol['networks']['clip']['preparation'] == 'dimo'
  assert protocol['networks']['cmmd']['preparation'] == 'crop'
  assert protocol['clip_prefix'] == 'A photo depicts '
  assert protocol['kid_subset_size'] == 6 and protocol['neighbours'] == 3
  json.dumps(evaluated)


def test_features_are_kept(place, request_of, evaluated, monkeypatch):
  def refuse(self, start, stop):
    raise AssertionError('looked again')

  images = FolderImages(place / 'ours')
  evaluator = Evaluator(request_of(['fid']), PreemptionNotice())
  monkeypatch.setattr(FolderImages, 'read', refuse)
  monkeypatch.setattr(FolderImages, 'size', lambda self: (9, 9))
  assert evaluator.evaluate(images)['fid'] == evaluated['fid']


class Stopped(PreemptionNotice):
  """A signal that comes after so many looks."""

  def __init__(self, looks):
    super().__init__()
    self.left = looks

  def check(self):
    if self.left == 0:
      raise Preempted('stopped')
    self.left -= 1


def test_an_interrupted_evaluation_is_exact(
  place, request_of, evaluated, monkeypatch, tmp_path
):
  monkeypatch.setattr('softdimo_jax.evaluation.features.probes._RANGE', 5)
  request = request_of(['fid'], out=tmp_path)
  images = FolderImages(place / 'ours')
  with pytest.raises(Preempted):
    Evaluator(request, Stopped(1)).evaluate(images)
  assert len(list(tmp_path.rglob('*.npz'))) == 1
  found = Evaluator(request, PreemptionNotice()).evaluate(images)
  whole = Evaluator(
    request_of(['fid'], out=tmp_path / 'other'), PreemptionNotice()
  ).evaluate(images)
  assert found['fid'] == whole['fid']
  np.testing.assert_allclose(found['fid'], evaluated['fid'], rtol=1e-6)


def test_a_saved_reference_is_as_good_as_its_images(
  place, request_of, evaluated, tmp_path
):
  path = tmp_path / 'theirs.npz'
  evaluator = Evaluator(request_of(['fid']), PreemptionNotice())
  evaluator.save_reference(FolderImages(place / 'theirs'), path)
  images = FolderImages(place / 'ours')
  run = lambda names, **changes: Evaluator(
    request_of(names, reference=str(path), **changes), PreemptionNotice()
  ).evaluate(images)
  found = run(['fid', 'sfid'])
  for name in ('fid', 'sfid'):
    np.testing.assert_allclose(found[name], evaluated[name], rtol=1e-9)
  assert found['protocol']['reference']['num_images_of_moments'] == THEIRS
  with pytest.raises(UserError, match='do not suffice for pr; give a'):
    run(['pr'])
  with pytest.raises(UserError, match=r'made with resize=tensorflow, .* clean'):
    run(['fid'], resize='clean')


def test_archives_serve_as_images_and_as_references(
  place, request_of, evaluated, tmp_path
):
  for name, pictures in PICTURES.items():
    np.savez(tmp_path / f'{name}.npz', pictures)
  request = request_of(['fid'], reference=str(tmp_path / 'theirs.npz'))
  found = Evaluator(request, PreemptionNotice()).evaluate(
    NpzImages(tmp_path / 'ours.npz')
  )
  np.testing.assert_allclose(found['fid'], evaluated['fid'], rtol=1e-9)


def test_references_of_other_kinds_are_refused(place, request_of, tmp_path):
  images = FolderImages(place / 'ours')
  run = lambda path: Evaluator(
    request_of(['fid'], reference=str(path)), PreemptionNotice()
  ).evaluate(images)
  np.savez(tmp_path / 'narrow.npz', mu=np.zeros(3), sigma=np.eye(3))
  with pytest.raises(UserError, match='3 dimensions, ours have 128'):
    run(tmp_path / 'narrow.npz')
  np.savez(tmp_path / 'large.npz', np.zeros((5, 12, 12, 3), np.uint8))
  with pytest.raises(UserError, match='12x12 pixels, but ours have 9x9'):
    run(tmp_path / 'large.npz')
  with pytest.raises(UserError, match='nowhere'):
    run(tmp_path / 'nowhere.npz')


def test_crops_bring_any_size_together(
  place, request_of, tmp_path, monkeypatch
):
  monkeypatch.setattr(probes, '_RANGE', 1)  # sizes are compared across ranges
  wide = np.random.default_rng(2).integers(0, 256, (9, 14, 3), np.uint8)
  for index in range(3):
    PIL.Image.fromarray(wide[:, index:]).save(tmp_path / f'{index}.png')
    PIL.Image.fromarray(wide[index:]).save(tmp_path / f'tall{index}.png')
  images = FolderImages(tmp_path)
  with pytest.raises(UserError, match=r'same size, but 0\.png is 9x14'):
    Evaluator(request_of(['is_adm']), PreemptionNotice()).evaluate(images)
  request = request_of(['fid'], resize='crop', reference=str(tmp_path))
  found = Evaluator(request, PreemptionNotice()).evaluate(images)
  assert found['fid'] < 1e-6
  assert center_crop(wide, 9).shape == (9, 9, 3)


@pytest.mark.parametrize(
  ('names', 'changes', 'message'),
  [
    (
      ['pr'],
      {'options': Options(neighbours=13)},
      'at least 14 images .* has 12; lower --neighbours',
    ),
    (['kid'], {'options': Options()}, 'kid cannot be computed: .*1000 images'),
  ],
)
def test_too_few_images_are_one_sentence(
  place, request_of, evaluated, names, changes, message, monkeypatch
):
  evaluator = Evaluator(request_of(names, **changes), PreemptionNotice())
  # It is said before features are computed.
  monkeypatch.setattr(probes, 'extract', None)
  with pytest.raises(UserError, match=message):
    evaluator.evaluate(FolderImages(place / 'ours'))


def test_as_many_prompts_as_images(place, request_of, evaluated):
  evaluator = Evaluator(request_of(['clip_score']), PreemptionNotice())
  with pytest.raises(
    UserError, match='12 images need 12 prompts, but --prompts has 1'
  ):
    evaluator.evaluate(FolderImages(place / 'ours'), ['one'])


@pytest.mark.parametrize(
  ('names', 'changes', 'message'),
  [
    (['fdd'], {}, '--metrics=fdd is unknown; choose from fid'),
    ([], {}, '--metrics is empty'),
    (['fid'], {'reference': None}, 'fid needs a reference'),
    (['clip_score'], {}, 'give --prompts'),
    (['is'], {'inception': ''}, '--inception names no weights: .*convert'),
    (['cmmd'], {'cmmd_clip': ''}, '--cmmd_clip names no weights'),
  ],
)
def test_requests_are_checked_first(request_of, names, changes, message):
  with pytest.raises(UserError, match=message):
    request_of(names, **changes).check(has_prompts=False)


def test_weights_that_are_not_there_are_named(request_of):
  with pytest.raises(UserError, match=r'--inception: none\.pth is neither'):
    Evaluator(request_of(['is'], inception='none.pth'), PreemptionNotice())
