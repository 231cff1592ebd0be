"""What the documentation's commands find in a reader's folder: photos with labels, cut-outs, embeddings, weights.

Everything is made of the two bundled portraits, whose two people count as anybody's, and of drawn shapes and random
numbers. The names are those of the pages.
"""

import json
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from paper_files import write_paper_files
from PIL import Image, ImageDraw, ImageOps

from cfr.model.face_model import MorphableModel
from cfr.model.networks.cfrnet import CFRNet
from cfr.model.networks.identity_encoder import IdentityEncoder
from cfr.model.networks.inception import InceptionV3
from cfr.model.networks.perceptual import ResNet50Slices, VGG19Slices
from cfr.model.photo_fits import Photo, PhotoFit, PhotoFitter
from cfr.pipeline.labelled_photos import find_photos, read_photo

PEOPLE = ("collins", "hopper")  # in the order of the bundled files
# Points of a half face as Celebrities in Frontal-Profile counts them -> iBUG's; the others are not looked at.
HALF_FACE = {9: 17, 10: 19, 11: 21, 12: 36, 18: 27, 19: 28, 20: 29, 21: 30, 22: 33, 24: 31, 25: 48, 26: 51, 28: 57}


@cache
def fitted(photos: Path) -> list[PhotoFit]:
    """The fits of the bundled portraits, by file name."""
    faces = [Photo(str(path), read_photo(path)) for path in find_photos([str(photos)])]
    return list(PhotoFitter().fit(faces))


def write_photos(path: Path, photos: Path) -> None:
    """Portraits of uncovered faces."""
    shutil.copytree(photos, path)


def write_labelled(path: Path, photos: Path) -> None:
    """Portraits with 68x3 points and AFLW2000-3D's pose: those of their own fits, two pixels off."""
    path.mkdir()
    model = MorphableModel.load_default()
    for fit in fitted(photos):
        copy = path / Path(fit.photo.name).name
        shutil.copy(fit.photo.name, copy)
        points = model.surface_points(fit.mesh.vertices, model.ibug68_triangles, model.ibug68_barycentric)[0].numpy()
        size = np.sqrt(np.ptp(fit.landmarks68, axis=0).prod() / np.ptp(points[:, :2], axis=0).prod())
        np.save(copy.with_suffix(".npy"), np.c_[fit.landmarks68 + 1.5, points[:, 2] * size].astype(np.float32))
        turn = [0.0, np.deg2rad(-fit.yaw), 0.0, 0.0, 0.0, 0.0, 1.0]
        copy.with_suffix(".json").write_text(json.dumps({"Pose_Para": turn}))


def write_cutouts(path: Path, photos: Path) -> None:
    """One opaque shape of each kind on a transparent ground."""
    path.mkdir()
    for name, colour in (("mask_cloth", "teal"), ("glasses_round", "black"), ("hand_flat", "tan"), ("cup", "red")):
        picture = Image.new("RGBA", (120, 80))
        ImageDraw.Draw(picture).rounded_rectangle((6, 6, 113, 73), 20, fill=colour)
        picture.save(path / f"{name}.png")


def write_covered(path: Path, photos: Path) -> None:
    """A photo with and without a drawn mask, and one with the picture of its mask."""
    path.mkdir()
    pair, other = fitted(photos)
    for fit, names in ((pair, ("first_masked", "first_clean")), (other, ("second", "second_handmask"))):
        chin = fit.landmarks68[2:15]
        outline = [tuple(point) for point in [*chin, fit.landmarks68[28]]]
        plain = Image.open(fit.photo.name).convert("RGB")
        covered, mask = plain.copy(), Image.new("L", plain.size)
        ImageDraw.Draw(covered).polygon(outline, fill="steelblue")
        ImageDraw.Draw(mask).polygon(outline, fill=255)
        covered.save(path / f"{names[0]}.png")
        (plain if names[1].endswith("_clean") else mask).save(path / f"{names[1]}.png")


