"""A run of three short stages that is not evaluated, for interruptions."""

from configs import digits


def get_config():
  """Digits that learn nothing, split over devices along two axes."""
  config = digits.get_config('tiny')
  config.stages = ('tokenizer', 'teacher', 'dimo')
  del config.evaluation
  config.mesh.fsdp = 2
  config.tokenizer.steps = config.teacher.steps = 5
  config.dimo.steps = 150
  config.loop.checkpoint_every = 1000
  config.loop.log_every = 1
  return config
