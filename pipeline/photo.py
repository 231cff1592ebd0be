"""`cfr photo`: one photo through all stages, as pictures; its face as a textured mesh."""

import argparse
import json
from pathlib import Path

from cfr.pipeline import console
from cfr.pipeline.errors import UserError, reject_unknown_arguments

# As `cfr.model.textured_mesh.FORMATS`, which would load torch.
_FORMATS = ("glb", "obj", "ply")
_LOW_QUALITY = 0.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `cfr photo`."""
    add = parser.add_argument
    add("photo", metavar="PHOTO", help="a picture file; of several faces the largest is taken")
    add("--output", metavar="DIR", default="cfr-photo", help="folder to write to (default: cfr-photo)")
    add("--export-mesh", choices=_FORMATS, help="also write the face as a textured mesh: face.glb, .obj or .ply")
    add("--json", action="store_true", help="print JSON")
    parser.epilog = """\
Writes crop, guidance, the masks of the face and of what covers it, the photo without the occluder, and the frontal
face. A mesh is in metres, without the photo's pose, and carries its light; what the photo does not show is mirrored or
predicted. The same from Python: docs/python.md.

examples:
  cfr photo portrait.jpg
  cfr photo portrait.jpg --output portrait --export-mesh glb
"""


def run(args: argparse.Namespace, beam_arguments: list[str]) -> int:
    """Write the pictures and print what was measured.

    Raises:
        UserError: no photo, no face in it, a folder that cannot be written to, or trimesh is missing.
    """
    reject_unknown_arguments(beam_arguments)
    from cfr.model.images import ImageError, encode_image
    from cfr.model.photo_fits import Photo, PhotoFailure, PhotoFitter
    from cfr.model.photo_stages import stage_pictures
    from cfr.pipeline.labelled_photos import read_photo

    try:
        image = read_photo(Path(args.photo))
    except ImageError as error:
        raise UserError(f"{args.photo} is no photo: {error}") from error
    [fit] = PhotoFitter().fit([Photo(args.photo, image)])
    if isinstance(fit, PhotoFailure):
        raise UserError(f"{args.photo}: {fit.reason}")
    folder = Path(args.output)
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in stage_pictures(fit).items():
            files.append(folder / f"{name}.png")
            files[-1].write_bytes(encode_image(picture))
        if args.export_mesh:
            from cfr.model.textured_mesh import textured_mesh

            files += textured_mesh(fit).save(folder / f"face.{args.export_mesh}")
    except ModuleNotFoundError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"--output {args.output}: cannot write there: {error.strerror or error}") from error
    yaw, pitch, roll = fit.coefficients.pose[0].tolist()
    covered = float((fit.occluder & fit.face_mask).sum() / fit.face_mask.sum().clamp(min=1))
    report = {
        "photo": args.photo,
        "box": [round(float(value), 1) for value in fit.box],
        "yaw": round(yaw, 1),
        "pitch": round(pitch, 1),
        "roll": round(roll, 1),
        "fit_error": round(fit.fit_error, 4),
        "occluded_fraction": round(covered, 3),
        "quality": round(fit.quality, 3),
        "files": [str(path) for path in files],
    }
    if args.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print("yaw {yaw}, pitch {pitch}, roll {roll} degrees; quality {quality}".format(**report))
        for path in files:
            print(f"  {path}")
    if fit.quality < _LOW_QUALITY:
        console.note("the quality is low: the fit may be wrong")
    return 0