def write_people(path: Path, photos: Path) -> None:
    """A folder per person with a frontal photo and its mirror image, called a profile; both with labels as CFP's."""
    for person, fit in zip(PEOPLE, fitted(photos), strict=True):
        folder = path / person
        folder.mkdir(parents=True)
        labels = np.repeat(fit.landmarks68.mean(0, keepdims=True), 30, 0)
        labels[list(HALF_FACE)] = fit.landmarks68[list(HALF_FACE.values())]
        picture = Image.open(fit.photo.name).convert("RGB")
        picture.save(folder / "frontal_01.jpg")
        np.save(folder / "frontal_01.cfp30.npy", labels - 0.5)
        ImageOps.mirror(picture).save(folder / "profile_01.jpg")
        np.save(folder / "profile_01.cfp30.npy", labels * [-1, 1] + [picture.width - 0.5, -0.5])


def write_pairs_list(path: Path, photos: Path) -> None:
    """Which of those photos show one person."""
    names = [f"{person}/{view}_01.jpg" for person in PEOPLE for view in ("frontal", "profile")]
    kinds = [(0, 1, 1), (2, 3, 1), (0, 2, 0), (1, 3, 0)]
    path.write_text("".join(f"{names[first]} {names[second]} {same}\n" for first, second, same in kinds))


def write_predictions(path: Path, photos: Path) -> None:
    """68 points of eight faces, a little different in every file."""
    noise = np.random.default_rng(len(path.name)).normal(0, 2, (8, 68, 2))
    np.save(path, np.random.default_rng(0).uniform(50, 200, (8, 68, 2)) + noise)


def write_yaw(path: Path, photos: Path) -> None:
    """Degrees of those eight faces."""
    np.save(path, np.linspace(-85, 85, 8))


def write_embeddings(path: Path, photos: Path) -> None:
    """Of five photos of each of twelve people, more or less well told apart in every file."""
    generator = np.random.default_rng(len(path.name))
    np.save(path, np.repeat(np.eye(12, 64), 5, 0) + 0.1 * generator.normal(size=(60, 64)))


def write_ids(path: Path, photos: Path) -> None:
    """Names of those photos."""
    path.write_text("".join(f"person{person}/{photo}.jpg\n" for person in range(12) for photo in range(5)))


def write_apply(path: Path, photos: Path) -> None:
    """The gate's word on those photos."""
    np.save(path, np.arange(60) % 3 > 0)


def write_weights(network: type[torch.nn.Module]) -> Callable[[Path, Path], None]:
    """A writer of such a network's random weights."""

    def write(path: Path, photos: Path) -> None:
        torch.manual_seed(0)
        torch.save(network().state_dict(), path)

    return write


def write_cut_off_download(path: Path, photos: Path) -> None:
    """The beginning of a checkpoint."""
    path.write_bytes(b"PK\x03\x04" + bytes(1000))


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "photos": write_photos,
    "faces": write_photos,
    "labelled": write_labelled,
    "cutouts": write_cutouts,
    "covered": write_covered,
    "people": write_people,
    "pairs.txt": write_pairs_list,
    "ours.npy": write_predictions,
    "theirs.npy": write_predictions,
    "yaw.npy": write_yaw,
    "raw.npy": write_embeddings,
    "turned.npy": write_embeddings,
    "ids.txt": write_ids,
    "apply.npy": write_apply,
    "authors": lambda path, photos: write_paper_files(path),
    "ir_se50.pth": write_weights(IdentityEncoder),
    "resnet50-0676ba61.pth": write_weights(ResNet50Slices),
    "vgg19-dcbb9e9d.pth": write_weights(VGG19Slices),
    "pt_inception-2015-12-05-6726825d.pth": write_weights(InceptionV3),
    "CFRNet_G_ep55_vgg.pth": write_weights(CFRNet),
    "Resnet50_Final.pth.crdownload": write_cut_off_download,
}
"""What a page may take for granted, by name."""


def write_what_is_named(text: str, folder: Path, photos: Path) -> None:
    """Write those files and folders that a page's commands name as one of their words, or the folder of one."""
    words = set(re.findall(r"[\w.-]+", text))
    for name in sorted(words & WRITERS.keys()):
        WRITERS[name](folder / name, photos)
