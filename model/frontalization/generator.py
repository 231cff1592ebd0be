"""A trained generator (CFRNet) as the painter of the wanted view."""

from os import PathLike

import torch
from torch import Tensor

from cfr.model.camera import CROP_SIZE
from cfr.model.checkpoints import load_generator
from cfr.model.frontalization.composite import PaintedFaces
from cfr.model.frontalization.scene import Scene
from cfr.model.frontalization.texture import take_texture
from cfr.model.morphology import erode
from cfr.model.networks.prepared_generator import PreparedGenerator

# As for the pairs that it was trained on: below this cosine a texture is smeared, and left out.
_GRAZING = 0.12


class GeneratorPainter:
    """Paints with CFRNet, in the frame that it was trained in.

    Args:
        path: checkpoint, the authors' or one of `cfr train`.
        device: where it runs.
    """

    frame = ("crop224", CROP_SIZE)

    def __init__(self, path: str | PathLike, device: str = "cpu"):
        self.network = PreparedGenerator(load_generator(path), device)

    def paint(self, scene: Scene) -> PaintedFaces:
        """Paint the mesh of the wanted view.

        The photo's texture goes in as it is, with what covers the face: the network is trained to tell by the guidance.
        """
        trusted = scene.inside * erode(scene.source.gbuffer.covered, 3)[:, None]
        own = take_texture(scene.photo, trusted, scene.source, scene.target, scene.triangles)
        shown = own.trust > _GRAZING
        image, mask = self.complete(own.colour * shown, scene.guidance)
        kept = shown[:, 0] & (mask < 0.5)
        return PaintedFaces(image, kept, torch.zeros_like(kept), scene.target.gbuffer.covered)

    def complete(self, rotated: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor]:
        """The network: (B,3,224,224) RGB 0..1 twice -> completed faces (B,3,224,224) 0..1, mask (B,224,224) 0..1."""
        image, mask = self.network(2 * rotated - 1, 2 * guidance - 1)
        return (image / 2 + 0.5).clamp(0, 1), mask[:, 0]
