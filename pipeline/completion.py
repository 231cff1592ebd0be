"""`cfr completion`: prints a script with which the shell completes commands, flags and their values.

The script is made once from the parsers of all commands, so that pressing Tab never waits for torch and Beam.
"""

import argparse
from collections.abc import Sequence

import shtab

from cfr.pipeline.errors import reject_unknown_arguments

SHELLS = ("bash", "zsh")

_EXAMPLES = """\
bash: put the first line into ~/.bashrc, or write the script once where bash-completion looks (second line).
zsh: write it into a folder of $fpath, before compinit is called.

examples:
  eval "$(cfr completion bash)"
  cfr completion bash > ~/.local/share/bash-completion/completions/cfr
  cfr completion zsh > ~/.zfunc/_cfr
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr completion`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("shell", choices=SHELLS, help="which shell")


def run(args: argparse.Namespace, beam_arguments: Sequence[str]) -> int:
    """Print the script; 0."""
    from cfr.pipeline.cli import build_full_parser

    reject_unknown_arguments(beam_arguments)
    parser = build_full_parser()
    _complete_files(parser)
    print(shtab.complete(parser, args.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Every value that is free text may be a file's name, here and in all sub-commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _complete_files(subparser)
        elif action.nargs != 0 and action.choices is None and action.type is None:
            action.complete = shtab.FILE
