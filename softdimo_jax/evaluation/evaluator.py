"""Evaluation of image sets: networks, reference, metrics and protocol."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from softdimo_jax.convert import weights as official
from softdimo_jax.data.prompts.cut import warn_of_cut
from softdimo_jax.data.prompts.text_tokens import DIMO_PREFIX, CLIPTokenizer
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation import measure
from softdimo_jax.evaluation.features import clip as embeddings
from softdimo_jax.evaluation.features import probes
from softdimo_jax.evaluation.features.probes import Probe
from softdimo_jax.evaluation.features.store import FeatureStore
from softdimo_jax.evaluation.measure import Features, Options, Row
from softdimo_jax.evaluation.reference import ReferenceSet
from softdimo_jax.evaluation.sets.images import ImageSet
from softdimo_jax.evaluation.sets.reference_file import save_reference
from softdimo_jax.networks.inception import Inception
from softdimo_jax.networks.rewards.clip import openai_vit_b
from softdimo_jax.runtime.preemption import PreemptionNotice

# Protocols of the CLIP score: (image preparation, prefix of the prompts).
CLIP_PROTOCOLS: Mapping[str, tuple[str, str]] = {
  'dimo': ('dimo', DIMO_PREFIX),
  'plain': ('open_clip', ''),
}
_CMMD_PREPARATION = 'crop'
_FEATURES = 'features'
# Gain of synthetic Inception weights; at 1, features hardly differ by image.
_KERNEL_GAIN = 1.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
  """Metrics to compute, and the networks and options to use.

  Attributes:
    metrics: names in `measure.METRICS`.
    out: folder for features and results.
    reference: .npz file or folder of images; None if no metric needs one.
    resize: name in `probes.RESIZES`.
    inception: weights of Inception, see `convert.weights`.
    clip: weights of the CLIP of the CLIP score, likewise.
    cmmd_clip: weights of the CLIP of CMMD, likewise.
    clip_vocabulary: vocabulary of CLIP: 'openai', folder, Hub id or 'rule'.
    clip_protocol: name in `CLIP_PROTOCOLS`.
    batch_size: images per pass.
    options: hyper-parameters of the metrics.
  """

  metrics: tuple[str, ...]
  out: pathlib.Path
  reference: str | None = None
  resize: str = 'tensorflow'
  inception: str = ''
  clip: str = ''
  cmmd_clip: str = ''
  clip_vocabulary: str = ''
  clip_protocol: str = 'dimo'
  batch_size: int = 64
  options: Options = dataclasses.field(default_factory=Options)

  def check(self, has_prompts: bool) -> None:
    """Checks for missing options before anything is loaded.

    Raises:
      UserError: naming the flag.
    """
    for name in self.metrics:
      if name not in measure.METRICS:
        raise UserError(
          f'--metrics={name} is unknown; choose from '
          f'{", ".join(measure.METRICS)}'
        )
    if not self.metrics:
      raise UserError(
        f'--metrics is empty; choose from {", ".join(measure.METRICS)}'
      )
    compared = [x for x in self.metrics if x in measure.OF_REFERENCE]
    if compared and not self.reference:
      raise UserError(
        f'{compared[0]} needs a reference: give --reference, an .npz file or a '
        'folder of images'
      )
    if 'clip_score' in self.metrics and not has_prompts:
      raise UserError('clip_score needs the prompts: give --prompts')
    for flag, needed, family in (
      ('inception', set(self.metrics) & measure.OF_INCEPTION, 'inception'),
      ('clip', 'clip_score' in self.metrics, 'clip'),
      ('cmmd_clip', 'cmmd' in self.metrics, 'clip'),
    ):
      if needed and not getattr(self, flag):
        raise UserError(
          f'--{flag} names no weights: give a folder written by python -m '
          f'softdimo_jax.convert --family={family}, an official file, a Hub '
          "id, or 'rule' to try the command with synthetic weights"
        )


class Evaluator:
  """Computes metrics of image sets, with networks that are loaded once."""

  def __init__(self, request: EvaluationRequest, notice: PreemptionNotice):
    """Loads the networks and opens the reference.

    Raises:
      UserError: if weights, vocabulary or reference are missing or do not fit.
    """
    self._request, self._notice = request, notice
    self._root = request.out / _FEATURES
    self._probes = dict(self._make_probes())

  def _make_probes(self) -> Iterator[tuple[str, Probe]]:
    request = self._request
    size = request.batch_size
    if set(request.metrics) & measure.OF_INCEPTION:
      weights = _weights('inception', request.inception, Inception)
      yield 'inception', probes.inception_probe(weights, request.resize, size)
    if 'clip_score' in request.metrics:
      preparation, _ = CLIP_PROTOCOLS[request.clip_protocol]
      weights = _weights('clip', request.clip, openai_vit_b)
      yield 'clip', probes.clip_probe(weights, preparation, size)
    if 'cmmd' in request.metrics:
      weights = _weights('cmmd_clip', request.cmmd_clip, openai_vit_b)
      yield 'cmmd', probes.clip_probe(weights, _CMMD_PREPARATION, size)

  def evaluate(
    self,
    images: ImageSet,
    prompts: Sequence[str] | None = None,
    title: str = 'features',
  ) -> Row:
    """Computes the metrics of one set.

    Args:
      images: set of N images.
      prompts: N prompts, for the CLIP score.
      title: title of the progress line.

    Returns:
      Metrics by name, `num_images`, and the `protocol` behind the values.

    Raises:
      Preempted: after a signal; finished features are kept.
      UserError: for images, a reference or prompts that do not fit.
    """
    size = images.size()
    reference = self._reference(size)
    measure.check_counts(
      self._request.metrics,
      len(images),
      None if reference is None else reference.count,
      self._request.options,
    )
    views = {
      name: (probe, probe.store(self._root, images))
      for name, probe in self._probes.items()
    }
    probes.extract(images, list(views.values()), self._notice, title)
    stores = {name: store for name, (_, store) in views.items()}
    embedded, prompt_ids_sha256 = self._prompt_features(prompts, len(images))
    features = Features(
      **stores,
      prompts=embedded,
      reference=reference,
      **self._reference_features(reference),
    )
    row, failures = measure.measure(
      self._request.metrics, features, self._request.options
    )
    if failures and not row:
      raise UserError('; '.join(failures))
    for sentence in failures:
      logging.warning('%s; the other metrics are', sentence)
    return row | {
      'num_images': len(images),
      'protocol': self._protocol(images, size, reference)
      | {'prompt_ids_sha256': prompt_ids_sha256},
    }

  def save_reference(self, images: ImageSet, path: pathlib.Path) -> None:
    """Writes the moments of an evaluated set as a reference file."""
    probe = self._probes['inception']
    store = probe.store(self._root, images)
    save_reference(
      path,
      pool=store.moments('vectors'),
      spatial=store.moments('spatial'),
      protocol={
        'network': dict(probe.fingerprint),
        'images': images.fingerprint,
        'image_size': list(images.size()),
      },
    )

  def _reference(self, size: tuple[int, int]) -> ReferenceSet | None:
    """The reference, checked to be comparable with images of this size."""
    request = self._request
    if not self._compared or request.reference is None:
      return None
    probe = self._probes.get('inception')
    widths = {} if probe is None else probe.widths(size)
    reference = ReferenceSet.open(request.reference, widths=widths)
    fingerprint = {} if probe is None else probe.fingerprint
    # CLIP's preparations and the crop bring any image to one size.
    any_size = probe is None or request.resize == 'crop'
    reference.check(size, fingerprint, any_size=any_size)
    for name in self._compared:
      reference.needs_images(name)
    return reference

  @property
  def _compared(self) -> list[str]:
    return [x for x in self._request.metrics if x in measure.OF_REFERENCE]

  def _reference_features(
    self, reference: ReferenceSet | None
  ) -> dict[str, FeatureStore]:
    """Features of the reference images, if a metric needs them."""
    if reference is None or reference.images is None:
      return {}
    images = reference.images
    metrics = {x for x in self._compared if reference.needs_images(x)}
    needed = {
      'inception': bool(metrics & measure.OF_INCEPTION),
      'cmmd': 'cmmd' in metrics,
    }
    views = {
      f'reference_{name}': (probe, probe.store(self._root, images))
      for name, probe in self._probes.items()
      if needed.get(name)
    }
    if views:
      probes.extract(images, list(views.values()), self._notice, 'reference')
    return {name: store for name, (_, store) in views.items()}

  def _prompt_features(
    self, prompts: Sequence[str] | None, count: int
  ) -> tuple[np.ndarray | None, str | None]:
    """CLIP features of the prompts, and the digest of their token ids.

    Repeated prompts are encoded once. The ids tell prompts, prefix and
    vocabulary at once.
    """
    if 'clip' not in self._probes:
      return None, None
    prompts = prompts or ()
    if len(prompts) != count:
      raise UserError(
        f'{count} images need {count} prompts, but --prompts has {len(prompts)}'
      )
    network = self._probes['clip'].network
    _, prefix = CLIP_PROTOCOLS[self._request.clip_protocol]
    tokenizer = CLIPTokenizer.load(
      self._request.clip_vocabulary,
      clean='openai',
      prefix=prefix,
      length=network.module.text.length,
    )
    unique, inverse = np.unique(np.array(prompts), return_inverse=True)
    tokens = tokenizer(unique.tolist())
    num_cut = int(tokens.cut[inverse].sum())
    warn_of_cut(num_cut, count, tokens.ids.shape[1], 'the CLIP of the score')
    features = embeddings.embed_prompts(
      network.module, network.params, tokens.ids
    )
    digest = hashlib.sha256(tokens.ids[inverse].tobytes()).hexdigest()
    return features[inverse], digest

  def _protocol(
    self,
    images: ImageSet,
    size: tuple[int, int],
    reference: ReferenceSet | None,
  ) -> dict[str, Any]:
    request = self._request
    return {
      'num_images': len(images),
      'image_size': list(size),
      'left_out': images.left_out,
      'images': images.fingerprint,
      'networks': {
        name: probe.fingerprint for name, probe in self._probes.items()
      },
      'reference': None if reference is None else reference.metadata,
      'clip_prefix': (
        CLIP_PROTOCOLS[request.clip_protocol][1]
        if 'clip' in self._probes
        else None
      ),
      **dataclasses.asdict(request.options),
    }


def _weights(
  flag: str, where: str, default: Callable[[], Any]
) -> official.Weights:
  family = 'inception' if flag == 'inception' else 'clip'
  try:
    return official.find(
      where, family, default=default, kernel_gain=_KERNEL_GAIN
    )
  except UserError as error:
    raise UserError(f'--{flag}: {error}') from error
