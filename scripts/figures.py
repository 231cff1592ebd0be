"""Draw the figures of docs/concepts.md and docs/python.md from a bundled photograph.

    python scripts/figures.py docs/images

A medical mask is drawn on the portrait, so that there is an occluder; everything else is what the software makes of it.
"""

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from cfr.model.double_rotation import DoubleRotator
from cfr.model.face_model import MorphableModel
from cfr.model.frontalization.composite import CompositePainter
from cfr.model.frontalization.frontalizer import Frontalizer
from cfr.model.frontalization.occluders import RemovableOccluders
from cfr.model.frontalization.one_photo import source_faces
from cfr.model.frontalization.scene import build_scene
from cfr.model.frontalization.templates import TEMPLATES
from cfr.model.images import decode_image
from cfr.model.photo_fits import Photo, PhotoFit, PhotoFitter
from cfr.model.rasterize import interpolate, sample_image
from cfr.model.rendering import pose_mesh
from cfr.model.swap import transfer_occlusion
from cfr.model.textured_mesh import METRES, textured_mesh

TILE, GAP, LINE = 224, 10, 22
PAPER, INK = "white", "#181b21"
AWAY = (50.0, 0.0, 0.0)
TURNED = (-40.0, 0.0, 0.0)
SIDES = ((0.0, 0.0, 0.0), (35.0, 0.0, 0.0), (70.0, 0.0, 0.0), (-50.0, 10.0, 0.0), (0.0, -35.0, 0.0))

Captioned = Sequence[tuple[str, torch.Tensor | np.ndarray]]


def strip(pictures: Captioned) -> Image.Image:
    """Pictures side by side, a caption above each: (3,H,W) or (H,W) 0..1, or (H,W,3) uint8."""
    width = len(pictures) * (TILE + GAP) - GAP
    page = Image.new("RGB", (width, TILE + LINE), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for column, (caption, picture) in enumerate(pictures):
        if isinstance(picture, torch.Tensor):
            picture = picture.float().expand(3, -1, -1) if picture.ndim == 2 else picture
            picture = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        left = column * (TILE + GAP)
        draw.text((left, LINE - 5), caption, INK, font, "ls")
        page.paste(Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS), (left, LINE))
    return page


def with_medical_mask(image: np.ndarray, landmarks68: np.ndarray) -> np.ndarray:
    """The photo (H,W,3) uint8 with a drawn mask over nose and mouth."""
    scale = 4
    canvas = Image.fromarray(image).resize((image.shape[1] * scale, image.shape[0] * scale))
    draw = ImageDraw.Draw(canvas)
    points = landmarks68 * scale
    jaw, bridge = points[2:15], points[28]
    draw.polygon([tuple(point) for point in (*jaw, bridge)], fill=(150, 190, 215))
    for share in (0.3, 0.5, 0.7):
        middle = bridge + share * (points[8] - bridge)
        left, right = (jaw[side] + share * 0.9 * (points[8] - jaw[side]) for side in (0, -1))
        draw.line([tuple(left), tuple(middle), tuple(right)], fill=(120, 160, 190), width=2 * scale, joint="curve")
    return np.asarray(canvas.resize(image.shape[1::-1], Image.Resampling.LANCZOS))


def detection(fit: PhotoFit) -> np.ndarray:
    """The photo around the face, with box and landmarks drawn in."""
    canvas = Image.fromarray(fit.photo.image)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle([*map(float, fit.box)], outline="#ffd400", width=3)
    for x, y in fit.landmarks5:
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill="#ffd400")
    side = 1.9 * float(max(fit.box[2] - fit.box[0], fit.box[3] - fit.box[1]))
    x, y = (fit.box[:2] + fit.box[2:]) / 2
    box = tuple(float(value) for value in (x - side / 2, y - side / 2, x + side / 2, y + side / 2))
    return np.asarray(canvas.crop(tuple(map(round, box))))


def shaded_mesh(fit: PhotoFit, model: MorphableModel) -> torch.Tensor:
    """The fitted shape alone over the darkened crop, (3,224,224)."""
    light = interpolate(fit.gbuffer, fit.mesh.normals, model.triangles)[0, 2].clamp(0, 1)
    grey = 0.15 + 0.8 * light
    return torch.where(fit.face_mask, grey.expand(3, -1, -1), 0.4 * fit.crop)


