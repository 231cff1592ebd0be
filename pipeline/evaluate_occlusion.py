"""`cfr evaluate occlusion`: the occluder mask and the guidance where it is known what covers the face."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfr.model.composites import FacePlace, Occluder, composites_of, load_occluders
from cfr.model.images import ImageError
from cfr.model.known_occlusion import difference_mask, score_occlusion
from cfr.model.photo_fits import Photo, PhotoFit, PhotoFitter
from cfr.pipeline import face_model_flag
from cfr.pipeline.errors import UserError
from cfr.pipeline.labelled_photos import find_photos, photo_name, read_photo, read_photos
from cfr.pipeline.occlusion_report import ScoredPhoto, occlusion_report, occlusion_table

_DRAWN, _HAND = "drawn-on pair", "real hand"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.epilog = """\
Cut-outs are RGBA *.png; mask_*, glasses_*, sunglasses_*, moustache_* go where they belong, hand_* and all others
anywhere on the face. Pairs X_masked / X_clean and hands X / X_handmask.png are measured with their own masks; in a
folder that has such photos, cut-outs are pasted on the X_clean ones only.

examples:
  cfr evaluate occlusion --photos faces/ --occluders cutouts/
  cfr evaluate occlusion --photos occluded/ --json"""
    parser.add_argument("--photos", nargs="+", required=True, metavar="DIR", help="folders or files")
    parser.add_argument("--occluders", metavar="DIR", help="RGBA cut-outs to paste on unoccluded faces")
    parser.add_argument("--copies", type=int, default=2, metavar="N", help="composites of a photo (default: 2)")
    parser.add_argument("--limit", type=int, metavar="N", help="use N photos, evenly chosen")
    parser.add_argument(
        "--colour-matched",
        type=float,
        default=1 / 3,
        metavar="SHARE",
        help="share of hands and objects that take the skin's colour (default: 1/3)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of kinds, places and sizes (default: 0)")
    face_model_flag.add_argument(parser)


@dataclass(frozen=True)
class _Case:
    """A photo with a known occluder, waiting for its fit; reference is the fit of the photo without it or None."""

    name: str
    kind: str
    colour_matched: bool
    image: np.ndarray
    truth: np.ndarray
    reference: PhotoFit | None


def run(args: argparse.Namespace) -> int:
    """Measure and print; see `cfr.pipeline.evaluate.run`."""
    photos = find_photos(args.photos)
    pairs, hands = _pairs(photos), _hands(photos)
    helpers = {path for pair in [*pairs, *hands] for path in pair}
    clean = [pair[1] for pair in pairs] if pairs or hands else [path for path in photos if path not in helpers]
    occluders, skipped = load_occluders(Path(args.occluders)) if args.occluders else ([], {})
    if args.occluders and not occluders:
        raise UserError(f"--occluders {args.occluders}: no usable RGBA cut-out (*.png)")
    if not occluders and not helpers:
        raise UserError("nothing to measure: give --occluders, or photos named *_masked/*_clean or with *_handmask.png")
    if args.limit is not None and len(clean) > args.limit:
        clean = [clean[i] for i in np.linspace(0, len(clean) - 1, args.limit).round().astype(int)]
    measurement = _Measurement(args)
    if occluders:
        measurement.composites(clean, occluders)
    measurement.pairs(pairs)
    measurement.hands(hands)
    report = occlusion_report(measurement.scored, measurement.real, measurement.clean_flagged)
    report |= {"failed": measurement.failures, "skipped_occluders": skipped}
    print(json.dumps(report, indent=2) if args.json else occlusion_table(report))
    return 0


def _pairs(photos: list[Path]) -> list[tuple[Path, Path]]:
    """(X_masked, X_clean) among the photos."""
    clean = {path.with_name(path.stem.removesuffix("_clean")): path for path in photos if path.stem.endswith("_clean")}
    masked = {
        path.with_name(path.stem.removesuffix("_masked")): path for path in photos if path.stem.endswith("_masked")
    }
    return [(masked[stem], clean[stem]) for stem in sorted(masked.keys() & clean.keys())]


def _hands(photos: list[Path]) -> list[tuple[Path, Path]]:
    """(X, X_handmask.png) among the photos."""
    by_stem = {path.with_suffix(""): path for path in photos}
    found = []
    for path in photos:
        if path.stem.endswith("_handmask"):
            photo = by_stem.get(path.with_name(path.stem.removesuffix("_handmask")))
            if photo is not None:
                found.append((photo, path))
    return found


class _Measurement:
    """Collects the scores of every case; keeps one chain of models."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.fitter = PhotoFitter(model=face_model_flag.face_model(args))
        self.scored: list[ScoredPhoto] = []
        self.real: list[ScoredPhoto] = []
        self.failures: list[dict] = []
        self.clean_flagged: list[float] = []

    def composites(self, paths: list[Path], occluders: list[Occluder]) -> None:
        """Paste cut-outs on each photo where its own fit, clean, finds the face."""

        def cases() -> Iterator[_Case]:
            for index, fit in enumerate(self._clean_fits(paths)):
                self.clean_flagged.append(float((fit.occluder & fit.oval).sum() / fit.oval.sum().clamp(min=1)))
                place = FacePlace(fit.box.astype(np.float64), fit.landmarks5.astype(np.float64))
                series = composites_of(
                    fit.photo.image,
                    place,
                    occluders,
                    name=fit.photo.name,
                    index=index,
                    copies=self.args.copies,
                    matched_share=self.args.colour_matched,
                    seed=self.args.seed,
                )
                for composite in series:
                    yield _Case(
                        f"{fit.photo.name} under {composite.occluder}",
                        composite.kind,
                        composite.colour_matched,
                        composite.image,
                        composite.mask,
                        fit,
                    )

        self._score(cases(), self.scored)

    def pairs(self, pairs: list[tuple[Path, Path]]) -> None:
        """Score photos of which a clean copy exists; what differs is the occluder."""
        by_clean = {photo_name(clean): masked for masked, clean in pairs}

        def cases() -> Iterator[_Case]:
            for fit in self._clean_fits([clean for _, clean in pairs]):
                masked = by_clean[fit.photo.name]
                try:
                    image = read_photo(masked)
                    truth = difference_mask(image, fit.photo.image)
                except ValueError as error:
                    self.failures.append({"photo": photo_name(masked), "reason": str(error)})
                    continue
                yield _Case(photo_name(masked), _DRAWN, False, image, truth, fit)

        self._score(cases(), self.real)

    def hands(self, hands: list[tuple[Path, Path]]) -> None:
        """Score photos with a hand-drawn mask; without a clean copy the fit's own oval is the reference face."""

        def cases() -> Iterator[_Case]:
            for photo, mask in hands:
                try:
                    image, truth = read_photo(photo), read_photo(mask)[..., 0] > 127
                except ImageError as error:
                    self.failures.append({"photo": photo_name(photo), "reason": str(error)})
                    continue
                if truth.shape != image.shape[:2]:
                    self.failures.append({"photo": photo_name(photo), "reason": f"{mask.name} has another size"})
                    continue
                yield _Case(photo_name(photo), _HAND, False, image, truth, None)

        self._score(cases(), self.real)

    def _clean_fits(self, paths: list[Path]) -> Iterator[PhotoFit]:
        unreadable: dict[Path, str] = {}
        for result in self.fitter.fit(Photo(photo_name(path), image) for path, image in read_photos(paths, unreadable)):
            if isinstance(result, PhotoFit):
                yield result
            else:
                self.failures.append({"photo": result.photo.name, "reason": result.reason})
        self.failures += [{"photo": photo_name(path), "reason": reason} for path, reason in unreadable.items()]

    def _score(self, cases: Iterator[_Case], into: list[ScoredPhoto]) -> None:
        waiting: list[_Case] = []

        def photos() -> Iterator[Photo]:
            for case in cases:
                waiting.append(case)
                yield Photo(case.name, case.image, None if case.reference is None else case.reference.box)

        for result in self.fitter.fit(photos()):
            case = waiting.pop(0)
            try:
                if not isinstance(result, PhotoFit):
                    raise ValueError(result.reason)
                scores = score_occlusion(self.fitter.model, result, case.truth, case.reference)
            except ValueError as error:
                self.failures.append({"photo": case.name, "reason": str(error)})
                continue
            into.append(ScoredPhoto(case.name, case.kind, case.colour_matched, scores))
