"""`cfr doctor`: looks over this machine: versions, torch and its threads, CUDA, EGL, disk, memory, models."""

import argparse
import ctypes.util
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from cfr.pipeline.console import coloured
from cfr.pipeline.errors import reject_unknown_arguments

_PACKAGES = ("apache-beam", "numpy", "pillow", "pyarrow", "safetensors", "torch")
_EXTRAS = {"paper": ("scipy",), "pyrender": ("pyrender",)}
_LITTLE_DISK = 5e9
_LITTLE_MEMORY = 2e9  # a worker of `cfr pairs` takes about 1 GB
_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}
_EXAMPLES = """\
Exit code 1 if something is wrong that keeps cfr from working; a "note" is worth knowing, not wrong.

examples:
  cfr doctor
  cfr doctor --output /data/pairs
  cfr doctor --json
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        state: "ok", "note" (works, but worth knowing) or "problem".
        value: what was found.
        advice: what to do about it, "" if nothing.
    """

    subject: str
    state: str
    value: str
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr doctor`."""
    parser.epilog = _EXAMPLES
    parser.add_argument("--output", default=".", metavar="DIR", help="look at the disk of this folder (default: .)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace, beam_arguments: Sequence[str]) -> int:
    """Print the findings; 1 if there is a problem among them, else 0."""
    reject_unknown_arguments(beam_arguments)
    findings = [*_versions(), *_torch(), _egl(), _disk("output", args.output), _disk("temporary files", None)]
    findings += [_memory(), *_models()]
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            state = coloured(f"{finding.state:<7}", _COLOURS[finding.state], sys.stdout)
            print(f"{state}  {finding.subject:<{width}}  {finding.value}")
            if finding.advice:
                print(f"{'':<9}{'':<{width}}  -> {finding.advice}")
    return int(any(finding.state == "problem" for finding in findings))


def _versions() -> list[Finding]:
    version = platform.python_version()
    found = [
        Finding("cfr", "ok", importlib.metadata.version("cfr")),
        Finding("python", "ok", f"{version} ({sys.executable})"),
        Finding("system", "ok", f"{platform.system()} {platform.release()} {platform.machine()}"),
    ]
    for name in _PACKAGES:
        installed = _version(name)
        advice = "" if installed else f"pip install {name}"
        found.append(Finding(name, "ok" if installed else "problem", installed or "missing", advice))
    for extra, names in _EXTRAS.items():
        missing = [name for name in names if not _version(name)]
        value = f"not installed: {', '.join(missing)}" if missing else ", ".join(f"{n} {_version(n)}" for n in names)
        advice = f"optional: pip install 'cfr[{extra}]'" if missing else ""
        found.append(Finding(f"extra {extra}", "note" if missing else "ok", value, advice))
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> list[Finding]:
    try:
        import torch
    except ImportError as error:
        return [Finding("torch", "problem", f"cannot be imported: {error}", "install cfr again (make install)")]
    threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    busy = load > 0.75 * cores
    found = [
        Finding(
            "threads",
            "note" if busy else "ok",
            f"torch {threads}, usable cores {cores}, load {load:.1f}",
            "the cores are busy: set OMP_NUM_THREADS=1 for commands other than the jobs" if busy else "",
        )
    ]
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        return [*found, Finding("CUDA", "note", f"none: {built}", "everything runs on the CPU; --device cuda will not")]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        value = f"{properties.name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, CUDA {torch.version.cuda}"
        found.append(Finding(f"CUDA device {index}", "ok", value))
    return found


def _egl() -> Finding:
    library = ctypes.util.find_library("EGL")
    if library:
        return Finding("EGL", "ok", library)
    return Finding("EGL", "note", "no libEGL", "only the comparison with pyrender needs it; cfr renders without OpenGL")


def _disk(subject: str, folder: str | None) -> Finding:
    if folder is not None and "://" in folder:
        return Finding(f"disk: {subject}", "note", f"{folder} is not on this machine")
    folder = os.path.abspath(folder or tempfile.gettempdir())
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Finding(f"disk: {subject}", "problem", f"{folder} is not writable", "choose another folder")
    advice = "about 0.3 MB per pair are needed; `cfr pairs --dry-run` estimates a job" if free < _LITTLE_DISK else ""
    return Finding(f"disk: {subject}", "note" if advice else "ok", f"{free / 1e9:.1f} GB free at {folder}", advice)


def _memory() -> Finding:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not a thing that every system tells
        return Finding("memory", "note", "this system does not tell")
    advice = "a worker of `cfr pairs` takes about 1 GB: keep --workers low" if total < _LITTLE_MEMORY else ""
    value = f"{free / 1e9:.1f} GB unused of {total / 1e9:.1f} GB"
    return Finding("memory", "note" if advice else "ok", value, advice)


def _models() -> list[Finding]:
    from cfr.model.registry import PARTS

    found = []
    for part in PARTS:
        try:
            digest = part.digest()
        except FileNotFoundError as error:
            found.append(Finding(f"model: {part.part}", "problem", str(error), "install cfr again (make install)"))
            continue
        details = (f" ({part.licence})" if part.licence else "") + (f", sha256 {digest[:12]}" if digest else "")
        value = f"{part.name}{details}"
        found.append(Finding(f"model: {part.part}", "ok", value))
    return found
