"""The command line's frame: help, errors, exit codes, arguments that argparse alone would refuse."""

import importlib
import json
import subprocess
import sys
import time
import types

import pytest

from cfr.pipeline import cli
from cfr.pipeline.errors import UserError


@pytest.fixture
def probe(monkeypatch):
    """A command that records what it is given; its `act` may raise or return an exit code."""
    module = types.ModuleType("cfr_probe_command")
    module.act = lambda: 0

    def add_arguments(parser):
        parser.add_argument("--pose")
        parser.add_argument("--name")
        parser.add_argument("--dry-run", action="store_true")
        parser.add_argument("files", nargs="*")

    def run(args, beam_arguments):
        module.args, module.beam_arguments = args, beam_arguments
        return module.act()

    module.add_arguments, module.run = add_arguments, run
    monkeypatch.setitem(sys.modules, "cfr_probe_command", module)
    monkeypatch.setitem(cli.COMMANDS, "probe", ("cfr_probe_command", "record the arguments"))
    return module


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    assert cli.main([command, "--help"]) == 0
    assert f"cfr {command}" in capsys.readouterr().out.split("examples:")[-1]
    assert callable(importlib.import_module(cli.COMMANDS[command][0]).run)


def test_overview_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(command in overview for command in cli.COMMANDS)
    assert cli.main([]) == 2
    assert "commands" in capsys.readouterr().out


def test_help_does_not_wait_for_torch_and_beam():
    code = "import sys; from cfr.pipeline.cli import main; main(['--help']); main(['--version'])"
    code += "; sys.exit(bool({'torch', 'apache_beam', 'pyarrow', 'numpy'} & sys.modules.keys()))"
    started = time.perf_counter()
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
    assert time.perf_counter() - started < 10


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("cfr ")


@pytest.mark.parametrize("value", ["-30,0,0", "-.5,1,2", "30,-1,0"])
def test_values_that_start_with_a_minus(probe, value):
    for arguments in (["--pose", value], [f"--pose={value}"]):
        assert cli.main(["probe", *arguments, "--dry-run", "x.jpg"]) == 0
        assert (probe.args.pose, probe.args.files, probe.args.dry_run) == (value, ["x.jpg"], True)


def test_two_dashes_end_the_options(probe):
    assert cli.main(["probe", "--dry-run", "--", "-1.jpg", "--pose"]) == 0
    assert probe.args.files == ["-1.jpg", "--pose"]


def test_unknown_flags_are_handed_to_the_command(probe):
    assert cli.main(["probe", "--runner=DataflowRunner", "--pose", "1", "--po", "--temp_location=gs://x"]) == 0
    assert probe.beam_arguments == ["--runner=DataflowRunner", "--po", "--temp_location=gs://x"]
    assert probe.args.pose == "1"


def test_exit_codes(probe, capsys):
    def fail(error):
        raise error

    probe.act = lambda: 1
    assert cli.main(["probe"]) == 1
    probe.act = lambda: fail(KeyboardInterrupt())
    assert cli.main(["probe"]) == 130
    capsys.readouterr()
    probe.act = lambda: fail(UserError("two\nlines"))
    assert cli.main(["probe"]) == 2
    assert capsys.readouterr().err == "cfr probe: error: two lines\n"
    probe.act = lambda: fail(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):  # a bug is not the user's error
        cli.main(["probe"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ingst"], "'ingst'"),
        (["ingest"], "SRC"),
        (["ingest", "x"], "--output"),
        (["models", "--wat"], "'--wat'"),
        (["--wat"], "--wat"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, told, capsys):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert told in captured.err


def test_a_closed_pipe_is_no_traceback():
    code = "import sys; from cfr.pipeline.cli import main; sys.exit(main(['models']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_models_names_licence_and_digest_of_every_weight(capsys):
    assert cli.main(["models", "--json"]) == 0
    parts = {part["part"]: part for part in json.loads(capsys.readouterr().out)}
    assert {"detector", "landmarks", "face_model"} <= parts.keys()
    for name in ("detector", "landmarks", "face_model"):
        assert len(parts[name]["sha256"]) == 64
        assert parts[name]["licence"]
        assert parts[name]["source"]
    assert cli.main(["models"]) == 0
    table = capsys.readouterr().out
    assert all(part["active"] in table and part["sha256"] in table for part in parts.values())
