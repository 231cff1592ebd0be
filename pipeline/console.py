"""What reaches the terminal besides results: notes, progress bars and colour.

Results go to stdout. Notes and progress go to stderr, and `--quiet` silences them. Colour is used on a terminal only,
and never where the environment has NO_COLOR (https://no-color.org).
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

_CODES = {"red": 31, "green": 32, "yellow": 33}


@dataclass
class _State:
    quiet: bool = False
    verbose: bool = False


_state = _State()


@contextlib.contextmanager
def one_command() -> Iterator[None]:
    """What `configure` is told holds to the end of the block: a Python program may run several commands."""
    logger = logging.getLogger()
    level, handlers = logger.level, list(logger.handlers)
    before = _state.quiet, _state.verbose
    _state.quiet = _state.verbose = False
    try:
        yield
    finally:
        _state.quiet, _state.verbose = before
        logger.setLevel(level)
        for handler in set(logger.handlers) - set(handlers):
            logger.removeHandler(handler)


def configure(quiet: bool, verbose: bool) -> None:
    """How much this process tells; verbose: libraries' log messages too, and where an error came from."""
    _state.quiet, _state.verbose = quiet, verbose
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
        logging.getLogger().setLevel(logging.INFO)


def is_quiet() -> bool:
    """Whether notes and progress bars are unwanted."""
    return _state.quiet


def is_verbose() -> bool:
    """Whether details are wanted."""
    return _state.verbose


def note(text: str) -> None:
    """A line about what is going on, which is no result: to stderr, unless quiet."""
    if not _state.quiet:
        print(text, file=sys.stderr)


def coloured(text: str, colour: str, stream: TextIO) -> str:
    """Text in red, green or yellow if the stream is a terminal that is to be coloured, else the text itself."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return text if plain else f"\033[{_CODES[colour]}m{text}\033[0m"
