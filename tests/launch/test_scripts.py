"""Launch scripts: what they would run, what they refuse, how they restart."""

import itertools
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

from softdimo_jax.errors import USER_ERROR_CODE
from tests.launch.scripts import LAUNCH, ROOT, launch, wait_until

SCRIPTS = sorted({*LAUNCH.glob('*.sh'), *LAUNCH.glob('*.sbatch')})
RUNNABLE = [path for path in SCRIPTS if path.name != 'common.sh']
TOOLS = ('gcloud', 'xpk', 'docker', 'kubectl', 'srun', 'scontrol')
COMMAND = ('--', 'python', '-m', 'x', "--name=it's a test")
POD = ('--name=n', '--zone=z')
XPK = ('--name=n', '--zone=z', '--cluster=c', '--image=i')


@pytest.fixture
def tools(tmp_path):
  """A folder of tools, each of which writes down its call and succeeds.

  `calls` of a tool are words a line; a file TOOL.sh beside it replaces it.
  """
  for name in TOOLS:
    tool = tmp_path / name
    tool.write_text(
      '#!/bin/bash\n'
      f'echo {name} "$@" >> {tmp_path}/calls\n'
      f'[[ ! -e {tmp_path}/{name}.sh ]] || . {tmp_path}/{name}.sh\n'
    )
    tool.chmod(0o755)
  return tmp_path


def calls(tools):
  path = tools / 'calls'
  return path.read_text().splitlines() if path.exists() else []


def dry(script, *arguments, tools):
  """Words of the commands that would be run; checks that none was."""
  result = launch(script, '--dry-run', *arguments, tools=tools)
  assert result.returncode == 0, result.stderr
  assert calls(tools) == []
  # A word may hold line breaks, so lines are not commands.
  words = shlex.split(result.stdout)
  starts = [i for i, word in enumerate(words) if word == '+'] + [len(words)]
  return [words[start + 1 : end] for start, end in itertools.pairwise(starts)]


def test_shellcheck_finds_nothing():
  folder = pathlib.Path(sys.executable).parent
  tool = shutil.which('shellcheck', path=f'{folder}:{os.environ["PATH"]}')
  if tool is None:
    pytest.skip('shellcheck comes with the extra `test`')
  command = [tool, '--external-sources', *SCRIPTS, ROOT / '.ci' / 'run']
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 0, result.stdout


@pytest.mark.parametrize('path', RUNNABLE, ids=lambda path: path.name)
def test_every_script_stops_at_errors_and_explains_itself(path):
  assert 'set -euo pipefail' in path.read_text()
  result = launch(path.name, '--help')
  assert result.returncode == 0
  assert f'launch/{path.name}' in result.stdout
  assert '#' not in result.stdout.split('\n')[0]
  assert '--dry-run' in result.stdout or path.name == 'xla_flags.sh'


@pytest.mark.parametrize(
  ('script', 'arguments', 'tool', 'expected'),
  [
    (
      'tpu_pod.sh',
      ('create', *POD, '--type=v5litepod-16', '--spot', '--project=p'),
      'gcloud compute tpus tpu-vm create n',
      ('--zone=z', '--version=v2-alpha-tpuv5-lite', '--spot', '--project=p'),
    ),
    (
      'tpu_pod.sh',
      ('create', *POD, '--type=v6e-8', '--runtime=other'),
      'gcloud compute tpus tpu-vm create n',
      ('--accelerator-type=v6e-8', '--version=other'),
    ),
    ('tpu_pod.sh', ('status', *POD), 'gcloud compute tpus tpu-vm describe', ()),
    (
      'tpu_pod.sh',
      ('logs', *POD, '--worker=3'),
      'gcloud compute tpus tpu-vm ssh n',
      ('--worker=3',),
    ),
    (
      'tpu_pod.sh',
      ('stop', *POD),
      'gcloud compute tpus tpu-vm ssh n',
      ('--worker=all',),
    ),
    (
      'tpu_pod.sh',
      ('delete', *POD),
      'gcloud compute tpus tpu-vm delete n',
      ('--quiet',),
    ),
    (
      'gke_xpk.sh',
      ('run', *XPK, '--type=v5p-8', *COMMAND),
      'xpk workload create',
      ('--tpu-type=v5p-8', '--max-restarts=100', '--restart-on-exit-codes=75'),
    ),
    (
      'gke_xpk.sh',
      ('run', *XPK, '--device-type=h100-mega-80gb-8', '--slices=2', *COMMAND),
      'xpk workload create',
      ('--device-type=h100-mega-80gb-8', '--num-slices=2'),
    ),
    (
      'gke_xpk.sh',
      ('build', '--image=i', '--extra=gpu'),
      'docker build',
      ('--build-arg=EXTRA=gpu', '--tag=i'),
    ),
    ('gke_xpk.sh', ('logs', '--name=n'), 'kubectl logs', ('--follow',)),
    ('gke_xpk.sh', ('list', *XPK), 'xpk workload list', ('--cluster=c',)),
    ('gke_xpk.sh', ('delete', *XPK), 'xpk workload delete', ('--workload=n',)),
    ('slurm_gpu.sbatch', COMMAND, 'srun', COMMAND[1:]),
    ('restart.sh', COMMAND, 'python', COMMAND[2:]),
    (
      'local_multiprocess.sh',
      ('2', '--port=7', '--devices=3', *COMMAND),
      'env JAX_PLATFORMS=cpu',
      (*COMMAND[1:], '--coordinator=localhost:7', '--process_id=0'),
    ),
  ],
)
def test_dry_run_shows_the_commands(tools, script, arguments, tool, expected):
  first = dry(script, *arguments, tools=tools)[0]
  assert ' '.join(first).startswith(tool)
  assert set(expected) <= set(first)


