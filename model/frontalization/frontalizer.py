"""Faces at a wanted pose: the mesh painted by the composite or by a generator, the surroundings completed."""

from dataclasses import dataclass
from os import PathLike
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.frontalization.composite import CompositePainter, PaintedFaces
from cfr.model.frontalization.framing import reframe
from cfr.model.frontalization.occluders import RemovableOccluders
from cfr.model.frontalization.pyramids import blend_bands
from cfr.model.frontalization.scene import Scene, SourceFaces, build_scene
from cfr.model.frontalization.surroundings import complete_surroundings
from cfr.model.frontalization.templates import TEMPLATES, Template
from cfr.model.morphology import erode

COMPOSITE = "composite"
"""Name of the painter that needs no weights."""

# Results smaller than this are painted at twice their size and reduced, so that no pixel of the photo is skipped.
_SMALL = 160
# Pixels by which the mesh's rim, where photo and mesh part, is left to the surroundings.
_RIM = 5
_RIM_BANDS = 3


class Painter(Protocol):
    """What fills the mesh of a wanted view.

    Attributes:
        frame: (template, size) of the only frame that it can paint in; None if it can in any.
    """

    frame: tuple[str, int] | None

    def paint(self, scene: Scene) -> PaintedFaces: ...


@dataclass(frozen=True)
class Frontalized:
    """Faces at a wanted pose.

    Attributes:
        picture: (B,3,S,S) float32 RGB 0..1.
        synthesised: (B,S,S) bool, pixels whose colour is not what the photo shows at that place of the face.
        landmarks5: (B,5,2) float32 px of the picture.
        own_fraction, mirrored_fraction: (B,) share of the mesh that shows the photo's own texture, and mirrored one.
    """

    picture: Tensor
    synthesised: Tensor
    landmarks5: Tensor
    own_fraction: Tensor
    mirrored_fraction: Tensor


class Frontalizer:
    """Turns faces; one per process.

    Args:
        device: of the model and of the results.
        generator: "composite", or path of a CFRNet checkpoint.
        model: the face model that was fitted, on that device; the package's own if None.

    Raises:
        cfr.model.checkpoints.CheckpointError, FileNotFoundError: the checkpoint cannot be used.
    """

    def __init__(self, device: str = "cpu", generator: str | PathLike = COMPOSITE, model: MorphableModel | None = None):
        self.device = torch.device(device)
        self.model = model or MorphableModel.load_default(device)
        self.occluders = RemovableOccluders(self.model)
        self.painter: Painter = CompositePainter()
        if generator != COMPOSITE:
            from cfr.model.frontalization.generator import GeneratorPainter

            self.painter = GeneratorPainter(generator, device)

    @torch.inference_mode()
    def frontalize(self, faces: SourceFaces, pose: Tensor, template: Template, size: int) -> Frontalized:
        """Turn a mini-batch.

        Args:
            faces: on the frontalizer's device.
            pose: (B,3) yaw, pitch, roll of the wanted view, degrees.
            template, size: framing of the result.
        """
        if self.painter.frame not in (None, (template.name, size)):
            name, painted_size = self.painter.frame
            return _reframed(self._turned(faces, pose, TEMPLATES[name], painted_size), template, size)
        if size < _SMALL:
            return _reduced(self._turned(faces, pose, template, 2 * size))
        return self._turned(faces, pose, template, size)

    def _turned(self, faces: SourceFaces, pose: Tensor, template: Template, size: int) -> Frontalized:
        scene = build_scene(self.model, self.occluders, faces, pose, template, size)
        painted = self.painter.paint(scene)
        covered, shown = scene.target.gbuffer.covered, painted.shown
        around = complete_surroundings(scene, painted.colour, shown)
        filled = torch.where(shown[:, None], painted.colour, around.colour)
        inner = erode(shown, _RIM)[:, None].float()
        area = covered.flatten(1).sum(1).clamp(min=1)
        return Frontalized(
            picture=blend_bands(around.colour, filled, inner, _RIM_BANDS).clamp(0, 1),
            synthesised=torch.where(covered, ~painted.own, ~around.own),
            landmarks5=scene.target.landmarks5,
            own_fraction=painted.own.flatten(1).sum(1) / area,
            mirrored_fraction=painted.mirrored.flatten(1).sum(1) / area,
        )


def _reduced(result: Frontalized) -> Frontalized:
    """At half the size."""
    return Frontalized(
        F.avg_pool2d(result.picture, 2),
        F.max_pool2d(result.synthesised[:, None].float(), 2)[:, 0] > 0,
        result.landmarks5 / 2,
        result.own_fraction,
        result.mirrored_fraction,
    )


def _reframed(result: Frontalized, template: Template, size: int) -> Frontalized:
    """In another frame."""
    points = result.landmarks5.cpu().numpy()
    landmarks5 = torch.from_numpy(template.moved(points, size)).to(result.landmarks5)
    return Frontalized(
        reframe(result.picture, result.landmarks5, template, size),
        reframe(result.synthesised[:, None].float(), result.landmarks5, template, size)[:, 0] > 0.5,
        landmarks5,
        result.own_fraction,
        result.mirrored_fraction,
    )
