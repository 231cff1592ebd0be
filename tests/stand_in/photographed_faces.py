"""Photos of rendered faces that are painted over, for the tests of what a frontal picture is freed of."""

from dataclasses import replace

import torch

from cfr.model.coefficients import Coefficients
from cfr.model.frontalization.views import View, photo_view, shown_labels
from cfr.model.lighting import shade
from cfr.model.rasterize import interpolate

BLUE = (0.15, 0.3, 0.8)
FRONTAL_POSES = ((0.0, 0.0, 0.0), (12.0, 5.0, 0.0))


def photographed(model, coefficients: Coefficients, *poses: tuple[float, float, float]) -> tuple[torch.Tensor, View]:
    """A photo (B,3,320,320) of faces at these yaws, pitches and rolls in even light, and its view."""
    coefficients = replace(coefficients, pose=torch.tensor(poses))
    vertices = model.shape(coefficients.identity, coefficients.expression)
    view = photo_view(model, vertices, model.vertex_normals(vertices), coefficients)
    light = torch.zeros_like(coefficients.light)
    light[:, 0] = 1.0
    colour = (model.albedo(coefficients.albedo) * shade(view.mesh.normals, light)).clamp(0, 1)
    return interpolate(view.gbuffer, colour, model.triangles), view


def region(model, view, *names: str) -> torch.Tensor:
    """(B,320,320) bool."""
    return shown_labels(view, model.in_regions(*names)[:, None].float(), model.triangles)[0]


def lower_face(model, view) -> torch.Tensor:
    """(B,320,320) bool: from the upper lip to the chin."""
    low = (model.mean_shape[:, 1] < -0.2) & (model.mean_shape[:, 2] > -0.3)
    skin = model.in_regions("skin", "lips") & low
    return shown_labels(view, skin[:, None].float(), model.triangles)[0]


def painted(photo, mask, colour) -> torch.Tensor:
    return torch.where(mask[:, None], torch.as_tensor(colour).view(-1, 3, 1, 1), photo)


def share(found, mask) -> float:
    return float((found & mask).sum() / mask.sum())


def colour_of(photo, mask) -> torch.Tensor:
    """(B,3), the mean."""
    return (photo * mask[:, None]).sum((2, 3)) / mask.sum((1, 2))[:, None]