def test_local_processes_differ_in_their_number_only(tools):
  commands = dry('local_multiprocess.sh', '3', *COMMAND, tools=tools)
  assert [words[-1] for words in commands] == [
    f'--process_id={i}' for i in range(3)
  ]
  assert len({tuple(words[:-1]) for words in commands}) == 1
  assert commands[0][-2] == '--num_processes=3'


def remote(commands):
  """What the last of the commands makes a worker run."""
  word = commands[-1][-1]
  assert word.startswith('--command=')
  return word.removeprefix('--command=')


def test_a_worker_gets_the_words_as_they_were_given(tools, tmp_path):
  """The command travels through two shells."""
  script = remote(
    dry(
      'tpu_pod.sh', 'run', *POD, '--xla-flags=tpu_fsdp', *COMMAND, tools=tools
    )
  )
  home = tmp_path / 'home' / 'softdimo_jax'
  (home / '.venv' / 'bin').mkdir(parents=True)
  (home / '.venv' / 'bin' / 'activate').touch()
  shutil.copytree(LAUNCH, home / 'launch')
  python = tools / 'python'
  python.write_text('#!/bin/bash\nprintf "%s|" "$LIBTPU_INIT_ARGS" "$@"\n')
  python.chmod(0o755)
  path = f'{tools}:/usr/bin:/bin'
  subprocess.run(
    ['bash', '-c', script], cwd=home.parent, check=True, env={'PATH': path}
  )
  code = home / 'run.code'
  wait_until(code.exists)
  assert code.read_text() == '0\n'
  words = (home / 'run.log').read_text().split('|')
  assert words[0].startswith('--xla_tpu_')
  assert words[1:-1] == list(COMMAND[2:])


def test_setup_installs_and_mounts(tools):
  commands = dry('tpu_pod.sh', 'setup', *POD, '--nfs=host:/runs', tools=tools)
  assert [words[0] for words in commands] == ['git', 'gcloud', 'gcloud']
  script = remote(commands)
  assert '--python=3.12' in script
  assert 'mount host:/runs /mnt/shared' in script
  assert subprocess.run(['bash', '-n', '-c', script]).returncode == 0


@pytest.mark.parametrize(
  ('script', 'arguments', 'message'),
  [
    ('tpu_pod.sh', (), 'say what to do'),
    ('tpu_pod.sh', ('start', *POD), 'action start is unknown'),
    ('tpu_pod.sh', ('create', 'run', *POD), 'run is one word too many'),
    ('tpu_pod.sh', ('create', *POD), 'create needs --type='),
    ('tpu_pod.sh', ('create', '--name=', '--zone=z'), 'create needs --name='),
    ('tpu_pod.sh', ('create', '--name', 'n'), '--name needs a value'),
    ('tpu_pod.sh', ('create', *POD, '--type=v99-1'), 'give --runtime='),
    ('tpu_pod.sh', ('create', *POD, '--spot=1'), '--spot takes no value'),
    ('tpu_pod.sh', ('run', *POD), 'give the command to run after --'),
    ('tpu_pod.sh', ('run', *POD, '--config=c'), 'option --config is unknown'),
    (
      'tpu_pod.sh',
      ('run', *POD, '--xla-flags=x', *COMMAND),
      'set x is unknown',
    ),
    ('tpu_pod.sh', ('setup', *POD, '--nfs=host'), 'must be HOST:/SHARE'),
    ('tpu_pod.sh', ('logs', *POD, '--worker=a'), 'not a whole number'),
    ('tpu_queued.sh', (*POD, *COMMAND), 'needs --type='),
    ('tpu_queued.sh', ('create', *POD), 'create is not an option'),
    ('gke_xpk.sh', ('run', *XPK, *COMMAND), '--type=... or --device-type='),
    ('gke_xpk.sh', ('build',), 'build needs --image='),
    ('gke_xpk.sh', ('build', '--image=i', '--extra=x'), 'choose tpu or gpu'),
    ('slurm_gpu.sbatch', (), 'give the command to run after --'),
    ('local_multiprocess.sh', COMMAND, 'give the number of processes'),
    ('local_multiprocess.sh', ('2', 'python'), 'goes after --'),
    ('local_multiprocess.sh', ('0', *COMMAND), '0 processes'),
    ('local_multiprocess.sh', ('two', *COMMAND), 'two processes'),
    ('local_multiprocess.sh', ('2', '--devices=0', *COMMAND), '--devices=0'),
    ('local_multiprocess.sh', ('2',), 'give the command to run after --'),
    ('restart.sh', ('--max-restarts=-1', *COMMAND), 'not a whole number'),
    ('xla_flags.sh', (), 'name one set'),
  ],
)
def test_mistakes_are_told_in_one_sentence(tools, script, arguments, message):
  options = () if script == 'xla_flags.sh' else ('--dry-run',)
  result = launch(script, *options, *arguments, tools=tools)
  assert result.returncode == USER_ERROR_CODE
  *notes, last = result.stderr.splitlines()
  assert last.startswith('error: ')
  assert message in last
  assert all(line.startswith('note: ') for line in notes)
  assert calls(tools) == []


