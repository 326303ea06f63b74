"""FID and other metrics for images of a run, or from any other source.

  python -m softdimo_jax.evaluate --workdir=DIR --metrics=fid,is,pr \
    --reference=FILE --inception=WEIGHTS --num=50000
  python -m softdimo_jax.evaluate --images=FOLDER --metrics=fid --inception=W \
    --reference=FILE

Prints a table and writes results.json, with the protocol behind every number,
to --out. Features are stored there too: repeating the command continues an
interrupted evaluation, and metrics added later reuse them. docs/evaluation.md
describes the published protocols. Exit codes: see `softdimo_jax.runtime.cli`.
"""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import flags

from softdimo_jax.data.prompts import pairs
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation import measure
from softdimo_jax.evaluation.evaluator import (
  CLIP_PROTOCOLS,
  EvaluationRequest,
  Evaluator,
)
from softdimo_jax.evaluation.features import probes
from softdimo_jax.evaluation.measure import Options, Row
from softdimo_jax.evaluation.report import table
from softdimo_jax.evaluation.sets.images import (
  ImageSet,
  open_images,
)
from softdimo_jax.experiment import config, network_flags, sampling_flags
from softdimo_jax.runtime import bounds, cli, flag_types, lock
from softdimo_jax.runtime.files import write_atomically
from softdimo_jax.runtime.preemption import PreemptionNotice

_METRICS = flags.DEFINE_list(
  'metrics',
  ['fid'],
  f'Metrics to compute, any of {", ".join(measure.METRICS)}.',
)
_IMAGES = flag_types.path(
  'images', None, 'Folder or .npz file of images, instead of --workdir.'
)
_REFERENCE = flag_types.path(
  'reference',
  None,
  'Reference: an .npz file of statistics or images, or a folder of images.',
)
_NUM = flag_types.count(
  'num',
  None,
  'Number of images; default: 50000 for a run, all for --images.',
)
_TEMPERATURES = flag_types.number_list(
  'temperatures',
  'Sampling temperatures, one row each, e.g. 1,2,4,7.',
  bounds.TEMPERATURE,
)
_OUT = flag_types.output(
  'out', None, 'Output folder; default: WORKDIR/evaluation or evaluation.'
)
_RESIZE = flags.DEFINE_enum(
  'resize',
  'tensorflow',
  probes.RESIZES,
  "Resize protocol for Inception's input.",
)
_INCEPTION = network_flags.weights('inception', 'Inception')
_CLIP = network_flags.weights('clip', 'the CLIP model for the CLIP score')
_CMMD_CLIP = network_flags.weights('cmmd_clip', 'the CLIP model for CMMD')
_CLIP_PROTOCOL = flags.DEFINE_enum(
  'clip_protocol', 'dimo', tuple(CLIP_PROTOCOLS), 'Protocol of the CLIP score.'
)
_CLIP_VOCABULARY = network_flags.clip_vocabulary()
_NEIGHBOURS = flag_types.count(
  'neighbours', 3, 'Neighbours k for pr, pr_float16 and prdc.'
)
_KID_SUBSETS = flag_types.count(
  'kid_subsets', 100, 'Number of random subsets for kid.'
)
_KID_SUBSET_SIZE = flag_types.count(
  'kid_subset_size',
  1000,
  'Images per subset for kid, at most the size of the smaller set.',
  2,
)
_SAVE_REFERENCE = flag_types.output(
  'save_reference',
  None,
  'Output .npz file for the moments of these images.',
  folder=lambda path: False,
)
_METHOD = sampling_flags.MethodFlags.define()
flags.adopt_module_key_flags(sampling_flags)

_RESULTS = 'results.json'
_NEIGHBOURLY = frozenset({'pr', 'pr_float16', 'prdc'})
# Metrics that read a flag; the others would ignore it.
_READERS = {
  'reference': measure.OF_REFERENCE,
  'inception': measure.OF_INCEPTION,
  'resize': measure.OF_INCEPTION,
  'clip': {'clip_score'},
  'clip_protocol': {'clip_score'},
  'clip_vocabulary': {'clip_score'},
  'cmmd_clip': {'cmmd'},
  'neighbours': _NEIGHBOURLY,
  'kid_subsets': {'kid'},
  'kid_subset_size': {'kid'},
}
_OF_PROMPTS = ('prompt', 'prompts', 'field')
_DEFAULT_NUM = 50_000
_COLUMNS = ('steps', 'guidance_scale', 'temperature')


def main(argv: list[str]) -> None:
  """Evaluates, writes results.json and prints the table."""
  cli.no_arguments(argv)
  notice = PreemptionNotice()
  notice.install()
  if bool(_IMAGES.value) == bool(sampling_flags.WORKDIR.value):
    raise UserError('give either --workdir=DIR of a run or --images=FOLDER')
  if _TEMPERATURES.value and _METHOD.sampler.temperature.value is not None:
    raise UserError('give --temperature or --temperatures, not both')
  request = _request()
  if (request.out / config.CONFIG_FILE).exists():
    raise UserError(
      f'--out={request.out} is the workdir of a run, whose {_RESULTS} would be '
      'overwritten; choose another folder'
    )
  request.check(has_prompts=sampling_flags.has_prompts())
  _refuse_unread(request)
  _check_saving(request)
  with lock.held(request.out):
    rows = _evaluate(request, notice)
  print(table.format_table([_shown(row) for row in rows]))
  print(f'numbers and protocols in {request.out / _RESULTS}')


