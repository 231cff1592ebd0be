"""Pictures of a pair for the eye: the stored ones decoded, the others made again from the fitted coefficients."""

import io
import json
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cfr.model.camera import CROP_SIZE
from cfr.model.coefficients import Coefficients
from cfr.model.double_rotation import DoubleRotator
from cfr.model.face_model import MorphableModel
from cfr.model.rasterize import interpolate
from cfr.model.registry import active_models
from cfr.model.rendering import PosedMesh, posed, render_guidance
from cfr.model.swap import transfer_occlusion
from cfr.pipeline.occlusion_pictures import mask_picture
from cfr.pipeline.pair_rows import PairRow

STORED = ("target", "rotated", "guidance", "occluder_mask", "occlusion_mask", "face_mask")
NEEDED_COLUMNS = (*STORED, "coefficients", "view_yaw", "view_pitch", "view_roll")

# The mesh is drawn twice as fine as the crop and reduced, for smooth lines.
_OVERSAMPLING = 2
_GRID_STEP = 0.1  # decimetres between the lines on the face
_HEAD_RADIUS = 0.8
_MESH_COLOUR = (0.25, 0.62, 0.95)


class PairPainter:
    """Makes the pictures of a contact sheet; loads the face model once."""

    def __init__(self):
        self._rotator = DoubleRotator()
        self._model: MorphableModel = self._rotator.model
        self._digest = _face_model_digest([vars(model) for model in active_models()])

    def paint(self, rows: Sequence[PairRow]) -> list[dict[str, np.ndarray]]:
        """Pictures of each row, (224,224,3) uint8 RGB, by the names of `contact_sheet.PAIR_ROWS`.

        A picture is left out where its columns are not in the shard or were made with another face model.
        """
        painted = []
        for row in rows:
            stored = {name: _decode(row.encoded_picture(name)) for name in STORED if row.encoded_picture(name)}
            pictures = {name: stored[name] for name in ("rotated", "guidance") if name in stored}
            if "target" in stored:
                pictures["photo"] = stored["target"]
            for mask in ("occluder_mask", "occlusion_mask"):
                if mask in stored:
                    pictures[mask] = mask_picture(stored[mask], stored.get("face_mask"))
            pictures |= self._repeat(row, stored)
            painted.append(pictures)
        return painted

    @torch.inference_mode()
    def _repeat(self, row: PairRow, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the job made on the way and did not store."""
        values = row.values.get("coefficients")
        digest = _face_model_digest(json.loads(row.metadata.get("models", "[]")))
        if values is None or digest not in (None, self._digest):
            return {}
        coefficients = torch.tensor([values], dtype=torch.float32)
        try:
            fitted = Coefficients.split(coefficients, self._model.sizes)
        except ValueError:  # a shard without the models' digests, and another face model
            return {}
        mesh = posed(self._model, fitted)
        guidance = render_guidance(self._model, fitted, mesh, mesh.rasterized(self._model.triangles))
        pictures = {"clean_guidance": _to_picture(guidance)}
        if "target" not in stored:
            return pictures
        photo = _to_tensor(stored["target"])
        pictures["mesh"] = _to_picture(self._overlay(photo, mesh))
        view = [row.values.get(f"view_{name}") for name in ("yaw", "pitch", "roll")]
        if "occluder_mask" in stored and "face_mask" in stored and None not in view:
            occluder, face = (torch.from_numpy(stored[name][None] > 127) for name in ("occluder_mask", "face_mask"))
            # The job's stages hand over 8-bit pictures.
            deoccluded, _ = transfer_occlusion(photo, _to_tensor(pictures["clean_guidance"]), occluder, face)
            deoccluded = _to_tensor(_to_picture(deoccluded))
            rotation = self._rotator.rotate(deoccluded, coefficients, torch.tensor([view], dtype=torch.float32))
            pictures["rotated_once"] = _to_picture(rotation.rotated_once)
        return pictures

    def _overlay(self, photo: Tensor, mesh: PosedMesh) -> Tensor:
        """The photo (1,3,H,W) under the mesh: shaded, with lines a centimetre apart on the face."""
        size = CROP_SIZE * _OVERSAMPLING
        fine = PosedMesh(mesh.vertices, mesh.normals, mesh.pixels * _OVERSAMPLING, mesh.depth)
        gbuffer = fine.rasterized(self._model.triangles, size)
        template = self._model.mean_shape
        angle = torch.atan2(template[:, 0], template[:, 2] - template[:, 2].max() + 2 * _HEAD_RADIUS)
        on_face = torch.stack([angle * 2 * _HEAD_RADIUS, template[:, 1]], -1) / _GRID_STEP
        attributes = torch.cat([on_face[None].expand(len(mesh.pixels), -1, -1), mesh.normals], -1)
        values = interpolate(gbuffer, attributes, self._model.triangles)
        lines = _grid_lines(values[:, :2])
        covered = gbuffer.covered[:, None].float()
        light = (0.25 + 0.75 * values[:, 4:5].clamp(0, 1)) * covered
        colour = torch.tensor(_MESH_COLOUR).view(1, 3, 1, 1) * light
        large = torch.nn.functional.interpolate(photo, size=(size, size), mode="bilinear", align_corners=False)
        shaded = large + (colour - large) * 0.45 * covered
        shaded = shaded + (1 - shaded) * 0.75 * lines * covered
        return torch.nn.functional.avg_pool2d(shaded, _OVERSAMPLING)


def _face_model_digest(models: list[dict]) -> str | None:
    return next((model["digest"] for model in models if model["part"] == "face_model"), None)


def _grid_lines(position: Tensor) -> Tensor:
    """(B,1,H,W) 0..1 lines where either coordinate of position (B,2,H,W) is whole, about a pixel wide."""
    slope = torch.zeros_like(position)
    slope[:, :, :, 1:] += (position[:, :, :, 1:] - position[:, :, :, :-1]).abs()
    slope[:, :, 1:] += (position[:, :, 1:] - position[:, :, :-1]).abs()
    distance = (position - position.round()).abs()
    line = (1.2 - distance / slope.clamp(min=1e-6)).clamp(0, 1)
    # Where lines are closer than three pixels they would fuse to a patch.
    return (line * (slope < 0.3)).amax(1, keepdim=True)


def _decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.array(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))


def _to_tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def _to_picture(tensor: Tensor) -> np.ndarray:
    return (tensor[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
