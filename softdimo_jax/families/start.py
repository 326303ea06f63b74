"""Share of masked entries and noise of x_init, in training and in sampling."""

import flax.struct
import jax
import ml_collections

from softdimo_jax.method import masking


@flax.struct.dataclass
class Start:
  """What x_init is drawn with in one call of a one-step generator.

  Attributes:
    mask_ratio: share of masked entries, one for the batch.
    noise_scale: sigma in [0, 1].
    noise_unit: one of `masking.NOISE_UNITS`.
  """

  mask_ratio: jax.Array | float
  noise_scale: jax.Array | float
  noise_unit: str = flax.struct.field(pytree_node=False)

  @classmethod
  def in_training(
    cls, init: ml_collections.ConfigDict, key: jax.Array, step: jax.Array
  ) -> 'Start':
    """Of the step with this key and index.

    The ratio is drawn once per step (official `random_a_b`).

    Args:
      init: section of a distillation, see `defaults.stages.initial`.
      key: random key, used if the ratio is drawn.
      step: int32, index of the step in its stage.
    """
    ratio, scale = init.mask_ratio, init.noise_scale
    if init.max_mask_ratio is not None:
      ratio = jax.random.uniform(key, minval=ratio, maxval=init.max_mask_ratio)
    if init.noise_ramp:
      scale *= masking.noise_ramp(init.noise_ramp, step, init.noise_ramp_steps)
    return cls(ratio, scale, init.noise_unit)

  @classmethod
  def in_sampling(cls, init: ml_collections.ConfigDict) -> 'Start':
    """At the end of the ramp, with the middle of the range of ratios.

    The official code samples with one ratio: in training with that of the
    step, in its scripts with a given one.
    """
    ratio = init.mask_ratio
    if init.max_mask_ratio is not None:
      ratio = (ratio + init.max_mask_ratio) / 2
    return cls(ratio, init.noise_scale, init.noise_unit)
