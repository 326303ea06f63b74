"""GenEval: generates images for it, and scores them from detections.

  python -m softdimo_jax.geneval --workdir=DIR --out=IMAGES \
    --prompts=evaluation_metadata.jsonl
  python -m softdimo_jax.geneval --images=IMAGES --detections=FILE.json \
    --clip=WEIGHTS

The first writes a folder in GenEval's format, which detector scripts read;
repeating it continues an interrupted one. The second applies GenEval's rules,
prints the accuracy per task and writes geneval.json to the folder.
docs/evaluation.md specifies the file of detections. Exit codes: see
`softdimo_jax.runtime.cli`.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from softdimo_jax.convert import weights as official
from softdimo_jax.data.prompts.records import read_records
from softdimo_jax.data.prompts.text_tokens import CLIPTokenizer
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks import (
  geneval_folder,
  geneval_names,
  geneval_rules,
)
from softdimo_jax.evaluation.benchmarks.colors import ColorClassifier
from softdimo_jax.evaluation.benchmarks.detections import read_detections
from softdimo_jax.evaluation.benchmarks.geneval_folder import (
  GenEvalExport,
  Sample,
)
from softdimo_jax.evaluation.features import probes
from softdimo_jax.evaluation.features.clip import image_embedder
from softdimo_jax.evaluation.report import table
from softdimo_jax.experiment import images, network_flags, sampling_flags
from softdimo_jax.networks.rewards.clip import openai_vit_l
from softdimo_jax.runtime import cli, flag_types, json_records, lock
from softdimo_jax.runtime.files import read_bytes, write_atomically
from softdimo_jax.runtime.preemption import PreemptionNotice

_OUT = flag_types.output('out', None, 'Output folder of the images.')
_PER_PROMPT = flag_types.count('num', 4, 'Images per prompt.')
_IMAGES = flag_types.path('images', None, 'Folder of images to score.')
_DETECTIONS = flag_types.path(
  'detections',
  None,
  'JSON file of detections in --images; boxes are [x0, y0, x1, y1, score] in '
  'pixels.',
)
_CLIP = network_flags.weights(
  'clip',
  "the CLIP model for colours missing from the detections (OpenAI's "
  'ViT-L/14 in GenEval)',
)
_CLIP_VOCABULARY = network_flags.clip_vocabulary()
_METHOD = sampling_flags.MethodFlags.define()
flags.adopt_module_key_flags(sampling_flags)

_RESULTS = 'geneval.json'


def main(argv: list[str]) -> None:
  """Generates images, or scores them."""
  cli.no_arguments(argv)
  if bool(_IMAGES.value) == bool(sampling_flags.WORKDIR.value):
    raise UserError(
      'give either --workdir=DIR to generate images, or --images=FOLDER to '
      'score them'
    )
  if _IMAGES.value:
    sampling_flags.refuse_samplers(
      also=('num', 'out', 'prompt', 'prompts', 'field', 'batch_size')
    )
    if not _CLIP.value:
      sampling_flags.refuse(
        ('clip_vocabulary',), 'it is that of --clip, which is not given'
      )
    _score(pathlib.Path(_IMAGES.value))
  else:
    _generate()


def _generate() -> None:
  sampling_flags.refuse(
    ('prompt', 'labels', 'field'),
    'GenEval reads the prompts and tags of --prompts',
  )
  sampling_flags.refuse(
    ('detections', 'clip', 'clip_vocabulary'), 'it scores: give --images'
  )
  if not _OUT.value:
    raise UserError('give the output folder: --out=FOLDER')
  path = sampling_flags.prompt_file()
  if path is None:
    raise UserError(
      "give GenEval's prompts: --prompts=evaluation_metadata.jsonl"
    )
  notice = PreemptionNotice()
  notice.install()
  records = read_records(path)
  geneval_names.check(records)
  print(f'{len(records)} prompts of {path}')
  run = sampling_flags.load_run()
  if not run.family.reads_text:
    raise UserError('GenEval needs prompts, but this run is class-conditional')
  stage = run.generator(sampling_flags.MODEL.value)
  prompts = [record['prompt'] for record in records]
  conditions = run.inputs.conditions(prompts, _METHOD.rewards(run))
  order = np.repeat(np.arange(len(records)), _PER_PROMPT.value)
  title, samples = _METHOD.images(run, stage, conditions, order)
  with lock.held(_OUT.value):
    export = GenEvalExport(
      _OUT.value,
      records=records,
      per_prompt=_PER_PROMPT.value,
      made_by=samples.fingerprint,
      images_per_range=probes.range_of(samples.size()),
    )
    images.write(samples, export, 'geneval', notice)
  print(f'{len(order)} images of {title} in {_OUT.value}')


def _score(root: pathlib.Path) -> None:
  if not _DETECTIONS.value:
    raise UserError('give the detections: --detections=FILE.json')
  samples = geneval_folder.read_samples(root)
  pictures = read_detections(_DETECTIONS.value)
  geneval_names.check([sample.record for sample in samples], pictures.values())
  classifier, network = _classifier() if _CLIP.value else (None, None)
  verdicts = geneval_folder.judge(root, samples, pictures, classifier)
  rows = _rows(root, samples, verdicts)
  results = {
    'rows': rows,
    'protocol': {
      'rules': dataclasses.asdict(geneval_rules.OFFICIAL),
      'detections': {
        'path': _DETECTIONS.value,
        'sha256': hashlib.sha256(read_bytes(_DETECTIONS.value)).hexdigest(),
      },
      'prompts_sha256': json_records.digest(
        [sample.record for sample in samples]
      ),
      'paired_by': 'names of the pictures',
      'colors': network or 'of the detections',
      'pictures': _made_by(root),
    },
    'pictures': [
      {
        'filename': sample.name,
        'tag': sample.record['tag'],
        'prompt': sample.record['prompt'],
        'correct': verdict.correct,
        'reasons': list(verdict.reasons),
      }
      for sample, verdict in zip(samples, verdicts, strict=True)
    ],
  }
  write_atomically(root / _RESULTS, json.dumps(results, indent=2) + '\n')
  print(table.format_table(rows))
  print(f'verdicts per image in {root / _RESULTS}')


def _rows(
  root: pathlib.Path,
  samples: Sequence[Sample],
  verdicts: Sequence[geneval_rules.Verdict],
) -> list[dict[str, Any]]:
  """The score; a second row is an oracle that picks the best image."""
  tags = [sample.record['tag'] for sample in samples]
  row = _row(str(root), tags, [verdict.correct for verdict in verdicts])
  best_tags, right, most = geneval_folder.oracle(samples, verdicts)
  if most == 1:
    return [row]
  return [row, _row(f'oracle, best of {most}', best_tags, right)]


def _row(
  name: str, tags: Sequence[str], correct: Sequence[bool]
) -> dict[str, Any]:
  scores = geneval_rules.summarise(tags, correct)
  return {
    'pictures': name,
    'num_images': scores.num_images,
    'overall': scores.overall,
    'overall_std': scores.standard_error,
    **scores.categories,
  }


def _classifier() -> tuple[ColorClassifier, dict[str, Any]]:
  try:
    weights = official.find(_CLIP.value, 'clip', default=openai_vit_l)
  except UserError as error:
    raise UserError(f'--clip: {error}') from error
  params = weights.load()
  tokenizer = CLIPTokenizer.load(
    _CLIP_VOCABULARY.value, clean='openai', length=weights.module.text.length
  )
  embedder = image_embedder(weights.module, params, batch_size=16)
  classifier = ColorClassifier(embedder, lambda texts: tokenizer(texts).ids)
  return classifier, probes.network_fingerprint(weights, params)


def _made_by(root: pathlib.Path) -> Any:
  """Fingerprint of the images, if this command generated them."""
  claim = root / '.export.json'
  if not claim.exists():
    return None
  try:
    return json_records.json_object(claim)['made_by'] | {'records': None}
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{claim} is damaged ({error}); restore it, or delete it to score '
      'the pictures without saying what made them'
    ) from error


if __name__ == '__main__':
  cli.run(main)
