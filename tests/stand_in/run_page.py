"""Runs a page's commands and programs in the current folder, in one process: imports take longer than most of them.

`python run_page.py < steps.json`, as `page_commands.steps` makes them. A console's command has to say what the page
shows, and to end with exit code 2 where that is an error.
"""

import contextlib
import io
import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

from cfr.pipeline.cli import main


def run_script(words: list[str]) -> int:
    """A script of this repository, as `python SCRIPT ...` runs it; its exit code."""
    modules, path, arguments = set(sys.modules), sys.path[:], sys.argv
    sys.argv = words[1:]
    sys.path.insert(0, str(Path(words[1]).parent))
    try:
        runpy.run_path(words[1], run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return 0 if stop.code is None else int(stop.code != 0)
    finally:
        sys.argv, sys.path[:] = arguments, path
        # Its neighbours: another folder may have modules of the same names.
        for name in set(sys.modules) - modules:
            if (Path(getattr(sys.modules[name], "__file__", None) or "/").parent.resolve()) == script_folder(words):
                del sys.modules[name]
    return 0


def script_folder(words: list[str]) -> Path:
    """Where a script and its neighbours are."""
    return Path(words[1]).parent.resolve()


def run_command(words: list[str]) -> int:
    """The exit code of a command."""
    if words[0] == "cfr":
        return main(words[1:])
    if words[0] == "python":
        return run_script(words)
    program = Path(sys.executable).with_name(words[0])
    return subprocess.run([program, *words[1:]]).returncode


def check_command(words: list[str], output: str | None) -> None:
    """Run a command; output: what it has to say."""
    print("$", shlex.join(words), flush=True)
    if output is None:
        code = run_command(words)
        assert code == 0, f"exit code {code}: {shlex.join(words)}"
        return
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run_command(words)
    assert said.getvalue() == output, f"{shlex.join(words)} says\n{said.getvalue()}"
    assert code == (2 if ": error: " in output else 0), code


def run_steps() -> None:
    """Those on standard input."""
    names = {"__name__": "__main__"}
    for step in json.load(sys.stdin):
        if "code" in step:
            exec(compile(step["code"], "block", "exec"), names)
            continue
        kept = {name: os.environ.get(name) for name in step["environment"]}
        os.environ.update(step["environment"])
        check_command(step["words"], step["output"])
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


if __name__ == "__main__":
    run_steps()
