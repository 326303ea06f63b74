"""A run: its workdir, its configuration, and what follows from the two.

Every stage has a folder in the workdir with its checkpoints, its curves and,
once finished, `params`: the averaged parameters that later stages read. A
stage with `params` is done and never trained again. What a run does not train
itself it takes from `config.pretrained`.
"""

import dataclasses
import functools
import pathlib
import zlib
from collections.abc import Iterable, Mapping, Sequence

import jax
import ml_collections
import numpy as np

from softdimo_jax import families
from softdimo_jax.data import shapes, splits
from softdimo_jax.data.cache.tokens import TokenCache
from softdimo_jax.data.captioned import CaptionedTokens
from softdimo_jax.data.images import streams as images
from softdimo_jax.data.images.source import ImageSource
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import pretrained
from softdimo_jax.experiment.inputs.prompts import Prompted
from softdimo_jax.families.family import Family
from softdimo_jax.generation.text_encoder import TextEncoder
from softdimo_jax.generation.tokens import encode_images
from softdimo_jax.networks.classifier import SmallClassifier
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.networks.rewards.clip import CLIP
from softdimo_jax.ops.preprocess import ImageTransform
from softdimo_jax.rewards.scoring import CLIPReward, Reward
from softdimo_jax.runtime import checkpoint, sharding
from softdimo_jax.training.distill.reward_term import used_terms
from softdimo_jax.training.state import TrainState
from softdimo_jax.types import Params

# Token ids int [N, T] of prompts, or by the name of the reward that reads them.
PromptIds = np.ndarray | Mapping[str, np.ndarray]

_PARAMS = 'params'
# Scenes that are rendered and tokenized at a time.
_ENCODED = 2048


