"""Parameters of finished, pretrained and unknown stages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import pretrained
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import checkpoint


def filled(shapes, value):
  return jax.tree.map(lambda x: jnp.full(x.shape, value, x.dtype), shapes)


def test_an_auxiliary_that_no_stage_left_starts_from_the_teacher(tmp_path):
  run = Run(tmp_path, digits.get_config('tiny'))
  for stage, value in (('teacher', 1.0), ('dimo', 2.0)):
    tree = {'model': {'a': np.full(2, value)}}
    checkpoint.save_params(run.folder(stage) / 'params', tree)
  np.testing.assert_array_equal(run.params('dimo')['a'], [2, 2])
  np.testing.assert_array_equal(run.params('dimo', 'auxiliary')['a'], [1, 1])


def test_a_stage_that_nothing_names_is_refused(tmp_path):
  config = digits.get_config('tiny')
  config.stages = ('teacher',)
  with pytest.raises(UserError, match='stage tokenizer is read, but neither'):
    Run(tmp_path, config).check_inputs()


def test_the_auxiliary_of_another_run_is_continued(tmp_path):
  family = Run(tmp_path, digits.get_config('tiny')).family
  shapes = jax.eval_shape(family.init, jax.random.key(0))
  load = lambda role: pretrained.load(
    family, 'dimo', 'converted', str(tmp_path / 'dimo'), role
  )
  student, auxiliary = filled(shapes, 1.0), filled(shapes, 2.0)
  tree = {'model': student, 'auxiliary': auxiliary}
  checkpoint.save_params(tmp_path / 'dimo' / 'params', tree)
  jax.tree.map(np.testing.assert_array_equal, load('model'), student)
  jax.tree.map(np.testing.assert_array_equal, load('auxiliary'), auxiliary)
  assert (
    pretrained.load(family, 'dimo', 'rule', '', 'auxiliary') is None
  )  # only students are published
