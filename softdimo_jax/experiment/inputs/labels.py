"""Class-conditional data, in memory or on disk."""

import functools
from collections.abc import Iterable

import grain
import numpy as np

from softdimo_jax.convert.rule_weights import RULE
from softdimo_jax.data import splits
from softdimo_jax.data.cache.tokens import TokenCache
from softdimo_jax.data.images import streams
from softdimo_jax.data.images.source import ImageSource
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks.labels_judge import Judge
from softdimo_jax.experiment.inputs.interface import Conditions, Draw, Inputs
from softdimo_jax.experiment.inputs.synthetic import random_tokens
from softdimo_jax.generation.tokens import encode_images
from softdimo_jax.networks.classifier import SmallClassifier


class _Labels(Inputs):
  """Common part of all data with class labels."""

  def validate(self) -> None:
    """See `Inputs.validate`; there is nothing left to check."""

  def conditions(
    self, requested: Iterable[int], rewards: Iterable[str] = ()
  ) -> Conditions:
    """Conditions of labels; see `Inputs.conditions`."""
    labels, classes = list(requested), self.family.null_label
    outside = [label for label in labels if not 0 <= label < classes]
    if outside:
      raise UserError(
        f'label {outside[0]} is out of range; this run has 0 to {classes - 1}'
      )
    self.rewards(rewards)
    return Conditions(
      names=tuple(map(str, labels)),
      inputs=np.array(labels, np.int32),
      encode=lambda labels: labels,
    )


class LabelsInMemory(_Labels):
  """A data set that is held and tokenized in memory."""

  @property
  def judges(self) -> tuple[str, ...]:
    """See `Inputs.judges`."""
    return ('features', 'judge')

  @functools.cached_property
  def splits(self) -> tuple[splits.ImageSplit, splits.ImageSplit]:
    """(training, held-out) images.

    Raises:
      UserError: if they are missing, or if their classes are not those of the
        generator and of the classifiers.
    """
    found = splits.load_splits(self.config.data, self.family.image_shape)
    classes = found[0].classes
    counts = {'model.generator': self.family.null_label}
    if 'classifier' in self.config:
      counts['classifier'] = self.config.classifier.num_classes
    for field, count in counts.items():
      if count != len(classes):
        raise UserError(
          f'config.data.name={self.config.data.name} has {len(classes)} '
          f'classes, but config.{field}.num_classes={count}; set it to '
          f'{len(classes)}'
        )
    return found

  @functools.cached_property
  def training_tokens(self) -> np.ndarray:
    """Tokens int32 [N, L, G] of the training images."""
    return encode_images(
      self.family, self.params('tokenizer'), self.splits[0].images
    )

  @functools.cached_property
  def classifier(self) -> SmallClassifier:
    """Module of both the feature network and the label judge."""
    return SmallClassifier(**self.config.classifier)

  @functools.cached_property
  def judge(self) -> Judge:
    """Judge of the curves and of the report; needs its two classifiers."""
    return Judge(
      classifier=self.classifier,
      feature_params=self.params('features'),
      label_params=self.params('judge'),
      images=self.splits[0].images,
      tokens=self.training_tokens,
    )

  def check(self, kinds: Iterable[str], reads_tokens: bool) -> None:
    """See `Inputs.check`."""
    if list(kinds):
      _ = self.splits

  def images(self, draw: Draw) -> grain.DatasetIterator:
    """See `Inputs.images`."""
    split = self.splits[0]
    return draw.arrays({'image': split.images, 'label': split.labels})

  def tokens(
    self, draw: Draw, rewards: Iterable[str] = ()
  ) -> grain.DatasetIterator:
    """See `Inputs.tokens`."""
    labels = self.splits[0].labels
    return draw.arrays({'tokens': self.training_tokens, 'label': labels})


class LabelsOnDisk(_Labels):
  """Images streamed from disk for the tokenizer; else a token cache."""

  @functools.cached_property
  def source(self) -> ImageSource:
    """The images."""
    data = self.config.data
    return streams.open_source(
      data.name,
      split=data.split or None,
      data_dir=data.dir or None,
      channels=self.family.image_shape[2],
    )

  @functools.cached_property
  def cache(self) -> TokenCache:
    """Cached tokens of this run's tokenizer.

    Raises:
      UserError: if there are none, or they are of another tokenizer or have
        labels that the generator does not have.
    """
    folder = self.config.data.tokens
    if not folder:
      raise UserError(
        'config.data.tokens names no token cache: write one (python -m '
        f'softdimo_jax.tokenize_dataset --data={self.config.data.name} '
        '--tokenizer=DIR --out=CACHE) and give --config.data.tokens=CACHE, '
        'or try the run with --config.weights=rule'
      )
    cache = TokenCache(folder)
    cache.check_tokenizer(self.family.tokenizer, self.params('tokenizer'))
    cache.check_labels(self.family.null_label)
    return cache

  def check(self, kinds: Iterable[str], reads_tokens: bool) -> None:
    """See `Inputs.check`."""
    if 'tokenizer' in kinds:
      _ = self.source
    if reads_tokens and not self._synthetic:
      _ = self.cache

  def images(self, draw: Draw) -> grain.DatasetIterator:
    """See `Inputs.images`."""
    return streams.image_batches(
      self.source,
      draw.batch_size,
      draw.seed,
      self.family.image_shape[0],
      self.config.data.augment,
      rows=draw.rows,
    )

  def tokens(
    self, draw: Draw, rewards: Iterable[str] = ()
  ) -> grain.DatasetIterator:
    """See `Inputs.tokens`."""
    if self._synthetic:
      return draw.arrays(random_tokens(self.family))
    return self.cache.batches(draw.batch_size, draw.seed, draw.rows)

  @property
  def _synthetic(self) -> bool:
    return self.config.get('weights') == RULE
