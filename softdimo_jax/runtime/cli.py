"""Entry point of every command; reports mistakes in one sentence.

Exit codes of all commands: 0 finished, 2 a mistake in the input, 75 stopped by
a signal after saving (repeat the command to continue), 76 another process of
the run died.
"""

import hashlib
import importlib.metadata
import io
import pathlib
import platform
import sys
from collections.abc import Callable
from typing import NoReturn

import jax
from absl import app, flags, logging

from softdimo_jax.errors import (
  PREEMPTED_CODE,
  USER_ERROR_CODE,
  Preempted,
  UserError,
)
from softdimo_jax.runtime import distributed, memory, storage

# Runtime errors that this process caused itself.
_OWN_MISTAKES = ('INVALID_ARGUMENT', 'RESOURCE_EXHAUSTED', 'UNIMPLEMENTED')


def run(main: Callable[[list[str]], None]) -> None:
  """`absl.app.run` without tracebacks for mistakes that a user can fix."""
  memory.keep_freed()
  if isinstance(sys.stdout, io.TextIOWrapper):
    # Names of files need not be valid text; stderr is set so from the start.
    sys.stdout.reconfigure(errors='backslashreplace')
  logging.set_verbosity(logging.WARNING)
  jax.config.config_with_absl()
  app.run(lambda argv: guard(main, argv), flags_parser=parse)


def cache_compilations(folder: pathlib.Path) -> None:
  """Caches compiled programs in `folder`, so that a resumed run starts fast.

  Every kind of machine has a cache of its own: programs for one CPU crash on
  another, which JAX does not tell apart. JAX_COMPILATION_CACHE_DIR takes
  precedence if it is set.
  """
  folder /= _machine()
  # JAX adds its options at run time, so its types lack them.
  if not jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update('jax_compilation_cache_dir', str(folder))


def _machine() -> str:
  """Digest of the CPU's features and of the compiler's version."""
  facts = [platform.machine(), platform.processor(), jax.__version__]
  facts.append(importlib.metadata.version('jaxlib'))
  cpus = pathlib.Path('/proc/cpuinfo')
  if cpus.exists():
    lines = cpus.read_text('utf-8', 'replace').splitlines()
    wanted = ('model name', 'flags', 'Features', 'CPU part')
    facts += sorted({x for x in lines if x.startswith(wanted)})
  return hashlib.sha256('\n'.join(facts).encode()).hexdigest()[:12]


def no_arguments(argv: list[str]) -> None:
  """Refuses positional arguments.

  Raises:
    UserError: that names the first one.
  """
  if len(argv) > 1:
    raise UserError(
      f'argument {argv[1]!r} belongs to no flag; flags are written --name=value'
    )


def parse(argv: list[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  except AttributeError as error:
    # A flag overrides a key that the configuration does not have.
    text = str(error).replace('\\n', '; ')
    text = ''.join(c for c in text if c not in '\\\'"')
    _fail(f'the configuration has no such key: {text}')
  except Exception as error:  # The configuration's own code runs here.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # An exception inside the file arrives with its traceback as text.
    shown = lines[-1:] if 'Traceback' in str(error) else lines
    _fail(f'{" ".join(shown) or type(error).__name__} (try --help)')


def guard(main: Callable[[list[str]], None], argv: list[str]) -> None:
  try:
    main(argv)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    distributed.leave(USER_ERROR_CODE)
  except Preempted as notice:
    print(notice, file=sys.stderr)
    distributed.leave(PREEMPTED_CODE)
  except jax.errors.JaxRuntimeError as error:
    reason = str(error).strip().splitlines()[0]
    if jax.process_count() == 1 or reason.startswith(_OWN_MISTAKES):
      raise
    distributed.lost(reason)
  except Exception as error:
    number = storage.refusal(error)
    if number not in storage.OF_DISKS:
      raise
    print(f'error: {storage.sentence(error, number)}', file=sys.stderr)
    distributed.leave(USER_ERROR_CODE)


def _fail(message: str) -> NoReturn:
  print(f'error: {message}', file=sys.stderr)
  sys.exit(USER_ERROR_CODE)