def _evaluate(
  request: EvaluationRequest, notice: PreemptionNotice
) -> list[Row]:
  """Rows of all sets; each is written as soon as it is finished."""
  rows = []
  for row, images, prompts, evaluator in _sets(request, notice):
    captions = row.pop('captions')
    title = f'T={row["temperature"]:g}' if 'temperature' in row else 'features'
    row |= evaluator.evaluate(images, prompts, title)
    row['protocol'] |= {'captions': captions}
    rows.append(row)
    _write(request.out, rows)
    if _SAVE_REFERENCE.value:
      evaluator.save_reference(images, pathlib.Path(_SAVE_REFERENCE.value))
  return rows


def _request() -> EvaluationRequest:
  workdir = sampling_flags.WORKDIR.value
  default = pathlib.Path(workdir or '.') / 'evaluation'
  return EvaluationRequest(
    metrics=tuple(_METRICS.value),
    out=pathlib.Path(_OUT.value or default),
    reference=_REFERENCE.value,
    resize=_RESIZE.value,
    inception=_INCEPTION.value,
    clip=_CLIP.value,
    cmmd_clip=_CMMD_CLIP.value,
    clip_vocabulary=_CLIP_VOCABULARY.value,
    clip_protocol=_CLIP_PROTOCOL.value,
    batch_size=_METHOD.images_per_call,
    options=Options(
      neighbours=_NEIGHBOURS.value,
      kid_subsets=_KID_SUBSETS.value,
      kid_subset_size=_KID_SUBSET_SIZE.value,
    ),
  )


def _refuse_unread(request: EvaluationRequest) -> None:
  """Raises UserError for a flag that none of the metrics reads."""
  readers = dict(_READERS)
  if _IMAGES.value:  # a run reads its prompts to make the images
    readers |= {flag: {'clip_score'} for flag in _OF_PROMPTS}
  for flag, metrics in readers.items():
    if not metrics & set(request.metrics):
      names = [name for name in measure.METRICS if name in metrics]
      sampling_flags.refuse(
        (flag,), f'it is for --metrics={" or ".join(names)}'
      )


def _check_saving(request: EvaluationRequest) -> None:
  """Raises UserError unless there is exactly one set of moments to save."""
  if not _SAVE_REFERENCE.value:
    return
  if not set(request.metrics) & measure.OF_INCEPTION:
    raise UserError(
      '--save_reference writes Inception moments: add a metric that reads '
      'Inception, such as is'
    )
  if len(_TEMPERATURES.value or ()) > 1:
    raise UserError('--save_reference needs one set: give one temperature')


def _sets(
  request: EvaluationRequest, notice: PreemptionNotice
) -> Iterator[tuple[Row, ImageSet, Sequence[str] | None, Evaluator]]:
  """Yields (columns that name a row, images, prompts, evaluator).

  The column `captions` says where prompts come from, for the protocol.
  """
  if _IMAGES.value:
    sampling_flags.refuse_samplers(also=('temperatures',))
    images = open_images(_IMAGES.value, _NUM.value)
    prompts, captions = None, sampling_flags.prompt_source()
    if captions is not None:
      given = sampling_flags.prompts()
      prompts = pairs.captions(given, images.available, images.chosen)
      captions |= pairs.protocol(given)
    row = {'model': _IMAGES.value, 'captions': captions}
    yield row, images, prompts, Evaluator(request, notice)
    return
  run = sampling_flags.load_run()
  stage = run.generator(sampling_flags.MODEL.value)
  conditions = sampling_flags.conditions(run, _METHOD.rewards(run))
  order = np.arange(_NUM.value or _DEFAULT_NUM) % len(conditions)
  evaluator = Evaluator(request, notice)
  for temperature in _TEMPERATURES.value or [None]:
    title, images = _METHOD.images(run, stage, conditions, order, temperature)
    row = {'model': title} | _named(images.fingerprint['sampler'])
    # Their checksum is in the fingerprint of the images made from them.
    row['captions'] = sampling_flags.prompt_source()
    prompts = images.prompts() if run.family.reads_text else None
    yield row, images, prompts, evaluator


def _named(options: dict[str, Any]) -> Row:
  """Sampler options that are columns of the table."""
  return {name: options[name] for name in _COLUMNS if name in options}


def _shown(row: Row) -> Row:
  return {name: value for name, value in row.items() if name != 'protocol'}


def _write(out: pathlib.Path, rows: Sequence[Row]) -> None:
  text = json.dumps({'rows': list(rows)}, indent=2) + '\n'
  write_atomically(out / _RESULTS, text)


if __name__ == '__main__':
  cli.run(main)
