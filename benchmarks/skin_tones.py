"""How evenly do detector, fit and occluder mask treat skin tones? Measured on rendered faces, whose truth is known.

    python benchmarks/skin_tones.py --faces 12

The same faces (identity, expression, light, pose) are rendered once per skin tone, uncovered, on a plain background,
and go through the chain of `cfr pairs`. What differs between the rows is the tone alone. The faces are of the face
model itself: the figures compare tones, they do not say how well a photograph is fitted.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch

from cfr.model.appearance import TONE_GROUPS, skin_colour, tone_group, typology_angle
from cfr.model.camera import project
from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.landmark_metrics import normalised_mean_error
from cfr.model.photo_fits import Photo, PhotoFit, PhotoFitter
from cfr.model.rendering import pose_mesh, render_guidance

BACKGROUND = (0.55, 0.6, 0.65)
# Around the 224-pixel crop, so that the detector sees a photo.
MARGIN = 80


def albedos(model: MorphableModel, brightness: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """For each tone group an albedo (1,A) that is plausible (two deviations at most) and in the middle of the group."""
    drawn = (1.5 * torch.randn(4000, model.sizes[2], generator=generator)).clamp(-2, 2)
    angles = torch.cat(
        [typology_angle((skin_colour(model, each) * brightness).clamp(0, 1)) for each in drawn.split(200)]
    )
    centres = dict(zip(TONE_GROUPS, (62, 48, 34, 19, -10, -45), strict=True))
    chosen = {name: int((angles - centre).abs().argmin()) for name, centre in centres.items()}
    return {name: drawn[[index]] for name, index in chosen.items() if tone_group(float(angles[index])) == name}


def faces(model: MorphableModel, count: int, generator: torch.Generator) -> Coefficients:
    """Random faces of one albedo: mild expressions, yaw and pitch, light mostly from the front."""
    light = torch.zeros(count, 9, 3)
    light[:, 0] = 1.0
    light[:, 1:4] = 0.12 * torch.randn(count, 3, 1, generator=generator)
    expression = 0.3 * torch.rand(count, model.sizes[1], generator=generator) ** 4
    expression[:, model.frozen_expressions] = 0
    return Coefficients(
        identity=torch.randn(count, model.sizes[0], generator=generator),
        expression=expression,
        albedo=torch.zeros(count, model.sizes[2]),
        light=light,
        pose=torch.randn(count, 3, generator=generator) * torch.tensor([15.0, 6.0, 3.0]),
        translation=torch.zeros(count, 3),
    )


@torch.inference_mode()
def photographed(
    model: MorphableModel, drawn: Coefficients, vertices: torch.Tensor | None = None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures (H,W,3) uint8, and their 68 landmarks (B,68,2) px.

    vertices: (B,V,3) shapes; default: those that the coefficients describe.
    """
    if vertices is None:
        vertices = model.shape(drawn.identity, drawn.expression)
    mesh = pose_mesh(vertices, model.vertex_normals(vertices), drawn.pose, drawn.translation)
    gbuffer = mesh.rasterized(model.triangles)
    face = render_guidance(model, drawn, mesh, gbuffer)
    picture = torch.where(gbuffer.covered[:, None], face, torch.tensor(BACKGROUND).view(1, 3, 1, 1))
    corners = model.surface_points(mesh.vertices, model.ibug68_triangles, model.ibug68_barycentric)
    pixels = (picture * 255).round().byte().permute(0, 2, 3, 1).numpy()
    edge = (np.array(BACKGROUND) * 255).round().astype(np.uint8)
    padded = []
    for each in pixels:
        whole = np.broadcast_to(edge, (224 + 2 * MARGIN, 224 + 2 * MARGIN, 3)).copy()
        whole[MARGIN:-MARGIN, MARGIN:-MARGIN] = each
        padded.append(whole)
    return padded, project(corners)[0].numpy() + MARGIN


@dataclass(frozen=True)
class Measured:
    """A group's figures, means over the fitted faces: landmark_error, flagged in percent; fitted_angle in degrees."""

    fitted: int
    count: int
    landmark_error: float
    flagged: float
    quality: float
    fitted_angle: float


def measure(model: MorphableModel, fitter: PhotoFitter, pictures: list[np.ndarray], truth: np.ndarray) -> Measured:
    """Send a group's pictures through the chain; truth (B,68,2) px."""
    results = list(fitter.fit(Photo(str(index), picture) for index, picture in enumerate(pictures)))
    fits = [(index, fit) for index, fit in enumerate(results) if isinstance(fit, PhotoFit)]
    points = np.stack([fit.landmarks68 for _, fit in fits])
    angles = [float(typology_angle(skin_colour(model, fit.coefficients.albedo).clamp(0, 1))) for _, fit in fits]
    return Measured(
        fitted=len(fits),
        count=len(results),
        landmark_error=100 * float(normalised_mean_error(points, truth[[index for index, _ in fits]]).mean()),
        flagged=100 * float(np.mean([float((fit.occluder & fit.oval).sum() / fit.oval.sum()) for _, fit in fits])),
        quality=float(np.mean([fit.quality for _, fit in fits])),
        fitted_angle=float(np.mean(angles)),
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=12, help="per tone")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(arguments.seed)
    model, fitter = MorphableModel.load_default(), PhotoFitter()
    drawn = faces(model, arguments.faces, generator)
    print(f"{'tone':<14}{'angle':>7}{'fitted':>10}{'NME %':>8}{'flagged %':>11}{'quality':>9}{'fitted angle':>14}")
    for name, albedo in albedos(model, 1.0, generator).items():
        parts = vars(drawn) | {"albedo": albedo.expand(arguments.faces, -1)}
        found = measure(model, fitter, *photographed(model, Coefficients(**parts)))
        angle = float(typology_angle(skin_colour(model, albedo).clamp(0, 1)))
        print(
            f"{name:<14}{angle:>7.0f}{f'{found.fitted}/{found.count}':>10}{found.landmark_error:>8.2f}"
            f"{found.flagged:>11.2f}{found.quality:>9.2f}{found.fitted_angle:>14.0f}"
        )


if __name__ == "__main__":
    main()
