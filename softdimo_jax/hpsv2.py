"""The HPSv2 benchmark for images of a run, or from any other source.

  python -m softdimo_jax.hpsv2 --workdir=DIR --benchmark=PROMPTS --out=IMAGES
  python -m softdimo_jax.hpsv2 --images=IMAGES --benchmark=PROMPTS

PROMPTS contains anime.json, concept-art.json, paintings.json and photo.json
(from zhwang/HPDv2 on the Hub). Images of a run are written as in the benchmark,
IMAGES/STYLE/00000.jpg, and scored from these files. Prints a table and writes
hpsv2.json next to the images; repeating the command continues an interrupted
one. Exit codes: see `softdimo_jax.runtime.cli`.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from softdimo_jax import defaults, rewards
from softdimo_jax.data.cache.records import module_fingerprint
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks import hpsv2_scores
from softdimo_jax.evaluation.features import clip, probes
from softdimo_jax.evaluation.features.probes import Probe
from softdimo_jax.evaluation.report import table
from softdimo_jax.evaluation.sets.images import FolderImages
from softdimo_jax.evaluation.sets.writers import JpegExport
from softdimo_jax.experiment import images, network_flags, sampling_flags
from softdimo_jax.rewards.scoring import CLIPReward
from softdimo_jax.runtime import cli, flag_types, lock
from softdimo_jax.runtime.files import write_atomically
from softdimo_jax.runtime.preemption import PreemptionNotice

_BENCHMARK = flag_types.path(
  'benchmark', None, 'Folder with one STYLE.json per style.'
)
_STYLES = flags.DEFINE_list(
  'styles', list(hpsv2_scores.STYLES), 'Styles to score, in order.'
)
_LIMIT = flag_types.count(
  'limit', None, 'Prompts per style; default: all (800).'
)
_OUT = flag_types.output('out', None, 'Output folder of the images.')
_IMAGES = flag_types.path('images', None, 'Folder of images to score.')
_WEIGHTS = network_flags.weights(
  'weights', 'HPSv2', defaults.rewards().weights.hpsv2
)
_CLIP_VOCABULARY = network_flags.clip_vocabulary()
_ANTIALIAS = flags.DEFINE_bool(
  'antialias', True, 'Antialias the resize; torchvision below 0.17 did not.'
)
_METHOD = sampling_flags.MethodFlags.define()
flags.adopt_module_key_flags(sampling_flags)

_NAME = 'hpsv2'
_RESULTS, _FEATURES = 'hpsv2.json', '.features'


def main(argv: list[str]) -> None:
  """Generates the images if they are of a run, and scores them."""
  cli.no_arguments(argv)
  notice = PreemptionNotice()
  notice.install()
  if bool(_IMAGES.value) == bool(sampling_flags.WORKDIR.value):
    raise UserError('give either --workdir=DIR of a run or --images=FOLDER')
  if not _BENCHMARK.value:
    raise UserError('give the prompts: --benchmark=FOLDER')
  sampling_flags.refuse(
    ('prompt', 'prompts', 'field', 'labels'),
    'HPSv2 reads its prompts from --benchmark',
  )
  if _IMAGES.value:
    sampling_flags.refuse_samplers(also=('out',))
  prompts = hpsv2_scores.style_prompts(
    _BENCHMARK.value, _STYLES.value, _LIMIT.value
  )
  for style, texts in prompts.items():
    print(f'{len(texts)} prompts of {style}')
  scorer = _Scorer(notice)
  root = _IMAGES.value or _OUT.value or ''
  title, made_by = root, None
  if not _IMAGES.value:
    title, made_by = _generate(prompts, notice)
  row, protocol = scorer.score(pathlib.Path(root), prompts)
  row = {'model': title} | row
  protocol |= {
    'images': made_by,
    'benchmark': {'folder': _BENCHMARK.value, 'limit': _LIMIT.value},
    'prompts_sha256': {
      style: hashlib.sha256('\0'.join(texts).encode()).hexdigest()
      for style, texts in prompts.items()
    },
    'paired_by': 'numbers of the files',
  }
  results = {'rows': [row], 'protocol': protocol}
  path = pathlib.Path(root) / _RESULTS
  write_atomically(path, json.dumps(results, indent=2) + '\n')
  print(table.format_table([row]))
  print(f'protocol in {path}')


def _generate(
  prompts: Mapping[str, Sequence[str]], notice: PreemptionNotice
) -> tuple[str, Any]:
  """Writes the images; (title of the method, fingerprints by style)."""
  if not _OUT.value:
    raise UserError('give the output folder: --out=FOLDER')
  run = sampling_flags.load_run()
  if not run.family.reads_text:
    raise UserError('HPSv2 needs prompts, but this run is class-conditional')
  stage = run.generator(sampling_flags.MODEL.value)
  made_by = {}
  for style, texts in prompts.items():
    conditions = run.inputs.conditions(texts, _METHOD.rewards(run))
    order = np.arange(len(texts))
    title, samples = _METHOD.images(run, stage, conditions, order)
    with lock.held(_OUT.value):
      export = JpegExport(
        pathlib.Path(_OUT.value) / style,
        num_images=len(texts),
        made_by=samples.fingerprint,
        images_per_range=probes.range_of(samples.size()),
      )
      images.write(samples, export, style, notice)
    made_by[style] = samples.fingerprint
  return title, made_by


class _Scorer:
  """HPSv2, loaded once for all styles."""

  def __init__(self, notice: PreemptionNotice):
    self._notice = notice
    combined = rewards.build(
      {
        'terms': {_NAME: 1.0},
        'weights': {_NAME: _WEIGHTS.value},
        'clip_vocabulary': _CLIP_VOCABULARY.value,
        'antialias': _ANTIALIAS.value,
      }
    )
    reward: Any = combined.rewards[_NAME]
    self._reward: CLIPReward = reward
    self._tokenizer = combined.tokenizers[_NAME]
    params = combined.load_params()[_NAME]
    network = hpsv2_scores.score_embedder(
      self._reward, params, _METHOD.images_per_call
    )
    self._probe = Probe(
      network=network,
      outputs=('embeddings',),
      prepare=None,
      fingerprint={
        'weights': combined.sources[_NAME],
        'antialias': _ANTIALIAS.value,
        **module_fingerprint(self._reward.module, params),
      },
    )

  def score(
    self, root: pathlib.Path, prompts: Mapping[str, Sequence[str]]
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (row with all styles, protocol)."""
    row, all_scores, missing = {}, [], {}
    # All at once, since it says how many of them are truncated.
    ids = self._tokenizer([x for texts in prompts.values() for x in texts])
    ends = np.cumsum([len(texts) for texts in prompts.values()])
    of_style = np.split(ids, ends[:-1])
    for (style, texts), part in zip(prompts.items(), of_style, strict=True):
      scores = self._style(root, style, part)
      row[style], row[f'{style}_std'] = hpsv2_scores.summarise(scores)
      all_scores.append(scores)
      missing[style] = len(texts) - len(scores)
    row['average'] = float(np.concatenate(all_scores).mean())
    row['num_images'] = sum(map(len, all_scores))
    if any(missing.values()):
      row['missing'] = sum(missing.values())
    protocol = {
      'network': dict(self._probe.fingerprint),
      'prompt_ids_sha256': hashlib.sha256(ids.tobytes()).hexdigest(),
      'missing': missing,
    }
    return row, protocol

  def _style(
    self, root: pathlib.Path, style: str, ids: np.ndarray
  ) -> np.ndarray:
    """Scores of the existing images, given the ids [N, T] of all prompts."""
    images = FolderImages(root / style)
    numbers = hpsv2_scores.numbered(images, style, len(ids))
    store = self._probe.store(root / _FEATURES, images)
    probes.extract(images, [(self._probe, store)], self._notice, style)
    features = clip.embed_prompts(
      self._reward.module,
      jax.device_get(self._probe.network.params),
      ids[np.array(numbers)],
    )
    return hpsv2_scores.cosines(store.stack('embeddings'), features)


if __name__ == '__main__':
  cli.run(main)
