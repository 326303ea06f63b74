"""The configuration of the recorded run: every kind of stage, tiny networks."""

from configs import digits


def get_config():
  """`digits:tiny` at widths whose checkpoints are small files."""
  config = digits.get_config('tiny')
  config.model.generator.update(width=16, num_heads=2, mlp_width=16)
  config.model.tokenizer.update(
    hidden_channels=4, latent_channels=4, num_norm_groups=2
  )
  config.classifier.update(widths=(4, 8), feature_width=8)
  for stage in ('dimo', 'softdimo'):
    config[stage].gan.width = 16
    config[stage].guidance_scale = 1.0
  config.dimo.optimizer.learning_rate = 5e-4
  config.softdimo.optimizer.learning_rate = 1.5e-4
  config.softdimo.gan.update(delay_steps=4, ramp_steps=4)
  config.softdimo.steps = 150
  config.loop.checkpoint_every = 1000
  config.evaluation.guidance_scales = (1.0,)
  return config
