"""What the guidance under an occluder loses to what: the occluder's mask, the fitted shape, or light and albedo.

    python benchmarks/guidance_limits.py PHOTOS --occluders CUTOUTS --limit 40
    python benchmarks/guidance_limits.py OCCLUDED

The same composites as `cfr evaluate occlusion` makes, or the pairs X_masked / X_clean of a folder. PSNR above the mean
colour inside the covered part of the face, mean over photos, of

    guidance        as it is
    known mask      light and albedo fitted with the true mask in place of the found one
    known shape     that, on pose and shape of the photo without the occluder
    known light     pose and shape of the covered photo, light and albedo of the one without the occluder
    uncovered       all of the photo without the occluder: what the face model can show at best
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfr.model.alignment import CROP_IN_CONTEXT, context_crop
from cfr.model.coefficients import Coefficients
from cfr.model.composites import FacePlace, composites_of, load_occluders
from cfr.model.known_occlusion import cropped_mask, difference_mask
from cfr.model.landmark_metrics import summarise
from cfr.model.occlusion_metrics import mean_colour, psnr
from cfr.model.photo_fits import Photo, PhotoFit, PhotoFitter, carried_mask, carried_picture
from cfr.model.rendering import posed, render_guidance
from cfr.pipeline.labelled_photos import find_photos, photo_name, read_photos

WAYS = ("guidance", "known mask", "known shape", "known light", "uncovered")
# As `cfr evaluate occlusion`: seed and share of cut-outs in the skin's colour; smallest part that is judged, px.
SEED, MATCHED, SMALLEST = 0, 1 / 3, 60


def main() -> None:
    """Fit and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--occluders", type=Path, help="RGBA cut-outs; default: the pairs in the folder")
    parser.add_argument("--limit", type=int, help="use that many photos, evenly chosen")
    parser.add_argument("--copies", type=int, default=2, help="composites of a photo")
    args = parser.parse_args()
    torch.set_num_threads(1)
    fitter = PhotoFitter()
    gains = []
    with torch.inference_mode():
        for covered, truth, clean in cases(fitter, args):
            gain = gains_over_mean_colour(fitter, covered, truth, clean)
            if gain is not None:
                gains.append(gain)
    print(f"{len(gains)} covered faces; dB above the mean colour inside the covered part [95%]")
    for name, values in zip(WAYS, zip(*gains, strict=True), strict=True):
        summary = summarise(list(values))
        low, high = summary.interval
        print(f"{name:12} {summary.mean:+.2f} [{low:+.2f}, {high:+.2f}]")


def cases(fitter: PhotoFitter, args: argparse.Namespace) -> Iterator[tuple[PhotoFit, np.ndarray, PhotoFit]]:
    """Fit with the occluder, what is covered in that photo (H,W) bool, fit without it."""
    photos = find_photos([args.photos])
    if args.occluders is None:
        masked = {path.name.replace("_masked", "_clean"): path for path in photos if "_masked" in path.stem}
        photos = [path for path in photos if path.name in masked]
    if args.limit is not None and len(photos) > args.limit:
        photos = [photos[i] for i in np.linspace(0, len(photos) - 1, args.limit).round().astype(int)]
    occluders = None if args.occluders is None else load_occluders(args.occluders)[0]
    named = (Photo(photo_name(path), image) for path, image in read_photos(photos, {}))
    for index, clean in enumerate(fit for fit in fitter.fit(named) if isinstance(fit, PhotoFit)):
        if occluders is None:
            pictures = [image for _, image in read_photos([masked[Path(clean.photo.name).name]], {})]
            truths = [difference_mask(image, clean.photo.image) for image in pictures]
        else:
            place = FacePlace(clean.box.astype(np.float64), clean.landmarks5.astype(np.float64))
            wanted = {"index": index, "copies": args.copies, "matched_share": MATCHED, "seed": SEED}
            made = list(composites_of(clean.photo.image, place, occluders, name=clean.photo.name, **wanted))
            pictures, truths = [each.image for each in made], [each.mask for each in made]
        fits = fitter.fit(Photo(clean.photo.name, picture, clean.box) for picture in pictures)
        for fit, truth in zip(fits, truths, strict=True):
            if isinstance(fit, PhotoFit):
                yield fit, truth, clean


def gains_over_mean_colour(
    fitter: PhotoFitter, covered: PhotoFit, truth: np.ndarray, clean: PhotoFit
) -> list[float] | None:
    """dB by way (`WAYS`); None if next to nothing of the face is covered, or all of it."""
    mask = cropped_mask(truth, covered.affine)
    face = carried_mask(clean.oval, clean.affine, covered.affine) & cropped_mask(np.ones_like(truth), covered.affine)
    region = face & covered.face_mask
    hidden, visible = region & mask, region & ~mask
    if hidden.sum() < SMALLEST or not visible.any():
        return None
    target = torch.from_numpy(context_crop(clean.photo.image, covered.affine)[CROP_IN_CONTEXT, CROP_IN_CONTEXT].copy())
    target = target.permute(2, 0, 1).float() / 255
    in_clean_crop = (carried_picture(covered.crop, covered.affine, clean.affine), clean.coefficients)
    on_clean_shape = lit(fitter, *in_clean_crop, carried_mask(mask, covered.affine, clean.affine))
    shown = carried_mask(clean.face_mask, clean.affine, covered.affine)
    pictures = [
        covered.guidance,
        lit(fitter, covered.crop, covered.coefficients, mask),
        torch.where(shown, carried_picture(on_clean_shape, clean.affine, covered.affine), covered.guidance),
        lit(fitter, target, covered.coefficients, torch.zeros_like(mask)),
        torch.where(shown, carried_picture(clean.guidance, clean.affine, covered.affine), covered.guidance),
    ]
    baseline = psnr(mean_colour(covered.crop, visible), target, hidden)
    return [psnr(picture, target, hidden) - baseline for picture in pictures]


def lit(fitter: PhotoFitter, photo: Tensor, shape: Coefficients, covered: Tensor) -> Tensor:
    """Guidance (3,224,224) of this pose and shape with light and albedo fitted to a crop's uncovered pixels."""
    mesh = posed(fitter.model, shape)
    gbuffer = mesh.rasterized(fitter.model.triangles)
    photometric = fitter.fitter.photometric_fitter
    samples = photometric.sample(photo[None], mesh, gbuffer)
    albedo, light = photometric.refine(samples, *photometric.start(samples), covered[None])
    fitted = replace(shape, albedo=albedo, light=light.unflatten(1, (3, 9)).transpose(1, 2))
    return render_guidance(fitter.model, fitted, mesh, gbuffer)[0]


if __name__ == "__main__":
    main()