@dataclasses.dataclass(frozen=True)
class Run:
  """A workdir with its configuration; everything else follows from them.

  Attributes:
    workdir: absolute path.
    config: validated configuration.
  """

  workdir: pathlib.Path
  config: ml_collections.ConfigDict

  @functools.cached_property
  def mesh(self) -> jax.sharding.Mesh:
    """Devices that train, of all processes."""
    return sharding.make_mesh(self.config.get('mesh'))

  @property
  def splits_frozen(self) -> bool:
    """Whether devices share what a stage only reads, as they do the state."""
    return 'mesh' not in self.config or self.config.mesh.frozen == 'sharded'

  @functools.cached_property
  def family(self) -> Family:
    """Generator and tokenizer."""
    return families.build(self.config.model)

  @functools.cached_property
  def classifier(self) -> SmallClassifier:
    """Module of the feature space and of the label judge."""
    return SmallClassifier(**self.config.classifier)

  @property
  def streams(self) -> bool:
    """Whether the data is read from disk: its configuration names tokens."""
    return 'tokens' in self.config.data

  @functools.cached_property
  def images(self) -> tuple[splits.ImageSplit, splits.ImageSplit]:
    """(train, held-out) images, of data that fits into memory."""
    return splits.load_splits(self.config.data, self.family.image_shape)

  @functools.cached_property
  def tokens(self) -> np.ndarray:
    """Tokens int32 [N, L, G] of the training images in memory."""
    return encode_images(
      self.family, self.params('tokenizer'), self.images[0].images
    )

  @functools.cached_property
  def token_cache(self) -> TokenCache:
    """Tokens on disk, of this run's tokenizer.

    Raises:
      UserError: if there are none, or they are another tokenizer's.
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
    return cache

  @functools.cached_property
  def source(self) -> ImageSource:
    """Images on disk, of data that is streamed."""
    data = self.config.data
    return images.open_source(
      data.name,
      split=data.split or None,
      data_dir=data.dir or None,
      channels=self.family.image_shape[2],
    )

  # Text to image: prompts of any text, or scenes that are rendered here.

  @property
  def reads_prompts(self) -> bool:
    """Whether prompts come as features on disk: `data` names them."""
    return 'prompts' in self.config.data

  @functools.cached_property
  def prompted(self) -> Prompted:
    """What reads the prompts of such a run."""
    return Prompted(self.config, self.family)

  @functools.cached_property
  def world(self) -> shapes.World:
    """Sizes of the scenes."""
    return shapes.World(**self.config.data.world)

  @functools.cached_property
  def scenes(self) -> shapes.ShapesSource:
    """Training scenes with captions."""
    data = self.config.data
    return shapes.ShapesSource(
      world=self.world, seed=data.seed, num_examples=data.num_examples
    )

  @functools.cached_property
  def captioned(self) -> CaptionedTokens:
    """Tokens of all training scenes, right and wrong, with their captions."""
    params = self.params('tokenizer')
    encode = lambda images: encode_images(self.family, params, images)
    parts = []
    for start in range(0, len(self.scenes), _ENCODED):
      index = np.arange(start, min(start + _ENCODED, len(self.scenes)))
      pairs = self.scenes.gather_pairs(index)
      parts.append(
        (
          encode(pairs['image']),
          pairs['prompt_ids'],
          encode(pairs['wrong_image']),
          pairs['wrong_prompt_ids'],
        )
      )
    return CaptionedTokens(*map(np.concatenate, zip(*parts, strict=True)))

  @functools.cached_property
  def clip(self) -> CLIP:
    """Module of the rewards; its text tower reads the generator's prompts."""
    return families.build_clip(self.config.image_tower, self.family)

  @functools.cached_property
  def clip_reward(self) -> CLIPReward:
    """Cosine of image and prompt."""
    size = self.clip.image.resolution
    return CLIPReward(module=self.clip, transform=ImageTransform(size=size))

  @property
  def scaled_clip_reward(self) -> CLIPReward:
    """Cosine times the learnt scale."""
    return dataclasses.replace(self.clip_reward, scaled=True)

  @property
  def trained_rewards(self) -> dict[str, CLIPReward]:
    """By name; a reward has the name of the stage that trains it."""
    kinds = (
      {
        'contrastive': self.clip_reward,
        'preference': self.scaled_clip_reward,
      }
      if self.family.reads_text
      else {}
    )
    return {
      name: kinds[self.config[name].kind]
      for name in self.config.stages
      if self.config[name].kind in kinds
    }

  def rewards(self, names: Iterable[str]) -> dict[str, Reward]:
    """Rewards by name: released ones, or those that the run trains."""
    names = tuple(names)
    if self.reads_prompts and names:
      return dict(self.prompted.rewards(names).rewards)
    return {name: self.trained_rewards[name] for name in names}

  def reward_params(self, names: Iterable[str]) -> dict[str, Params]:
    """Parameters of rewards, by name."""
    if self.reads_prompts:
      return self.prompted.rewards(names).load_params()
    return {name: self.params(name) for name in names}

  def text_features(self, prompt_ids: np.ndarray) -> TextCondition:
    """Condition of token ids of prompts, int [N, T]; arrays of the host."""
    if self.reads_prompts:
      return self.prompted.encode(prompt_ids)
    params = self.params(self.config.data.text_stage)['text']
    return TextEncoder(self.family, params, _ENCODED)(prompt_ids)

  def read(
    self, texts: Sequence[str], rewarded: Iterable[str] = ()
  ) -> tuple[np.ndarray, PromptIds | None]:
    """Prompts as the text tower reads them, and as these rewards do.

    Raises:
      UserError: for prompts that cannot be understood, and for a vocabulary
        that is not there.
    """
    if not self.reads_prompts:
      prompt_ids = shapes.tokenize_all(texts)
      return prompt_ids, prompt_ids
    names = tuple(rewarded)
    prompt_ids = self.prompted.prompt_ids(texts, names) if names else None
    return self.prompted.ids(texts), prompt_ids

  @functools.cached_property
  def null_condition(self) -> TextCondition | None:
    """Of the unconditional prompt, a batch of 1; None for labels."""
    if not self.family.reads_text:
      return None
    if self.reads_prompts:
      return self.prompted.null
    return self.text_features(shapes.null_tokens()[None])

  def check_inputs(self) -> None:
    """Finds what is missing before anything is trained or written.

    Raises:
      UserError: for weights or data that are not there, or do not fit.
    """
    made_up = self.config.get('weights') == 'rule'
    if not made_up:
      for stage in sorted(self._needed):
        self.params(stage)
    if self.reads_prompts:
      self._check_prompts()
      return
    if self.family.reads_text:
      _ = self.scenes
      return
    if not self.streams:
      if self.left:
        _ = self.images
      return
    if 'tokenizer' in {self.config[name].kind for name in self.left}:
      _ = self.source
    if any(map(self._reads_tokens, self.left)) and not made_up:
      _ = self.token_cache

  @property
  def left(self) -> tuple[str, ...]:
    """Stages still to be trained, in order."""
    return tuple(x for x in self.config.stages if not self.done(x))

  @property
  def _needed(self) -> set[str]:
    """Stages that stages to be trained read from elsewhere."""
    kinds = {name: self.config[name].kind for name in self.left}
    needed = {'tokenizer'} if any(map(self._reads_tokens, self.left)) else set()
    if self.reads_prompts:  # without these two nobody can sample from it
      needed = {'tokenizer', 'text'}
    if not self.config.stages:  # all that is there to run
      needed |= set(self.config.pretrained) - {'teacher', 'dimo'}
    for name, kind in kinds.items():
      if kind == 'distill':
        needed |= {'teacher', self.config[name].start}
    return needed - set(self.config.stages)

  def _check_prompts(self) -> None:
    if self.left and not self.prompted.made_up:
      _ = self.prompted.cache
    rewarded = {
      name
      for stage in self.left
      for name in used_terms(self.config[stage].reward)
    }
    if rewarded:
      _ = self.rewards(rewarded)

  def _reads_tokens(self, stage: str) -> bool:
    config = self.config[stage]
    return config.kind == 'teacher' or (
      config.kind == 'distill' and config.gan.weight > 0
    )

  def folder(self, stage: str) -> pathlib.Path:
    """Where a stage keeps its files."""
    return self.workdir / stage

  def done(self, stage: str) -> bool:
    """Whether the stage has left its parameters."""
    return (self.folder(stage) / _PARAMS).exists()

  def params(self, stage: str, role: str = 'model') -> Params:
    """Parameters that a finished stage left.

    Args:
      stage: its name.
      role: 'model' is the average of what the stage trained, a whole
        generator for teacher and distillation; 'auxiliary' is the whole
        auxiliary generator of a distillation.

    Raises:
      UserError: if the stage is not finished, or a file is missing, corrupt
        or of another model.
    """
    if stage in self.config.stages:
      return checkpoint.load_params(self.folder(stage) / _PARAMS)[role]
    # Only the student of a distillation is published: its auxiliary starts
    # from the teacher again, as in Alg. 1.
    stage = 'teacher' if role == 'auxiliary' else stage
    config = self.config
    return pretrained.load(
      self.family, stage, config.weights, config.pretrained[stage]
    )

  def export(self, stage: str, state: TrainState) -> None:
    """Writes what later stages and users read; marks the stage as done."""
    tree = {'model': state.model.ema}
    if self.config[stage].kind == 'distill':
      frozen = self.params('teacher')
      tree['model'] = self.family.merge(state.model.ema, frozen)
      if state.auxiliary is not None:
        trained = state.auxiliary.params
        tree['auxiliary'] = self.family.merge(trained, frozen)
    checkpoint.save_params(self.folder(stage) / _PARAMS, tree)

  def seed(self, stage: str) -> int:
    """Seed of a stage: of its name and its own seed, else the run's."""
    seed = self.config[stage].get('seed', self.config.seed)
    return zlib.crc32(f'{stage}/{seed}'.encode())
