"""A tiny distillation, and a plain reference implementation of its step.

The reference has no random keys: x_init and the masks are given, sampling takes
the arg max, there is one label, and there is no mask ratio.
"""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from softdimo_jax import families
from softdimo_jax.method import adversarial, divergence, masking
from softdimo_jax.method.soft_embedding import soft_masked_embedding
from softdimo_jax.training.distill.step import Distiller
from softdimo_jax.training.state import Frozen

BATCH, LENGTH, CODES = 3, 4, 8
SIZES = {
  'num_classes': 1,  # labels are not random, either
  'length': LENGTH,
  'width': 16,
  'depth': 2,
  'num_heads': 2,
  'mlp_width': 32,
  'dropout': 0.3,
}
CODER = {'hidden_channels': 8, 'channel_multipliers': (1, 2)}
MODELS = {
  'maskgit': {
    'generator': {'name': 'maskgit', 'vocab_size': CODES, **SIZES},
    'tokenizer': {'name': 'taming_vqgan', 'codebook_size': CODES, **CODER},
  },
  'maskbit': {
    'generator': {'name': 'maskbit', 'num_bits': 6, 'num_groups': 2, **SIZES},
    'tokenizer': {
      'name': 'maskbit', 'embedding_dim': 6, 'num_groups': 2, **CODER
    },
  },
}  # fmt: skip
OPTIMIZER = {
  'learning_rate': 0.05,
  'warmup_steps': 0,
  'decay': 'constant',
  'final_ratio': 1.0,
  'b1': 0.9,
  'b2': 0.999,
  'eps': 1e-8,
  'weight_decay': 0.0,
  'clip_norm': 0.0,
  'moment_dtype': 'float32',
}
STAGE = {
  'steps': 100,
  'batch_size': BATCH,
  'accumulation': 1,
  'ema_decay': 0.9,
  'dropout': False,
  'teacher_dropout': False,
  'temperature': 0.0,
  'guidance_scale': 2.0,
  'init': {
    'mask_ratio': 0.5,
    'max_mask_ratio': None,
    'noise_scale': 0.0,
    'noise_ramp': '',
    'noise_ramp_steps': 10,
    'noise_unit': 'absolute',
  },
  'mask': {'schedule': 'arccos', 'low': 0.0, 'high': 1.0},
  'divergence': {'weight': 0.7, 'beta': 0.3, 'reduction': 'sum', 'chunk': 0},
  'auxiliary': {
    'fresh_sample': False,
    'label_smoothing': 0.1,
    'updates': 1,
    'burn_in': 0,
    'optimizer': OPTIMIZER,
  },
  'gan': {
    'weight': 5.0,
    'loss': 'logistic',
    'fakes': 'soft',
    'relaxation': 'soft',
    'temperature': 1.0,
    'max_mask_ratio': 0.0,
    'updates': 1,
    'taps': (0, 1),
    'width': 6,
    'delay_steps': 10,
    'r1_weight': 0.0,
    'ramp_steps': 10,
    'optimizer': OPTIMIZER,
  },
  'reward': {'weight': 0.0},
  'optimizer': OPTIMIZER,
}
LATE = 50  # the GAN's weight has reached its value

# Compiling takes longer than running.
quick_jit = functools.partial(
  jax.jit,
  compiler_options={
    'xla_backend_optimization_level': 0,
    'xla_cpu_use_fusion_emitters': False,
  },
)


@functools.cache
def build(name):
  return families.build(ml_collections.ConfigDict(MODELS[name]))


@functools.cache
def parameters(name, seed):
  """Parameters of a generator, drawn without the compilations of `init`."""
  generator = build(name).generator
  tokens = jnp.zeros((1, LENGTH, generator.num_groups), jnp.int32)
  shapes = jax.eval_shape(
    generator.init, jax.random.key(0), tokens, tokens[0, :1, 0]
  )
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: jnp.array(0.3 * rng.normal(size=leaf.shape), leaf.dtype),
    shapes['params'],
  )