@pytest.mark.parametrize(
  ('script', 'arguments', 'tool'),
  [
    ('tpu_pod.sh', ('delete', *POD), 'gcloud'),
    ('tpu_queued.sh', (*POD, '--type=v6e-8', *COMMAND), 'gcloud'),
    ('gke_xpk.sh', ('list', *XPK), 'xpk'),
    ('slurm_gpu.sbatch', COMMAND, 'srun'),
  ],
)
def test_a_missing_tool_is_named(tmp_path, script, arguments, tool):
  for name in ('bash', 'dirname', 'git'):
    (tmp_path / name).symlink_to(shutil.which(name))
  result = launch(script, *arguments, PATH=str(tmp_path))
  assert result.returncode == USER_ERROR_CODE
  assert f'{tool} is not installed' in result.stderr


def test_a_slice_that_is_taken_away_is_asked_for_again(tools):
  """Queued, there, gone while running, there again, done with code 3."""
  states = ['WAITING_FOR_RESOURCES', 'ACTIVE', 'ACTIVE', 'SUSPENDED']
  states += ['ACTIVE', 'ACTIVE']
  codes = ['running', '3']
  (tools / 'states').write_text('\n'.join(states) + '\n')
  (tools / 'codes').write_text('\n'.join(codes) + '\n')
  (tools / 'gcloud.sh').write_text(
    f'cd {tools}\n'
    'take() { head -n 1 $1; sed -i 1d $1; }\n'
    'case "$*" in *" describe "*) take states ;;\n'
    '*run.code\\ 2*) take codes ;; esac\n'
  )
  result = launch(
    'tpu_queued.sh', *POD, '--type=v6e-8', '--poll=0', *COMMAND, tools=tools
  )
  assert result.returncode == 3, result.stderr
  made = [line for line in calls(tools) if line.startswith('gcloud')]
  verbs = [line.split()[3:5] for line in made]
  queue = [verb for kind, verb in verbs if kind == 'queued-resources']
  assert [verb for verb in queue if verb != 'describe'] == [
    'create', 'delete', 'create', 'delete',
  ]  # fmt: skip
  assert (tools / 'states').read_text() == ''


def test_a_slice_on_which_nothing_starts_is_given_back(tools):
  (tools / 'gcloud.sh').write_text(
    'case "$*" in *" describe "*) echo ACTIVE ;; *" scp "*) exit 1 ;; esac\n'
  )
  result = launch('tpu_queued.sh', *POD, '--type=v6e-8', *COMMAND, tools=tools)
  assert result.returncode == 1
  assert 'did not start' in result.stderr
  assert calls(tools)[-1].split()[4] == 'delete'


@pytest.mark.parametrize(
  ('code', 'again'), [(75, True), (0, False), (1, False)]
)
def test_slurm_takes_the_job_back_after_the_requeue_code(tools, code, again):
  (tools / 'srun.sh').write_text(f'exit {code}\n')
  (tools / 'bin').mkdir()
  (tools / 'bin' / 'activate').touch()
  result = launch(
    'slurm_gpu.sbatch',
    f'--venv={tools}',
    *COMMAND,
    tools=tools,
    SLURM_JOB_ID='5',
    SLURM_SUBMIT_DIR=str(ROOT),
  )
  assert result.returncode == code
  assert ('scontrol requeue 5' in calls(tools)) == again


def test_slurm_wants_to_be_submitted_from_the_repository(tools):
  result = launch('slurm_gpu.sbatch', *COMMAND, SLURM_SUBMIT_DIR=str(tools))
  assert result.returncode == USER_ERROR_CODE
  assert 'is not the repository' in result.stderr


# Processes on this machine.


def test_the_image_copies_what_is_there():
  lines = (LAUNCH / 'Dockerfile').read_text().splitlines()
  copies = [line.split()[1:-1] for line in lines if line.startswith('COPY')]
  assert copies
  assert all((ROOT / name).exists() for names in copies for name in names)
