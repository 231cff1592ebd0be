"""The `cfr` command line: finds the command, parses its flags, turns errors into exit codes.

A command is a module with `add_arguments(parser)` (flags, and `parser.epilog` with a copy-paste example) and
`run(args, beam_arguments) -> int`. Only the module of the chosen command is imported, so that `cfr --help` does not
wait for torch and Beam. Flags that a command does not know are handed to it as `beam_arguments`.

Exit codes: 0 done; 1 some units failed; 2 bad arguments or input; 130 interrupted (resumable).
"""

import argparse
import importlib
import importlib.metadata
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from cfr.pipeline import console
from cfr.pipeline.errors import UserError, reject_unknown_arguments

# name -> (module, one line for `cfr --help`)
COMMANDS = {
    "ingest": ("cfr.pipeline.ingest", "pack photographs (folders, files, globs, tar, zip) into image shards"),
    "pairs": ("cfr.pipeline.pairs", "make training pairs from image shards"),
    "frontalize": ("cfr.pipeline.frontalize", "turn the faces of image shards to a frontal or any other pose"),
    "occlude": ("cfr.pipeline.occlude", "cover the faces of image shards with known occluders, to train on"),
    "train": ("cfr.pipeline.train", "train the generator on pairs, on one device or many"),
    "train-estimator": ("cfr.pipeline.train_estimator", "train the 3D regressor on renderings, photos, covered faces"),
    "status": ("cfr.pipeline.status", "show how far a job is: done units, rate, failures, slowest units"),
    "plan": ("cfr.pipeline.plan", "machines, hours and bytes of a large job, from measured figures"),
    "evaluate": ("cfr.pipeline.evaluate", "measure fit, occluder mask and guidance on labelled photos"),
    "view": ("cfr.pipeline.view", "draw a contact sheet or a gallery page of pairs, frontal or occluded faces"),
    "photo": ("cfr.pipeline.photo", "one photo through all stages; its face as a textured mesh"),
    "delete": ("cfr.pipeline.delete", "remove the rows of some photos from outputs, for good"),
    "models": ("cfr.pipeline.models", "list the models in use: licence, digest, how to bring your own"),
    "doctor": ("cfr.pipeline.doctor", "look over this machine: versions, threads, CUDA, disk, models"),
    "completion": ("cfr.pipeline.completion", "print the script for tab completion in bash or zsh"),
    "demo": ("cfr.pipeline.demo", "make pairs from the bundled photographs and draw the contact sheet"),
}

_EXAMPLES = """\
examples:
  cfr demo
  cfr ingest photos/ --output shards
  cfr pairs --input 'shards/*.parquet' --output pairs --workers 2
  cfr view pairs --output sheet.png
  cfr train --pairs pairs --output run
"""
# A number, or as in `--sort -fit_error` a column's name; no command has an option of this shape.
_NEGATIVE_VALUE = re.compile(r"-\.?\d|-[^\W\d]\w")


class _Parser(argparse.ArgumentParser):
    """ArgumentParser whose mistakes are UserErrors: one line instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; default: those of the process.

    Returns:
        The exit code (see the module's docstring). A BrokenPipeError (`cfr models | head`) is exit code 1.
    """
    with console.one_command():
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> int:
    command = next((argument for argument in argv if not argument.startswith("-")), None)
    program = f"cfr {command}" if command in COMMANDS else "cfr"
    try:
        parser = _build_parser(command)
        args, beam_arguments = parser.parse_known_args(_join_negative_values(argv))
        if args.command is None:
            reject_unknown_arguments(beam_arguments)
            parser.print_help()
            return 2
        console.configure(vars(args).pop("quiet", False), vars(args).pop("verbose", False))
        code = importlib.import_module(COMMANDS[args.command][0]).run(args, beam_arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        label = console.coloured("error:", "red", sys.stderr)
        print(f"{program}: {label} {' '.join(str(error).split())}", file=sys.stderr)
        if error.detail:
            print(error.detail, file=sys.stderr)
        if console.is_verbose():
            traceback.print_exception(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at exit; that flush must not fail loudly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as stop:  # --help and --version
        return stop.code if isinstance(stop.code, int) else 0


def add_command(subparsers: argparse._SubParsersAction, name: str, summary: str) -> argparse.ArgumentParser:
    """Parser of one command, or of a command's own sub-command; summary: a phrase in lower case."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_loudness(parser)
    return parser


def build_full_parser() -> argparse.ArgumentParser:
    """Parser with the flags of all commands; importing them all takes seconds."""
    return _build_parser(*COMMANDS)


def _add_loudness(parser: argparse.ArgumentParser) -> None:
    # No defaults: those of a sub-command would undo what was said before its name.
    add = parser.add_argument_group("what is told").add_argument
    add("-q", "--quiet", action="store_true", default=argparse.SUPPRESS, help="results and errors only")
    add("-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="log messages, and an error's origin")


def _build_parser(*commands: str | None) -> argparse.ArgumentParser:
    """Parser that lists every command but knows the flags of some only."""
    parser = _Parser(
        prog="cfr",
        description="Training pairs for joint face rotation and de-occlusion, and bulk face frontalisation.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"cfr {importlib.metadata.version('cfr')}")
    _add_loudness(parser)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (module, summary) in COMMANDS.items():
        subparser = add_command(subparsers, name, summary)
        if name in commands:
            importlib.import_module(module).add_arguments(subparser)
    return parser


def _join_negative_values(argv: Sequence[str]) -> list[str]:
    """`--pose -30,0,0` -> `--pose=-30,0,0`, and `--sort -yaw` alike: argparse would take the value for an option."""
    joined: list[str] = []
    for index, argument in enumerate(argv):
        if argument == "--":
            return joined + list(argv[index:])
        if joined and re.fullmatch(r"--[a-z][\w-]*", joined[-1]) and _NEGATIVE_VALUE.match(argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


if __name__ == "__main__":
    sys.exit(main())
