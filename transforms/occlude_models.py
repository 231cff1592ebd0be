"""The models of `cfr occlude`: those of a default run up to the fit, and the folder of cut-outs that a user brings."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cfr.transforms.models import DefaultModels


@dataclass(frozen=True)
class OccludeModels(DefaultModels):
    """Loaded once per process.

    Attributes:
        occluders: folder of cut-outs (*.png), "" for none.
    """

    occluders: str = ""

    def cutouts(self):
        """The usable cut-outs, `cfr.model.composites.Occluder`, ordered by name."""
        from cfr.model.composites import load_occluders

        return load_occluders(Path(self.occluders))[0] if self.occluders else []

    def mesh_landmarks(self):
        """What reads 68 points off fitted meshes, with `of(coefficients)`."""
        from cfr.model.landmarks68 import MeshLandmarks

        return MeshLandmarks(self.torch_device())

    def active(self) -> list[dict[str, str]]:
        """As `DefaultModels.active`, with the folder: other cut-outs make another job."""
        found = super().active()
        if self.occluders:
            digest = hashlib.sha256()
            for path in sorted(Path(self.occluders).glob("*.png")):
                digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
            part = {"part": "occluders", "name": "cut-outs", "licence": "the user's own", "digest": digest.hexdigest()}
            found.append(part)
        return found
