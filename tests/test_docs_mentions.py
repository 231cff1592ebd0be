"""`cfr` with flags in the text of the README and docs/: the command line knows what is mentioned."""

import argparse
import sys
from pathlib import Path

import pytest

from cfr.pipeline import cli
from cfr.pipeline.errors import UserError

sys.path.insert(0, str(Path(__file__).resolve().parent / "stand_in"))
from page_commands import PAGE_IDS, PAGES, in_text

MENTIONS = [words for page in PAGES for words in in_text(page) if words[0] == "cfr"]


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """A parser's commands by name."""
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return found[0] if found else {}


@pytest.fixture(scope="module")
def lenient_parser():
    """The command line's own parser, except that nothing is required: a mention leaves out what it is not about."""
    whole = cli.build_full_parser()
    waiting = [whole]
    for parser in waiting:
        waiting += subcommands(parser).values()
        for group in parser._mutually_exclusive_groups:
            group.required = False
        for action in parser._actions:
            action.required = False
            if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
                action.nargs = {None: "?", "+": "*"}.get(action.nargs, action.nargs)
    return whole


def parse(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """What the parser does not know of the words after `cfr`; the value of a flag at the end may be missing."""
    *before, last = words
    named = parser
    for word in before:
        named = subcommands(named).get(word, named)
    if last.startswith("--"):
        assert last in named._option_string_actions, f"{named.prog} has no {last}"
        words = before
    return parser.parse_known_args(cli._join_negative_values(words))[1]


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_mentioned_flags_exist_and_take_these_values(page, lenient_parser):
    for words in in_text(page):
        if words[0] == "cfr":
            assert not parse(lenient_parser, words[1:]), words


@pytest.mark.parametrize(
    "words",
    [["pairs", "--no-such-flag"], ["pairs", "--faces", "some"], ["evaluate", "pose", "a", "--no-such-flag", "1"]],
)
def test_a_wrong_mention_is_noticed(words, lenient_parser):
    with pytest.raises((AssertionError, UserError)):
        assert not parse(lenient_parser, words)


def test_there_are_mentions():
    assert ["cfr", "models", "check", "FILE"] in MENTIONS
