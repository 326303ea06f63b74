"""PyPI's torch-fidelity beside ours: the same PNGs, the same made-up weights.

Slow, and needs torch (its build for CPUs will do) and torch-fidelity:

  pip install torch && pip install --no-deps torch-fidelity==0.4.0

torch-fidelity asks torchvision for two functions on this road, and for names to
define classes that nobody uses here. PyPI's torchvision does not import beside
a CPU build of torch, so that a stand-in has these.
"""

import functools
import json
import sys
import types

import numpy as np
import PIL.Image
import pytest

from softdimo_jax.convert import command
from softdimo_jax.convert.rule_weights import rule_state_dict
from softdimo_jax.data import shapes
from softdimo_jax.evaluation import metrics
from softdimo_jax.evaluation.evaluator import EvaluationRequest, Evaluator
from softdimo_jax.evaluation.measure import Options
from softdimo_jax.evaluation.sets.images import FolderImages
from softdimo_jax.evaluation.sets.pictures import encode_png, to_uint8
from softdimo_jax.runtime.preemption import PreemptionNotice
from tests.golden import parity

MISSING = 'the extra `reference` is not installed'
OURS, THEIRS, SUBSET = 500, 200, 100
# As of the fixture whose weights keep the images' signal in the late blocks.
GAIN = {'min_ndim': 4, 'factor': 1.5}


@pytest.fixture
def torch_fidelity(monkeypatch):
  torch = pytest.importorskip('torch', reason=MISSING)

  def pil_to_tensor(image):
    return torch.from_numpy(np.array(image).transpose(2, 0, 1))

  def compose(steps):
    return lambda image: functools.reduce(lambda x, step: step(x), steps, image)

  names = {
    'torchvision': {},
    'torchvision.datasets': dict.fromkeys(
      ('CIFAR10', 'CIFAR100', 'STL10'), object
    ),
    'torchvision.transforms': {'Compose': compose},
    'torchvision.transforms.functional': {'pil_to_tensor': pil_to_tensor},
  }
  for name, members in names.items():
    module = types.ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    parent, _, leaf = name.rpartition('.')
    if parent:
      setattr(sys.modules[parent], leaf, module)
  return pytest.importorskip('torch_fidelity', reason=MISSING)


@pytest.fixture
def place(tmp_path, torch_fidelity):
  """PNGs of scenes, right ones and noisy ones, and the weights as a file."""
  import torch

  listing = json.loads((parity.GOLDEN / 'fid_inception_full.json').read_text())
  state = rule_state_dict(
    listing['entries'], kept=listing.get('kept', ()), gain=GAIN
  )
  tensors = {name: torch.from_numpy(x) for name, x in state.items()}
  for name, shape, dtype in listing['entries']:
    if not dtype.startswith('float'):
      tensors[name] = torch.zeros(shape, dtype=torch.int64)
  torch.save(tensors, tmp_path / 'inception.pth')
  source = shapes.ShapesSource(
    world=shapes.World(), seed=0, num_examples=OURS + THEIRS
  )
  images = source.gather(np.arange(OURS + THEIRS))['image']
  rng = np.random.default_rng(0)
  noise = rng.normal(size=images[:OURS].shape).astype(np.float32)
  images[:OURS] += 0.1 * noise
  for folder, part in (('ours', images[:OURS]), ('theirs', images[OURS:])):
    (tmp_path / folder).mkdir()
    for index, pixels in enumerate(to_uint8(part)):
      rgb = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
      (tmp_path / folder / f'{index:04d}.png').write_bytes(
        encode_png(np.ascontiguousarray(rgb))
      )
  assert PIL.Image.open(tmp_path / 'ours' / '0000.png').mode == 'RGB'
  return tmp_path


@pytest.mark.slow
def test_numbers_are_torch_fidelitys(place, torch_fidelity):
  expected = torch_fidelity.calculate_metrics(
    input1=str(place / 'ours'),
    input2=str(place / 'theirs'),
    fid=True,
    isc=True,
    kid=True,
    prc=True,
    feature_extractor='inception-v3-compat',  # VGG is its default for prc.
    feature_layer_prc='2048',
    kid_subset_size=SUBSET,
    feature_extractor_weights_path=str(place / 'inception.pth'),
    batch_size=50,
    cuda=False,
    cache=False,
    verbose=False,
    datasets_download=False,
    save_cpu_ram=True,  # No processes of its own.
  )
  command.run(
    command.Conversion(
      family='inception',
      weights=str(place / 'inception.pth'),
      out=place / 'inception',
    )
  )
  request = EvaluationRequest(
    metrics=('fid', 'is', 'kid', 'pr'),
    out=place / 'out',
    reference=str(place / 'theirs'),
    inception=str(place / 'inception'),
    batch_size=50,
    options=Options(kid_subset_size=SUBSET),
  )
  found = Evaluator(request, PreemptionNotice()).evaluate(
    FolderImages(place / 'ours')
  )
  names = {
    'fid': 'frechet_inception_distance',
    'is': 'inception_score_mean',
    'is_std': 'inception_score_std',
    'kid': 'kernel_inception_distance_mean',
    'kid_std': 'kernel_inception_distance_std',
    'precision': 'precision',
    'recall': 'recall',
  }
  values = {name: (found[name], expected[key]) for name, key in names.items()}
  print(values)
  for name in ('fid', 'is', 'kid'):
    ours, theirs = values[name]
    assert abs(ours - theirs) <= 1e-4 * abs(theirs), values
  for name in ('precision', 'recall'):
    ours, theirs = values[name]
    # One image on the border of a ball may fall to either side.
    assert abs(ours - theirs) <= 1.5 / min(OURS, THEIRS), values


@pytest.mark.slow
@pytest.mark.parametrize(('count', 'width'), [(301, 17), (120, 64), (40, 90)])
def test_metrics_of_random_features_are_torch_fidelitys(
  torch_fidelity, count, width
):
  import torch
  from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

  rng = np.random.default_rng(count)
  ours = rng.normal(size=(count, width)) * rng.uniform(0.5, 2, width)
  theirs = rng.normal(size=(count + 13, width)) + 0.3
  tensors = torch.from_numpy(ours), torch.from_numpy(theirs)
  options = {
    'kid_subsets': 10, 'kid_subset_size': 30, 'kid_degree': 3,
    'kid_gamma': None, 'kid_coef0': 1, 'kid_kernel': 'poly', 'rng_seed': 2020,
    'prc_neighborhood': 3, 'prc_batch_size': 1000, 'save_cpu_ram': False,
    'verbose': False,
  }  # fmt: skip
  expected = {
    **metric_fid.fid_statistics_to_metric(
      *map(metric_fid.fid_features_to_statistics, tensors), False
    ),
    **metric_isc.isc_features_to_metric(tensors[0]),
    **metric_kid.kid_features_to_metric(*tensors, **options),
    **metric_prc.prc_features_to_metric(*tensors, **options),
  }
  kid = metrics.kid(theirs, ours, subsets=10, subset_size=30)
  score = metrics.inception_score(ours)
  quality = metrics.precision_recall(theirs, ours)
  found = {
    'frechet_inception_distance': metrics.frechet_distance(
      *map(metrics.FeatureStatistics.from_features, (ours, theirs))
    ),
    'inception_score_mean': score.mean,
    'inception_score_std': score.std,
    'kernel_inception_distance_mean': kid.mean,
    'kernel_inception_distance_std': kid.std,
    'precision': quality.precision,
    'recall': quality.recall,
  }
  for name, value in found.items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-6, err_msg=name)
