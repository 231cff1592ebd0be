"""Rotate-and-render of CFR-GAN with colours at the vertices: for training twice (there and back), for use once."""

from dataclasses import dataclass

from torch import Tensor

from cfr.model.camera import project, rotation_matrix
from cfr.model.paper.face_model import BaselFaceModel
from cfr.model.paper.reconstruction import Reconstruction
from cfr.model.paper.renderer import render
from cfr.model.paper.vertex_colours import sample_vertex_colours


def turned(front_shape: Tensor, view: Tensor) -> Tensor:
    """Vertices (B,V,3) in front of the camera, turned to a view (B,3) yaw, pitch, roll in degrees; not translated."""
    return front_shape @ rotation_matrix(view).transpose(1, 2)


def rotate_twice(model: BaselFaceModel, faces: Reconstruction, picture: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate to a view and back: what the view does not see is smeared in the result.

    Args:
        model: the face model.
        faces: as they stand in the picture.
        picture: (B,3,224,224) float32 0..1, the roughly de-occluded photo.
        view: (B,3) yaw, pitch, roll in degrees, absolute.

    Returns:
        The rendering at the view and the one back in the picture's pose, (B,3,224,224) 0..1.
    """
    colours = sample_vertex_colours(picture, faces.pixels)
    rotated = turned(faces.front_shape, view)
    once = render(rotated, colours, model.triangles)
    colours = sample_vertex_colours(once, project(rotated)[0])
    return once, render(faces.shape, colours, model.triangles)


@dataclass(frozen=True)
class TestPair:
    """Input of the generator at a wanted pose.

    Attributes:
        rotated: (B,3,224,224) RGB 0..1, the face with the photo's colours.
        guidance: (B,3,224,224) RGB 0..1, the face with the model's colours.
        keypoints: (B,68,2) the 68 points in the rendered pictures, px, x right, y down, pixel centres at +0.5.
    """

    __test__ = False

    rotated: Tensor
    guidance: Tensor
    keypoints: Tensor


def rotate_once(model: BaselFaceModel, faces: Reconstruction, photo: Tensor, view: Tensor) -> TestPair:
    """Render at a wanted pose, as the paper does when the generator is used.

    Args:
        model: the face model.
        faces: as they stand in the photo.
        photo: (B,3,224,224) float32 RGB 0..1.
        view: (B,3) yaw, pitch, roll in degrees, absolute. Frontal in the paper: the photo's pitch, and 0, 0.
    """
    shape = turned(faces.front_shape, view)
    colours = sample_vertex_colours(photo, faces.pixels)
    return TestPair(
        render(shape, colours, model.triangles),
        render(shape, faces.colour, model.triangles),
        project(shape[:, model.keypoints])[0],
    )
