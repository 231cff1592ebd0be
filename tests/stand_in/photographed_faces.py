"""Photos of rendered faces that are painted over, for the tests of what a frontal picture is freed of."""

import torch

from cfr.model.coefficients import Coefficients
from cfr.model.frontalization.views import photo_view
from cfr.model.lighting import shade
from cfr.model.rasterize import interpolate

BLUE = (0.15, 0.3, 0.8)


def photographed(model, coefficients: Coefficients):
    """A photo (B,3,320,320) of faces in even light, and its view."""
    vertices = model.shape(coefficients.identity, coefficients.expression)
    view = photo_view(model, vertices, model.vertex_normals(vertices), coefficients)
    light = torch.zeros_like(coefficients.light)
    light[:, 0] = 1.0
    colour = (model.albedo(coefficients.albedo) * shade(view.mesh.normals, light)).clamp(0, 1)
    return interpolate(view.gbuffer, colour, model.triangles), view


def region(model, view, *names: str) -> torch.Tensor:
    """(B,320,320) bool."""
    wanted = torch.isin(model.region, torch.tensor([model.region_names.index(name) for name in names]))
    return interpolate(view.gbuffer, wanted[:, None].float().expand(2, -1, -1), model.triangles)[:, 0] > 0.5


def lower_face(model, view) -> torch.Tensor:
    """(B,320,320) bool: from the upper lip to the chin."""
    skin = (torch.isin(model.region, torch.tensor([model.region_names.index(name) for name in ("skin", "lips")]))) & (
        (model.mean_shape[:, 1] < -0.2) & (model.mean_shape[:, 2] > -0.3)
    )
    return interpolate(view.gbuffer, skin[:, None].float().expand(2, -1, -1), model.triangles)[:, 0] > 0.5


def painted(photo, mask, colour) -> torch.Tensor:
    return torch.where(mask[:, None], torch.as_tensor(colour).view(-1, 3, 1, 1), photo)


def share(found, mask) -> float:
    return float((found & mask).sum() / mask.sum())


def colour_of(photo, mask) -> torch.Tensor:
    """(B,3), the mean."""
    return (photo * mask[:, None]).sum((2, 3)) / mask.sum((1, 2))[:, None]
