"""Errors that are the user's to fix: reported as one line on stderr with exit code 2, never as a traceback."""

from collections.abc import Sequence


class UserError(Exception):
    """Bad arguments, missing or unusable input, unwritable output.

    The message is shown as it is, so it names the thing at fault (flag, path) and says what to do about it.

    Args:
        message: one line.
        detail: lines that are shown below it unchanged, for example a pointer into what the user typed.
    """

    def __init__(self, message: str, detail: str = ""):
        super().__init__(message)
        self.detail = detail


def reject_unknown_arguments(arguments: Sequence[str]) -> None:
    """For commands that run no Beam job: every argument that the command line did not recognise is a mistake.

    Raises:
        UserError: if `arguments` is not empty.
    """
    if arguments:
        raise UserError(f"unknown argument {arguments[0]!r}; --help lists the known ones")