def pair_figures(fit: PhotoFit, model: MorphableModel) -> dict[str, Captioned]:
    """From the photo to the pair."""
    one = [each[None] for each in (fit.crop, fit.guidance, fit.occluder, fit.face_mask)]
    clean, swapped = transfer_occlusion(*one)
    turned = DoubleRotator(model=model).rotate(clean, fit.coefficients.concatenated(), torch.tensor([AWAY]))
    lost = (fit.face_mask & ~turned.visible[0]) | (fit.occluder & fit.face_mask)
    return {
        "concepts-fit.jpg": [
            ("detected", detection(fit)),
            ("aligned (target)", fit.crop),
            ("fitted mesh", shaded_mesh(fit, model)),
            ("guidance", fit.guidance),
        ],
        "concepts-swap.jpg": [
            ("occluder mask", fit.occluder & fit.face_mask),
            ("de-occluded photo", clean[0]),
            ("swapped guidance", swapped[0]),
        ],
        "concepts-rotate.jpg": [
            (f"seen from {AWAY[0]:.0f} degrees", turned.rotated_once[0]),
            ("turned back (rotated)", turned.rotated[0]),
            ("occlusion mask", lost),
        ],
    }


def turned_figure(fit: PhotoFit, model: MorphableModel) -> Captioned:
    """What another view of a face is made of."""
    pose, template = torch.tensor([TURNED]), TEMPLATES["crop224"]
    faces = source_faces(fit)
    scene = build_scene(model, RemovableOccluders(model), faces, pose, template, TILE)
    painted = CompositePainter().paint(scene)
    colours = torch.zeros(3, TILE, TILE)
    for mask, colour in (
        (scene.target.gbuffer.covered[0], (0.35, 0.35, 0.4)),
        (painted.mirrored[0], (0.95, 0.6, 0.2)),
        (painted.own[0], (0.3, 0.65, 0.35)),
    ):
        colours = torch.where(mask, torch.tensor(colour)[:, None, None], colours)
    result = Frontalizer().frontalize(faces, pose, template, TILE)
    return [
        ("photo", fit.crop),
        ("guidance, turned", scene.guidance[0]),
        ("own, mirrored, guidance", colours),
        (f"turned to {TURNED[0]:.0f} degrees", result.picture[0]),
    ]


def mesh_figure(fit: PhotoFit) -> Captioned:
    """The exported mesh from several sides."""
    mesh = textured_mesh(fit)
    vertices, normals = (torch.from_numpy(each)[None] for each in (mesh.vertices / METRES, mesh.normals))
    triangles, texture = torch.from_numpy(mesh.triangles), torch.from_numpy(mesh.texture)
    texture = texture.permute(2, 0, 1)[None].float() / 255
    shown = []
    for pose in SIDES:
        size = 2 * TILE
        posed = pose_mesh(vertices, normals, torch.tensor([pose]), torch.zeros(1, 3))
        fine = type(posed)(posed.vertices, posed.normals, posed.pixels * 2, posed.depth)
        gbuffer = fine.rasterized(triangles, size)
        uv = interpolate(gbuffer, torch.from_numpy(mesh.uv)[None], triangles)
        colour = sample_image(texture, torch.stack([uv[:, 0], 1 - uv[:, 1]], -1) * texture.shape[-1])
        picture = torch.where(gbuffer.covered[:, None], colour, torch.tensor(0.93))
        shown.append((f"yaw {pose[0]:.0f}, pitch {pose[1]:.0f}", picture[0]))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the pictures")
    args = parser.parse_args()
    torch.manual_seed(0)
    fitter = PhotoFitter()
    folder = resources.files("cfr.model") / "data" / "photos"
    photos = {name: decode_image((folder / name).read_bytes()) for name in ("astronaut.png", "grace_hopper.jpg")}
    plain, other = fitter.fit([Photo(name, image) for name, image in photos.items()])
    covered = with_medical_mask(plain.photo.image, plain.landmarks68)
    [masked] = fitter.fit([Photo("masked", covered)])
    args.output.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        figures = pair_figures(masked, fitter.model)
        figures["concepts-turn.jpg"] = turned_figure(other, fitter.model)
        figures["mesh.jpg"] = mesh_figure(plain)
    for name, pictures in figures.items():
        strip(pictures).save(args.output / name, quality=88)
        print(args.output / name)


if __name__ == "__main__":
    main()
