"""What a user of a shell expects: doctor, tab completion, quiet and verbose, colour on terminals only."""

import json
import logging
import os
import pty
import subprocess
import sys

import pytest

from cfr.pipeline import cli, doctor
from cfr.pipeline.cli import main


def run_cfr(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "cfr.pipeline.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def on_a_terminal(arguments: list[str], **environment: str) -> str:
    """What a command that fails writes to a terminal."""
    main_end, other_end = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    subprocess.run(
        [sys.executable, "-m", "cfr.pipeline.cli", *arguments],
        stderr=other_end,
        stdout=subprocess.DEVNULL,
        env=clean | {"TERM": "xterm"} | environment,
        check=False,
        timeout=120,
    )
    os.close(other_end)
    told = os.read(main_end, 65536).decode()
    os.close(main_end)
    return told


def test_doctor_names_what_it_looked_at(capsys):
    assert main(["doctor", "--json"]) == 0
    found = {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)}
    expected = {"cfr", "python", "torch", "threads", "EGL", "disk: output", "memory", "model: detector"}
    assert expected <= found.keys()
    assert any(name.startswith("CUDA") for name in found)
    assert all(finding["state"] != "problem" for finding in found.values())
    assert main(["doctor"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in found)
    assert "\033" not in table


def test_doctor_tells_of_a_disk_that_cannot_be_used(tmp_path, capsys, monkeypatch):
    assert main(["doctor", "--json", "--output", str(tmp_path / "not" / "yet")]) == 0
    disk = next(f for f in json.loads(capsys.readouterr().out) if f["subject"] == "disk: output")
    assert str(tmp_path) in disk["value"]
    monkeypatch.setattr(doctor.os, "access", lambda folder, mode: False)
    assert main(["doctor", "--output", str(tmp_path)]) == 1
    assert f"{tmp_path} is not writable" in capsys.readouterr().out


def test_doctor_tells_of_a_missing_model(monkeypatch, capsys):
    from cfr.model import registry

    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    assert main(["doctor", "--json"]) == 1
    detector = next(f for f in json.loads(capsys.readouterr().out) if f["subject"] == "model: detector")
    assert detector["state"] == "problem" and "mtcnn" in detector["value"] and detector["advice"]


def completions(script: str, *words: str) -> set[str]:
    """What bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    program = f"""
        source {script}
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE="{" ".join(words)}"; COMP_POINT=${{#COMP_LINE}}
        $(complete -p cfr | sed 's/.*-F \\([^ ]*\\).*/\\1/') cfr '{words[-1]}' '{words[-2]}' 2>/dev/null
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split())


def test_bash_completes_commands_flags_and_values(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "cfr.bash"
    script.write_text(capsys.readouterr().out)
    assert completions(script, "cfr", "") >= set(cli.COMMANDS)
    assert completions(script, "cfr", "pairs", "--views") == {"--views-per-face"}
    assert completions(script, "cfr", "pairs", "--device", "c") == {"cpu", "cuda"}
    assert "--where" in completions(script, "cfr", "view", "--")
    assert "landmarks" in completions(script, "cfr", "evaluate", "l")


def test_zsh_script_knows_every_command(capsys):
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef cfr")
    assert all(f"{command}:" in script for command in cli.COMMANDS)


def test_quiet_leaves_results_and_errors(tmp_path, photos_dir):
    loud = run_cfr("ingest", str(photos_dir), "--output", str(tmp_path / "loud"))
    quiet = run_cfr("ingest", str(photos_dir), "--output", str(tmp_path / "quiet"), "--quiet")
    assert loud.returncode == quiet.returncode == 0
    assert "ingest: sources" in loud.stderr
    assert quiet.stderr == ""
    assert "2 photos in 1 shards" in quiet.stdout
    for place in (["-q", "ingest"], ["ingest", "-q"]):
        wrong = run_cfr(*place, str(tmp_path / "nothing"), "--output", str(tmp_path / "x"))
        assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1


def test_verbose_shows_where_an_error_came_from(tmp_path, capsys):
    arguments = ["ingest", str(tmp_path / "nothing"), "--output", str(tmp_path / "x")]
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main([*arguments, "--verbose"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told and "list_photos" in told


def test_what_one_command_is_told_does_not_hold_for_the_next(tmp_path, photos_dir, capsys):
    """Catches: --quiet of one call of `main` that silences a Python program's next ones."""
    level, handlers = logging.root.level, list(logging.root.handlers)
    for number, flags in enumerate([["--quiet", "--verbose"], []]):
        assert main(["ingest", str(photos_dir), "--output", str(tmp_path / str(number)), *flags]) == 0
        assert ("ingest: sources" in capsys.readouterr().err) == (not flags)
    assert main(["ingest", str(tmp_path / "nothing"), "--output", str(tmp_path / "x")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert (logging.root.level, logging.root.handlers) == (level, handlers)


def test_colour_on_a_terminal_only():
    assert "\033[31merror:" in on_a_terminal(["ingst"])
    assert "\033" not in on_a_terminal(["ingst"], NO_COLOR="1")
    assert "\033" not in on_a_terminal(["ingst"], TERM="dumb")
    assert "\033" not in run_cfr("ingst").stderr


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["pairs", "--input", "none.parquet", "--output", "x"], "--input"),
        (["pairs", "--input", "x", "--output", "y", "--unit-rows", "0"], "--unit-rows"),
        (["pairs", "--input", "x", "--output", "y", "--faces", "some"], "--faces"),
        (["view", "nowhere", "--rows", "0"], "--rows"),
        (["view", "nowhere", "--output", "sheet.txt"], "--output"),
        (["train", "--pairs", "nowhere", "--output", "run"], "--pairs"),
    ],
)
def test_errors_name_the_flag_to_change(arguments, flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert flag in capsys.readouterr().err
