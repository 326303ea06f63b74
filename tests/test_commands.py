"""Every command as a process: a mistake is one sentence and exit code 2."""

import pytest

from tests.commands import ROOT, fails, process

PACKAGE = ROOT / 'softdimo_jax'
# command: (arguments with a mistake, words of the sentence)
MISTAKES = {
  'convert': (('--family=none',), '--family=none'),
  'encode_prompts': ((), '--prompts'),
  'evaluate': ((), '--workdir'),
  'export': (('--out=x.npz',), '--workdir'),
  'geneval': ((), '--workdir'),
  'hpsv2': ((), '--workdir'),
  'main': (('--config=none.py', '--workdir=none'), 'none.py'),
  'parity': (('none',), 'none'),
  'plan': ((), '--topology'),
  'sample': (('--workdir=none',), 'none'),
  'summarize': (('none',), 'none'),
  'tokenize_dataset': ((), '--data'),
  'tteo': (('--steps=many',), '--steps=many'),
}


def test_no_command_is_left_out():
  found = {
    path.parent.name if path.stem == '__main__' else path.stem
    for path in PACKAGE.rglob('*.py')
    if path.read_text().endswith('\n  cli.run(main)\n')
  }
  assert found == set(MISTAKES)


@pytest.mark.command
@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_is_one_sentence(name):
  arguments, word = MISTAKES[name]
  fails(process(name, *arguments), word)