class Setting:
  """A distiller and its networks, and a plain reference of its step."""

  def __init__(self, name, **changes):
    self.family = build(name)
    # Not type safe: None is a temperature, too.
    self.config = ml_collections.ConfigDict(STAGE, type_safe=False)
    self.config.update_from_flattened_dict(changes)
    self.distiller = Distiller.create(self.family, self.config)
    self.teacher, self.student, self.auxiliary = (
      parameters(name, seed) for seed in range(3)
    )
    rng = np.random.default_rng(0)
    shape = (BATCH, *self.family.token_shape)
    self.initial = rng.integers(0, CODES + 1, shape)
    self.mask = rng.uniform(size=shape) < 0.5
    self.batch = {
      'tokens': rng.integers(0, CODES, shape),
      'label': np.zeros(BATCH, int),
    }

    self._init = quick_jit(self.distiller.init)

  def start(self, step=LATE, student=None):
    student = self.student if student is None else student
    state = self._init(jax.random.key(7), student, self.auxiliary)
    return state.replace(step=jnp.int32(step))

  def run(self, state, mask=None):
    """(state, metrics) after a step with given masks and x_init."""
    mask = self.mask if mask is None else mask
    return self._pinned_step(state, self.teacher, self.initial, mask)

  @functools.cached_property
  def _pinned_step(self):
    @quick_jit
    def step(state, teacher, initial, mask):
      constant = lambda value: lambda *_, **__: value
      with (
        mock.patch.object(masking, 'initial_tokens', constant(initial)),
        mock.patch.object(masking, 'exact_mask', constant(mask)),
      ):
        key = jax.random.key(0)
        return self.distiller.step(state, self.batch, Frozen(teacher), key)

    return step

  def logits(self, trained, tokens):
    """Logits of a trained network, whose frozen part is the teacher's."""
    params = self.family.merge(trained, self.teacher)
    embeddings = self.family.embed(self.teacher, tokens)
    return self.family.backbone(params, embeddings, self.batch['label']).logits

  def sample(self, student):
    """(tokens, masked tokens) from the student's arg max."""
    tokens = self.logits(student, self.initial)[..., :CODES].argmax(-1)
    return tokens, jnp.where(self.mask, CODES, tokens)

  def guided(self, masked):
    embeddings = self.family.embed(self.teacher, masked)
    conditional, unconditional = (
      self.family.backbone(
        self.teacher, embeddings, np.full(BATCH, label)
      ).logits
      for label in (0, self.family.null_label)
    )
    return unconditional + 2.0 * (conditional - unconditional)

  def score(self, heads, embeddings):
    """The heads' logits, without a mask ratio."""
    hidden = self.family.backbone(
      self.teacher, embeddings, self.batch['label']
    ).hidden
    apply = self.distiller.gan_term.heads.apply
    return apply({'params': heads}, hidden, jnp.zeros(BATCH))

  def fake(self, student):
    p = jax.nn.softmax(self.logits(student, self.initial)[..., :CODES])
    return soft_masked_embedding(p, self.family.table(self.teacher), self.mask)

  def generator_loss(self, student, auxiliary, heads):
    _, masked = self.sample(student)
    target = divergence.logit_gradient(
      self.guided(masked), self.logits(auxiliary, masked), beta=0.3
    )
    # The gradient of this product with respect to the logits is the target.
    product = (target * self.logits(student, self.initial)).sum(-1)
    dimo = (self.mask * product).sum() / BATCH
    gan = jax.nn.softplus(-self.score(heads, self.fake(student))).mean()
    return 0.7 * dimo + 5.0 * gan

  def auxiliary_loss(self, auxiliary, student):
    tokens, masked = self.sample(student)
    return divergence.masked_cross_entropy(
      self.logits(auxiliary, masked), tokens, self.mask, label_smoothing=0.1
    )

  def heads_loss(self, heads, student):
    masked = np.where(self.mask, CODES, self.batch['tokens'])
    real = self.family.embed(self.teacher, masked)
    loss, _ = adversarial.discriminator_loss(
      self.score(heads, real), self.score(heads, self.fake(student))
    )
    if self.config.gan.r1_weight:
      slope = jax.grad(lambda x: self.score(heads, x).sum())(real)
      loss += self.config.gan.r1_weight * 0.5 * (slope**2).sum() / BATCH
    return loss


def first_gradient(role):
  """Gradient of the first update, from Adam's first moment."""
  has_moment = lambda state: hasattr(state, 'mu')
  states = jax.tree.leaves(role.opt_state, is_leaf=has_moment)
  moment = next(state.mu for state in states if has_moment(state))
  return jax.tree.map(lambda leaf: leaf / (1 - OPTIMIZER['b1']), moment)


def assert_close(tree, expected):
  """Compares all leaves, to 1e-5 of the largest entry of the whole tree."""
  scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
  assert scale > 0
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale),
    tree,
    expected,
  )
