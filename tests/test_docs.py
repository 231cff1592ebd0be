"""Every command and program that the README and docs/ show is run, on the bundled photographs.

A page's blocks run top to bottom in one process, then the programs that its text names, in a folder that holds
`photos/` and what else of `readers_data.py` the page names. What takes too long as printed is cut down, what cannot run
is looked up: the tables in `page_commands.py` say which and how.
"""

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "stand_in"))
from page_commands import (
    LOOKED_UP,
    PAGE_IDS,
    PAGES,
    ROOT,
    SHELL,
    SHORTENED,
    as_run,
    blocks,
    find,
    page_commands,
    pages_to_run,
    slow_pages,
    steps,
    text_around,
)
from readers_data import write_what_is_named

RUNNER = ROOT / "tests" / "stand_in" / "run_page.py"
OTHER_LANGUAGES = {"python", "toml", "text"}
_LINK = re.compile(r"\]\(([^)#\s]+)(#[\w-]+)?\)")
_PROGRAM = r"([A-Z_]+=\S+ )*(cfr|python3?|make|pip|docker|torchrun|infra/\w+\.sh) "
_COMMAND = re.compile(rf"^(\$ )?\s*{_PROGRAM}", re.MULTILINE)
_INDENTED_COMMAND = re.compile(rf"^( {{4}}|\$ )\s*{_PROGRAM}", re.MULTILINE)


@pytest.fixture
def run_page(tmp_path, photos_dir):
    """A function that runs a page; the folder goes afterwards, checkpoints are large."""

    def run(page: Path, slow: bool) -> None:
        wanted = steps(page, slow)
        for folder in ("benchmarks", "infra", "scripts", "tests"):
            (tmp_path / folder).symlink_to(ROOT / folder)
        files = [block.text for block in blocks(page) if block.language == "toml"]
        for text in files:
            (tmp_path / re.match(r"# (\S+)\n", text)[1]).write_text(text)
        said = json.dumps(wanted) + "\n".join(files)
        write_what_is_named(f"photos {said}", tmp_path, photos_dir)
        done = subprocess.run(
            [sys.executable, RUNNER],
            cwd=tmp_path,
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            timeout=500,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # torch with several threads crawls on busy cores
        )
        assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}"

    yield run
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("page", pages_to_run(), ids=lambda page: page.name)
def test_what_a_page_shows_works(page, run_page):
    run_page(page, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", slow_pages(), ids=lambda page: page.name)
def test_what_takes_long_works(page, run_page):
    run_page(page, slow=True)


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_no_command_hides_in_a_block_that_is_not_run(page):
    others = [block for block in blocks(page) if block.language not in SHELL]
    assert {block.language for block in others} <= OTHER_LANGUAGES
    assert not [block for block in others if block.language != "python" and _COMMAND.search(block.text)]
    assert not _INDENTED_COMMAND.search(text_around(page))


def test_a_program_in_no_table_is_refused():
    with pytest.raises(AssertionError, match="neither runs as printed nor is in a table"):
        as_run(["python", "benchmarks/new.py"])


def test_the_tables_hold_what_the_pages_show():
    shown = [words for page in PAGES for words in page_commands(page)]
    known = [line for table in (SHORTENED, LOOKED_UP) for line in table]
    assert not [line for line in known if not any(find({line: True}, words) for words in shown)]


@pytest.mark.parametrize("line", [line for line in LOOKED_UP if line.startswith("python ")])
def test_arguments_of_a_program_that_cannot_run_here_parse(line):
    words = shlex.split(line)
    code = (
        "import argparse, runpy, sys; parse = argparse.ArgumentParser.parse_args\n"
        "argparse.ArgumentParser.parse_args = lambda parser, *given: sys.exit(parse(parser, *given) is None)\n"
        "sys.path.insert(0, sys.argv[1].rpartition('/')[0]); del sys.argv[0]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__'); sys.exit('it parses no arguments')"
    )
    done = subprocess.run([sys.executable, "-c", code, *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]


def test_files_and_extras_of_commands_that_are_looked_up_exist():
    extras = set(importlib.metadata.metadata("cfr").get_all("Provides-Extra"))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    made = set()
    for words in (words for page in PAGES for words in page_commands(page)):
        if words[0] == "make":
            made |= set(words[1:])
        elif words[0] == "pip":
            assert words[1] == "install"
            assert re.fullmatch(r"cfr\[([\w-]+)\]", words[2])[1] in extras
        elif words[0] == "docker":
            assert (ROOT / words[words.index("-f") + 1]).is_file()
    assert {"demo", "test", "install"} <= made <= targets


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_links_lead_somewhere(page):
    for target, _ in _LINK.findall(page.read_text("utf-8")):
        assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_pictures_in_the_docs_are_small():
    for path in (ROOT / "docs" / "images").iterdir():
        assert path.stat().st_size < 400_000, path.name
