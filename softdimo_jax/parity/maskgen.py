"""Fixtures of the generator MaskGen-VQ and its sampler."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert import official
from softdimo_jax.convert.maskgen import convert_maskgen
from softdimo_jax.method import divergence
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.networks.generators.maskgen import MaskGenTransformer
from softdimo_jax.networks.joint_block import JointBlock
from softdimo_jax.parity import record
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays, Params

# The score of `logits_aes`, which the fixtures' descriptions state.
_OTHER_SCORE = 4.0


def maskgen_generator(fixture: Fixture) -> Arrays:
  """`MaskGen_VQ` in evaluation mode, its loss and its soft path."""
  module = official.maskgen(fixture.config['model_config'])
  params, _ = convert_maskgen(fixture.state_dict(), module)
  run = functools.partial(_generator, module, fixture)
  return record.compiled(run)(params)


def _prompts(arrays: Arrays) -> TextCondition:
  return TextCondition(arrays['condition'], arrays['pooled'][:, 0])


def _null(arrays: Arrays) -> TextCondition:
  return TextCondition(arrays['null_condition'], arrays['null_pooled'][:, 0])


def _generator(
  module: MaskGenTransformer, fixture: Fixture, params: Params
) -> dict[str, jax.Array]:
  arrays = fixture.arrays
  bound = module.bind({'params': params})
  tokens = arrays['tokens'][..., None]
  condition = _prompts(arrays).replace(micro=arrays['aesthetic'][:, None])
  output = bound(tokens, condition)
  soft = record.soft_path(
    lambda embeddings: bound.backbone(embeddings, condition).logits,
    bound.table(),
    arrays['soft_z'][:, :, None],
    arrays['soft_cot'][:, :, None],
    arrays['soft_mask'][:, :, None] == 1,
  )
  logits = {
    'logits': output.logits,
    **_other_conditions(module, params, tokens, condition, _null(arrays)),
    'soft_logits': soft[1],
    'soft_grad_z': soft[2],
  }
  return {
    **{name: value[:, :, 0] for name, value in logits.items()},
    **_intermediates(module, params, tokens, condition, output.hidden),
    **_losses(fixture, output.logits),
  }


def _other_conditions(
  module: MaskGenTransformer,
  params: Params,
  tokens: np.ndarray,
  condition: TextCondition,
  null: TextCondition,
) -> dict[str, jax.Array]:
  """Logits without text, with text for some, and under another score."""
  first = np.arange(len(tokens)) == 0
  score = jnp.full_like(condition.micro, _OTHER_SCORE)
  conditions = {
    'logits_null': condition.dropped(np.ones_like(first), null),
    'logits_half': condition.dropped(first, null),
    'logits_aes': condition.replace(micro=score),
  }
  return {
    name: module.apply({'params': params}, tokens, other).logits
    for name, other in conditions.items()
  }


def _intermediates(
  module: MaskGenTransformer,
  params: Params,
  tokens: np.ndarray,
  condition: TextCondition,
  hidden: jax.Array,
) -> dict[str, jax.Array]:
  bound = module.bind({'params': params})
  modulator = bound.modulator(condition)
  image = bound.sequence(bound.embed(tokens))
  text = bound.text_in(condition.states)
  ours = {
    'x_in': image,
    'txt_in': text,
    'temb': modulator,
    'blk0_img': hidden[0],
    'blk_last_img': hidden[-1],
    'final_norm': bound.last_layer(hidden[-1], modulator),
  }
  if module.micro_width:
    ours['micro'] = bound.score_features(condition.micro[:, 0])
  if module.depth > 1:
    # The scan returns no text: the first block runs once more, on its own.
    first = jax.tree.map(lambda leaf: leaf[0], params['layers'])
    block = JointBlock(module.num_heads, module.mlp_width)
    (_, ours['blk0_txt']), _ = block.apply(
      {'params': first}, (image, text), nn.silu(modulator)
    )
  return ours


def _losses(fixture: Fixture, logits: jax.Array) -> dict[str, jax.Array]:
  losses = fixture.config['model_config']['losses']
  targets = fixture.arrays['targets'][..., None]
  mask = fixture.arrays['loss_mask'][..., None] == 1
  loss = divergence.masked_cross_entropy(
    logits,
    targets,
    mask,
    label_smoothing=losses['label_smoothing'],
    unmasked_weight=losses['loss_weight_unmasked_token'],
  )
  right = logits.argmax(-1) == targets
  # The official share is a mean over each sample's tokens, then over samples.
  share = (right & mask).sum((1, 2)) / (mask.sum((1, 2)) + 1e-8)
  return {'loss': loss, 'loss_correct': share.mean()}
