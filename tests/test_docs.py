"""Every command and program that the README and docs/ show is run, on the bundled photographs.

A page's ```sh and ```python blocks run top to bottom in one process, in a folder that holds `photos/`, and
stand-ins for the files of the paper's authors where a page names `authors/`. `make` lines are
only looked up in the Makefile. Blocks in other languages show output or text.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "stand_in"))
from paper_files import write_paper_files

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[\w-]+)?\)")

# One process per page: importing torch and Beam takes longer than the commands.
RUNNER = """
import json, shlex, sys
from cfr.pipeline.cli import main

names = {"__name__": "__main__"}
for language, code in json.load(sys.stdin):
    if language == "python":
        exec(compile(code, "block", "exec"), names)
        continue
    for line in code.replace("\\\\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0] == "make":
            continue
        assert words[0] == "cfr", f"not a command of ours: {line}"
        print("$", line, flush=True)
        code = main(words[1:])
        assert code == 0, f"exit code {code}: {line}"
"""


def blocks(page: Path) -> list[tuple[str, str]]:
    return [found for found in _BLOCK.findall(page.read_text("utf-8")) if found[0] in ("sh", "python")]


def shell_lines(page: Path) -> list[str]:
    return [line for language, code in blocks(page) if language == "sh" for line in code.splitlines()]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_what_a_page_shows_works(page, tmp_path, photos_dir):
    shutil.copytree(photos_dir, tmp_path / "photos")
    if any("authors/" in code for _, code in blocks(page)):
        write_paper_files(tmp_path / "authors")
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        cwd=tmp_path,
        input=json.dumps(blocks(page)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def test_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = {line.split()[1] for page in PAGES for line in shell_lines(page) if line.startswith("make ")}
    assert {"demo", "test"} <= shown <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, _ in _LINK.findall(page.read_text("utf-8")):
        assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_pictures_in_the_docs_are_small():
    for path in (ROOT / "docs" / "images").iterdir():
        assert path.stat().st_size < 400_000, path.name
