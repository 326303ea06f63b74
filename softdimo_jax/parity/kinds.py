"""The table of functions that compute the arrays of fixtures."""

from collections.abc import Callable

from softdimo_jax.parity import (
  benchmarks,
  clip,
  diffusers_vq,
  generators,
  google,
  inception,
  maskgen,
  meissonic,
  metrics,
  preprocess,
  rewards,
  samplers,
  schedules,
  tatitok,
  text,
  text_tokens,
  tokenizers,
)
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays

Compute = Callable[[Fixture], Arrays]

# Kind -> (part of the official class's name, function).
_KINDS: dict[str, tuple[str, Compute]] = {
  'maskgit_transformer': (
    'MaskGit_src/Network/transformer.py',
    generators.maskgit_transformer,
  ),
  'maskgit_vqgan': (
    'MaskGit_src/Network/Taming/',
    tokenizers.maskgit_vqgan,
  ),
  'maskgit_sampler': (
    'MaskGit_src/Trainer/vit.py',
    samplers.maskgit_sampler,
  ),
  'maskbit_generator': (
    'modeling/bert.py',
    generators.maskbit_generator,
  ),
  'maskbit_tokenizer': (
    'modeling/conv_vqgan.py',
    tokenizers.maskbit_tokenizer,
  ),
  'maskbit_sampler': (
    'modeling/modules/sampling.py',
    samplers.maskbit_sampler,
  ),
  'google_transformer': (
    'maskgit/nets/maskgit_transformer.py',
    google.google_transformer,
  ),
  'google_tokenizer': (
    'maskgit/nets/vqgan_tokenizer.py',
    tokenizers.google_tokenizer,
  ),
  # Before the generator, whose class is part of this name.
  'maskgen_sampler': (
    'modeling/maskgen.py:MaskGen_VQ.generate',
    maskgen.maskgen_sampler,
  ),
  'maskgen_generator': (
    'modeling/maskgen.py:MaskGen_VQ',
    maskgen.maskgen_generator,
  ),
  'tatitok': ('modeling/tatitok.py:TATiTok', tatitok.tatitok),
  'meissonic_transformer': (
    'src/transformer.py:Transformer2DModel',
    meissonic.meissonic_transformer,
  ),
  'meissonic_vq': (
    'models/autoencoders/vq_model.py:VQModel',
    diffusers_vq.meissonic_vq,
  ),
  'meissonic_scheduler': (
    'src/scheduler.py:Scheduler',
    meissonic.meissonic_scheduler,
  ),
  'clip_text': ('CLIPTextModelWithProjection', text.clip_text),
  'openclip_text': ('maskgen.py:open_clip_text_encoding', text.openclip_text),
  'clip_model': ('transformers.CLIPModel', clip.clip_model),
  'openclip_model': ('open_clip.model.CLIP', clip.openclip_model),
  'blip_imagereward': (
    'ImageReward.ImageReward',
    rewards.image_reward,
  ),
  'aesthetic_head': ('MLP(768)', rewards.aesthetic_head),
  'bert_tokenizer': ('BertTokenizer', text_tokens.bert_tokenizer),
  'clip_tokenizer': ('tokenizers', text_tokens.clip_tokenizer),
  'class_schedules': ('mask schedules', schedules.class_schedules),
  'metrics': ('toshas/torch-fidelity', metrics.metrics_of_sets),
  'preprocess': ('ReNO', preprocess.image_transforms),
  'fid_inception': (
    'FeatureExtractorInceptionV3',
    inception.fid_inception,
  ),
  'geneval_rules': ('evaluate_image', benchmarks.geneval_rules),
}


def find(fixture: Fixture) -> Compute | None:
  """Function for the fixture's official class, or None if there is none.

  If the class is unknown, the fixture's name decides: KIND, or KIND with a
  suffix.
  """
  for source, compute in _KINDS.values():
    if source in fixture.official:
      return compute
  for kind, (_, compute) in _KINDS.items():
    if fixture.name.startswith(kind):
      return compute
  return None
