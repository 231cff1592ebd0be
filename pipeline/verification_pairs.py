"""Which photos are compared in a verification: a list of pairs, or all pairs of photos whose folders are people."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from cfr.model.verification import FOLDS
from cfr.pipeline.errors import UserError

MOST_IMPOSTORS = 1_000_000
"""Of more pairs of two people, so many are drawn at random."""

_LFW_HEADER = re.compile(r"\d+\s+\d+|\d+")


@dataclass(frozen=True)
class VerificationPairs:
    """Pairs of photos.

    Attributes:
        first, second: (N,) indices of photos.
        same: (N,) bool, whether they show one person.
        folds: (N,) int.
        absent: pairs of the list that were left out since one of their photos is not there.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    folds: np.ndarray
    absent: int = 0


def listed_pairs(path: str, ids: Sequence[str]) -> VerificationPairs:
    """Read a list of pairs.

    Lines `first second same [fold]`, separated by tabs, commas or spaces, `same` being 1 or 0; or LFW's `pairs.txt`.
    A photo is named by its id, or by the end of its path, with or without the suffix. Without folds, the list is cut
    into ten in its order.

    Args:
        path: of the list.
        ids: of the photos.

    Raises:
        UserError: the list cannot be read, a line is wrong, or a name stands for two photos.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--pairs-list {path}: cannot be read: {error}") from error
    entries = _lfw_entries(path, lines) if lines and _LFW_HEADER.fullmatch(lines[0]) else _plain_entries(path, lines)
    if not entries:
        raise UserError(f"--pairs-list {path}: no pairs in it")
    names = _names(ids)
    found, absent = [], 0
    for number, (first, second, same, fold) in enumerate(entries):
        indices = [_find(path, names, name) for name in (first, second)]
        if None in indices:
            absent += 1
        else:
            found.append((*indices, same, number * FOLDS // len(entries) if fold is None else fold))
    if not found:
        raise UserError(f"--pairs-list {path}: none of its photos is there; its first one is {entries[0][0]!r}")
    first, second, same, folds = (np.array(column) for column in zip(*found, strict=True))
    return VerificationPairs(first, second, same.astype(bool), folds, absent)


def folder_pairs(ids: Sequence[str], seed: int = 0) -> VerificationPairs:
    """All pairs of photos; a photo's person is the folder that it is in.

    Folds are of people, so that a threshold is never chosen on a person whom it judges; pairs across folds go to the
    fold of the first person.

    Raises:
        UserError: the ids have no folders, or no person has two photos.
    """
    folders = [str(PurePosixPath(name).parent) for name in ids]
    names, person = np.unique(folders, return_inverse=True)
    if len(names) < 2:
        raise UserError("--folders: the photos need to be in one folder per person, for at least two people")
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = np.empty(len(names), int)
    fold_of[order] = np.arange(len(names)) % FOLDS
    first, second = (np.concatenate(part) for part in zip(*_people_pairs(person), strict=True))
    if not len(first):
        raise UserError("--folders: no person has two photos")
    others = _impostors(person, np.random.default_rng(seed))
    left, right = np.concatenate([first, others[0]]), np.concatenate([second, others[1]])
    return VerificationPairs(left, right, person[left] == person[right], fold_of[person[left]])


def _people_pairs(person: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    order = np.argsort(person, kind="stable")
    for photos in np.split(order, np.flatnonzero(np.diff(person[order])) + 1):
        a, b = np.triu_indices(len(photos), 1)
        found.append((photos[a], photos[b]))
    return found


def _impostors(person: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    count = len(person)
    if count * (count - 1) // 2 <= MOST_IMPOSTORS:
        first, second = np.triu_indices(count, 1)
    else:
        first, second = generator.integers(0, count, (2, MOST_IMPOSTORS))
    different = person[first] != person[second]
    return first[different], second[different]


def _plain_entries(path: str, lines: list[str]) -> list[tuple[str, str, bool, int | None]]:
    separator = next((mark for mark in "\t," if lines and mark in lines[0]), " ")
    entries = []
    for number, cells in enumerate(csv.reader(lines, delimiter=separator, skipinitialspace=True), start=1):
        if number == 1 and len(cells) >= 3 and cells[2].strip() not in ("0", "1"):
            continue  # a heading
        if len(cells) not in (3, 4) or cells[2].strip() not in ("0", "1"):
            raise UserError(
                f"--pairs-list {path}: line {number} is not `first second 0|1 [fold]`: {lines[number - 1]!r}"
            )
        try:
            fold = int(cells[3]) if len(cells) == 4 else None
        except ValueError:
            raise UserError(f"--pairs-list {path}: line {number}: the fold {cells[3]!r} is no whole number") from None
        entries.append((cells[0].strip(), cells[1].strip(), cells[2].strip() == "1", fold))
    return entries


def _lfw_entries(path: str, lines: list[str]) -> list[tuple[str, str, bool, int | None]]:
    """`Name 1 4` or `Name 1 Other 2`; folds as the header says."""
    header = [int(word) for word in lines[0].split()]
    per_fold = 2 * header[-1]
    entries = []
    for number, line in enumerate(lines[1:]):
        words = line.split()
        if len(words) not in (3, 4) or not (words[1] + words[-1]).isdigit():
            raise UserError(f"--pairs-list {path}: line {number + 2} is not of LFW's pairs.txt: {line!r}")
        first, second = f"{words[0]}_{int(words[1]):04d}", f"{words[-2] if len(words) == 4 else words[0]}"
        entries.append((first, f"{second}_{int(words[-1]):04d}", len(words) == 3, number // per_fold))
    return entries


def _names(ids: Sequence[str]) -> dict[str, int | None]:
    """Every end of every path, with and without the suffix; None where it stands for several photos."""
    names: dict[str, int | None] = {}
    for index, name in enumerate(ids):
        parts = name.split("/")
        for first in range(len(parts)):
            end = "/".join(parts[first:])
            for each in {end, str(PurePosixPath(end).with_suffix(""))}:
                names[each] = index if (first == 0 and each == end) or each not in names else None
    names.update({name: index for index, name in enumerate(ids)})
    return names


def _find(path: str, names: dict[str, int | None], name: str) -> int | None:
    if name not in names:
        return None
    if names[name] is None:
        raise UserError(f"--pairs-list {path}: {name!r} stands for several photos; write more of its path")
    return names[name]
