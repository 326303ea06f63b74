"""Entry point of every command; reports mistakes in one sentence.

Exit codes of all commands: 0 finished, 2 a mistake in the input, 75 stopped by
a signal (repeat the command to continue), 76 another process of the run died.
Whatever ends a command is said in one sentence; --debug also shows the
traceback.
"""

import hashlib
import importlib.metadata
import io
import os
import pathlib
import platform
import sys
import traceback
from collections.abc import Callable

import jax
from absl import app, flags, logging

from softdimo_jax.errors import (
  PREEMPTED_CODE,
  USER_ERROR_CODE,
  Preempted,
  UserError,
)
from softdimo_jax.runtime import distributed, flag_types, memory, storage

# Runtime errors that this process caused itself.
_OWN_MISTAKES = ('INVALID_ARGUMENT', 'RESOURCE_EXHAUSTED', 'UNIMPLEMENTED')
_PACKAGE = pathlib.Path(__file__).parents[1]
_DEBUG = flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')


def run(main: Callable[[list[str]], None]) -> None:
  """`absl.app.run` without tracebacks for mistakes that a user can fix."""
  memory.keep_freed()
  if isinstance(sys.stdout, io.TextIOWrapper):
    # Names of files need not be valid text; stderr is set so from the start.
    sys.stdout.reconfigure(errors='backslashreplace')
  flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS['debug'])
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
  """Reads the flags; ends the process with one sentence if they are wrong."""
  try:
    left = flags.FLAGS(argv)
    flag_types.check_outputs(flags.FLAGS)
    return left
  except AttributeError as error:
    # A flag overrides a key that the configuration does not have.
    text = str(error).replace('\\n', '; ')
    text = ''.join(c for c in text if c not in '\\\'"')
    _say(f'the configuration has no such key: {text}', '--debug' in argv)
  except Exception as error:  # The configuration's own code runs here.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # An exception inside the file arrives with its traceback as text.
    shown = lines[-1:] if 'Traceback' in str(error) else lines
    _say(
      f'{" ".join(shown) or type(error).__name__} (try --help)',
      '--debug' in argv,
    )
  sys.exit(USER_ERROR_CODE)


def guard(main: Callable[[list[str]], None], argv: list[str]) -> None:
  """Runs a command; see the exit codes above."""
  try:
    main(argv)
    sys.stdout.flush()
  except (Preempted, KeyboardInterrupt) as notice:
    # Ctrl-C itself reaches commands that have nothing to save.
    print(notice if notice.args else _INTERRUPTED, file=sys.stderr)
    distributed.leave(PREEMPTED_CODE)
  except BrokenPipeError:
    # Nobody reads the output any more; Python would say so again at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    _say('the output was closed before its end', _DEBUG.value)
    distributed.leave(USER_ERROR_CODE)
  except Exception as error:
    reason = _first_line(error)
    if isinstance(error, jax.errors.JaxRuntimeError) and not (
      jax.process_count() == 1 or reason.startswith(_OWN_MISTAKES)
    ):
      distributed.lost(reason)
    _say(_sentence(error), _DEBUG.value)
    distributed.leave(USER_ERROR_CODE)


def _sentence(error: Exception) -> str:
  """What happened, and what to do about it."""
  text = _first_line(error)
  match error:
    case UserError():
      return ' '.join(line.strip() for line in str(error).splitlines())
    case _ if (number := storage.refusal(error)) in storage.OF_DISKS:
      return storage.sentence(error, number)
    case MemoryError():
      return f'not enough memory ({text or "host"}); {_LESS}'
    case UnicodeError():
      return f'a text or a name is not UTF-8 ({text}); convert or rename it'
    case OSError():
      reason = error.strerror or text or type(error).__name__
      return reason if error.filename is None else f'{error.filename}: {reason}'
    case AttributeError() | KeyError() if _of_config(error):
      return (
        f'the configuration has no field {text.strip(_QUOTES)!r}; add it to '
        'the file of --config, or restore config.json in the workdir'
      )
    case jax.errors.JaxRuntimeError() if text.startswith('RESOURCE_EXHAUSTED'):
      return f'not enough memory on the device ({text}); {_LESS}'
    case _:
      return (
        f'{type(error).__name__} in {_place(error)}: {text}; if your input is '
        'right, this is a defect of softdimo_jax: report it with the output of '
        '--debug'
      )


_INTERRUPTED = 'stopped by SIGINT; run the same command to start or continue it'
_QUOTES = '"\''  # that ml_collections adds
_LESS = 'use a smaller batch or fewer or smaller images'


def _of_config(error: Exception) -> bool:
  """Whether a field was missing in a configuration."""
  frames = traceback.extract_tb(error.__traceback__)
  return (
    bool(frames) and 'ml_collections' in pathlib.Path(frames[-1].filename).parts
  )


def _place(error: Exception) -> str:
  """Last line of this package that the error went through."""
  place = 'an unknown place'
  for frame in traceback.extract_tb(error.__traceback__):
    file = pathlib.Path(frame.filename)
    if file.is_relative_to(_PACKAGE):
      place = f'{file.relative_to(_PACKAGE)}:{frame.lineno}'
  return place


def _first_line(error: Exception) -> str:
  return next(iter(str(error).strip().splitlines()), '')


def _say(message: str, debug: bool) -> None:
  if debug:
    traceback.print_exc()
  print(f'error: {message}', file=sys.stderr)
