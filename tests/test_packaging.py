"""What is installed: the wheel, and the sdist that Beam's --setup_file stages and workers build from."""

import email
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("model", "transforms", "pipeline")


def run(*command: object, cwd: Path) -> None:
    done = subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def build_wheel(source: Path, output: Path) -> zipfile.Path:
    """The wheel built from a source folder, without the network."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    run("-m", "pip", "wheel", *options, "--wheel-dir", output, source, cwd=output.parent)
    return zipfile.Path(next(output.glob("cfr-*.whl")))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the sources: building leaves folders behind."""
    copy = tmp_path_factory.mktemp("packaging") / "source"
    copy.mkdir()
    for name in PACKAGES:
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in REPOSITORY.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    return copy


@pytest.fixture(scope="module")
def built(source) -> zipfile.Path:
    return build_wheel(source, source.parent / "wheel")


@pytest.fixture(scope="module")
def wheel(built) -> list[str]:
    """Names in the wheel."""
    return built.root.namelist()


@pytest.fixture(scope="module")
def staged(source) -> Path:
    """The sdist, made with the command that Beam uses for --setup_file."""
    folder = source.parent / "staged"
    run("setup.py", "--quiet", "sdist", "--dist-dir", folder, cwd=source)
    return next(folder.glob("cfr-*.tar.gz"))


def expected_files() -> set[str]:
    """Every module and data file, under the name it must have in the wheel."""
    files = set()
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                files.add(f"cfr/{path.relative_to(REPOSITORY).as_posix()}")
    return files


def test_the_wheel_has_every_module_and_data_file(wheel):
    assert expected_files() <= set(wheel)
    assert "cfr/model/data/photos/astronaut.png" in wheel


def test_nothing_but_cfr_lands_in_site_packages(wheel):
    assert {name.split("/")[0].split("-")[0] for name in wheel} == {"cfr"}
    assert "cfr/__init__.py" not in wheel  # a namespace package


def test_the_wheel_carries_the_notices(wheel):
    licences = {name.rsplit("/", 1)[-1] for name in wheel if ".dist-info/licenses/" in name}
    assert {"LICENSE", "NOTICE"} <= licences


def test_what_beam_stages_builds_the_same_wheel(staged, wheel, tmp_path):
    with tarfile.open(staged) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert sorted(build_wheel(source, tmp_path / "wheel").root.namelist()) == sorted(wheel)


def test_bundled_photos_are_small_and_named_in_the_notices(photos_dir):
    photos = [path for path in photos_dir.iterdir() if path.suffix in (".png", ".jpg")]
    assert sum(path.stat().st_size for path in photos) < 2_000_000
    listed = (photos_dir / "README.md").read_text()
    assert all(f"`{path.name}`" in listed for path in photos)


def test_constraints_pin_a_fitting_version_of_every_requirement(built, wheel):
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    (metadata,) = (name for name in wheel if name.endswith(".dist-info/METADATA"))
    requirements = email.message_from_bytes(built.joinpath(metadata).read_bytes()).get_all("Requires-Dist")
    for requirement in map(Requirement, requirements):
        assert requirement.specifier.contains(pins[requirement.name.lower()]), requirement
