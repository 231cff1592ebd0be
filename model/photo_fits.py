"""The whole chain from a photo to a fitted face and its occluder mask, for measurements outside a Beam job.

Photos come in as a stream and are fitted in mini-batches, so that a folder of any size takes little memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cfr.model.alignment import CROP_IN_CONTEXT, apply_affine, context_crop, crop_affine, invert_affine
from cfr.model.camera import CROP_SIZE, project
from cfr.model.coefficients import Coefficients
from cfr.model.detector import MTCNN
from cfr.model.face_model import MorphableModel
from cfr.model.fitting import FaceFitter
from cfr.model.quality import fraction, quality, sharpness
from cfr.model.rasterize import GBuffer, sample_image
from cfr.model.rendering import PosedMesh, posed

MINI_BATCH = 8
# FaceMesh's outline of the face, once around from the middle of the forehead.
_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)


class NoFace(ValueError):
    """The detector finds no face, or none where the face is known to be."""


@dataclass(frozen=True)
class Photo:
    """What is to be fitted.

    Attributes:
        name: for the report.
        image: (H,W,3) uint8 RGB.
        near: (4,) x1, y1, x2, y2 of the face that is meant, px; None: the largest.
    """

    name: str
    image: np.ndarray
    near: np.ndarray | None = None


@dataclass(frozen=True)
class PhotoFit:
    """A fitted face.

    Attributes:
        photo: what was asked for.
        box, landmarks5: of the detection, (4,) and (5,2) px of the photo.
        affine: (6,) photo px -> crop px.
        crop: (3,224,224) float32 RGB 0..1.
        guidance: (3,224,224) float32 RGB 0..1, black outside the mesh.
        face_mask: (224,224) bool, the mesh.
        oval: (224,224) bool, the part of the mesh within FaceMesh's outline: no ears, no neck, no scalp under hair.
        occluder: (224,224) bool, what covers the face.
        mesh, gbuffer: the fitted face, mini-batches of one.
        coefficients: mini-batch of one.
        landmarks68: (68,2) the fitted mesh's iBUG points, px of the photo.
        fit_error: landmark error of the fit, a fraction.
        quality: 0..1, of the fit alone (nothing lost to a rotation).
    """

    photo: Photo
    box: np.ndarray
    landmarks5: np.ndarray
    affine: np.ndarray
    crop: Tensor
    guidance: Tensor
    face_mask: Tensor
    oval: Tensor
    occluder: Tensor
    mesh: PosedMesh
    gbuffer: GBuffer
    coefficients: Coefficients
    landmarks68: np.ndarray
    fit_error: float
    quality: float

    @property
    def yaw(self) -> float:
        """Degrees; > 0: the nose points towards image right."""
        return float(self.coefficients.pose[0, 0])


@dataclass(frozen=True)
class PhotoFailure:
    """A photo without a fit, and why."""

    photo: Photo
    reason: str


def box_overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (n,4) with one box (4,): (n,)."""
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    common = (high - low).clip(min=0).prod(1)
    return common / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - common)


def carried_mask(mask: Tensor, source: np.ndarray, target: np.ndarray) -> Tensor:
    """A crop's mask as it lies in another crop of the same photo (nearest pixel; False where the first ends).

    Args:
        mask: (S,S) bool.
        source, target: (6,) affines photo px -> crop px of the two crops.
    """
    size = mask.shape[0]
    y, x = np.mgrid[:size, :size] + 0.5
    there = apply_affine(apply_affine(np.stack([x, y], -1), invert_affine(target)), source)
    index = torch.from_numpy(np.floor(there).astype(np.int64)).to(mask.device)
    inside = ((index >= 0) & (index < size)).all(-1)
    index = index.clamp(0, size - 1)
    return mask[index[..., 1], index[..., 0]] & inside


def carried_picture(picture: Tensor, source: np.ndarray, target: np.ndarray) -> Tensor:
    """A crop's picture (3,S,S) as it lies in another crop of the same photo, bilinear; 0 where the first ends.

    Args:
        picture: float32.
        source, target: (6,) affines photo px -> crop px of the two crops.
    """
    size = picture.shape[-1]
    y, x = np.mgrid[:size, :size] + 0.5
    there = apply_affine(apply_affine(np.stack([x, y], -1), invert_affine(target)), source)
    return sample_image(picture[None], torch.from_numpy(there).to(picture)[None])[0]


def _outlined(corners: Tensor) -> Tensor:
    """(CROP_SIZE, CROP_SIZE) bool, the inside of a polygon (N,2) of crop px."""
    picture = Image.new("1", (CROP_SIZE, CROP_SIZE))
    # Pillow counts pixel centres at whole numbers.
    ImageDraw.Draw(picture).polygon([(x - 0.5, y - 0.5) for x, y in corners.tolist()], fill=1)
    return torch.from_numpy(np.array(picture))


class PhotoFitter:
    """Detector, fitter and occluder detector.

    Args:
        device: of the models and of the tensors of the results.
        model: the face model that is fitted, on that device; the package's own if None.
        fitter, regressor: see `FaceFitter`.
    """

    def __init__(
        self, device: str = "cpu", model: MorphableModel | None = None, fitter: str = "landmarks", regressor: str = ""
    ):
        self.device = torch.device(device)
        self.detector = MTCNN.load_default(device)
        self.fitter = FaceFitter(device, model, fitter, regressor)
        self.model = self.fitter.model

    def detect(self, photo: Photo) -> tuple[np.ndarray, np.ndarray]:
        """Box (4,) and landmarks5 (5,2) of the face that is meant, px.

        Raises:
            NoFace: none found, or none that overlaps `photo.near`.
        """
        found = self.detector.detect(photo.image)
        if not len(found.scores):
            raise NoFace("no face found")
        if photo.near is None:
            index = int((found.boxes[:, 2:] - found.boxes[:, :2]).prod(1).argmax())
        else:
            overlap = box_overlap(found.boxes, photo.near)
            index = int(overlap.argmax())
            if overlap[index] <= 0:
                raise NoFace(f"no face found where it should be ({len(found.scores)} elsewhere)")
        return found.boxes[index], found.landmarks5[index]

    def fit(self, photos: Iterable[Photo]) -> Iterator[PhotoFit | PhotoFailure]:
        """Fit photos one after the other; the results come in their order."""
        waiting: list[tuple] = []
        for photo in photos:
            try:
                box, landmarks5 = self.detect(photo)
                affine = crop_affine(landmarks5)
                waiting.append((photo, box, landmarks5, affine, context_crop(photo.image, affine)))
            except ValueError as error:
                waiting.append((photo, str(error)))
            if len(waiting) == MINI_BATCH:
                yield from self._fit_batch(waiting)
                waiting = []
        yield from self._fit_batch(waiting)

    @torch.inference_mode()
    def _fit_batch(self, items: list[tuple]) -> Iterator[PhotoFit | PhotoFailure]:
        found = [item for item in items if len(item) > 2]
        fits = iter(self._fit_found(found) if found else [])
        for item in items:
            yield next(fits) if len(item) > 2 else PhotoFailure(*item)

    def _fit_found(self, found: list[tuple]) -> list[PhotoFit]:
        context = torch.from_numpy(np.stack([item[4] for item in found]))
        landmarks5 = np.stack([apply_affine(item[2], item[3]) for item in found])
        fit = self.fitter.fit(context, torch.from_numpy(landmarks5).float())
        crops = context[:, CROP_IN_CONTEXT, CROP_IN_CONTEXT].permute(0, 3, 1, 2).float().to(self.device) / 255
        mesh = posed(self.model, fit.coefficients)
        gbuffer = mesh.rasterized(self.model.triangles)
        occluder = self.fitter.occluder_detector.detect(crops, fit.guidance, gbuffer)
        corners = self.model.surface_points(mesh.vertices, self.model.ibug68_triangles, self.model.ibug68_barycentric)
        points, _ = project(corners)
        oval = list(_OVAL)
        outline, _ = project(
            self.model.surface_points(
                mesh.vertices, self.model.facemesh_triangles[oval], self.model.facemesh_barycentric[oval]
            )
        )
        trust = quality(
            fit_error=fit.fit_error,
            landmark_score=fit.landmark_score,
            occluded=fraction(occluder, fit.face_mask),
            visible=torch.ones_like(fit.fit_error),
            sharp=sharpness(crops, fit.face_mask),
        )
        results = []
        for index, (photo, box, detected, affine, _) in enumerate(found):
            one = slice(index, index + 1)
            results.append(
                PhotoFit(
                    photo=photo,
                    box=box,
                    landmarks5=detected,
                    affine=affine,
                    crop=crops[index],
                    guidance=fit.guidance[index],
                    face_mask=fit.face_mask[index],
                    oval=_outlined(outline[index]).to(self.device) & fit.face_mask[index],
                    occluder=occluder[index],
                    mesh=PosedMesh(*(getattr(mesh, name)[one] for name in ("vertices", "normals", "pixels", "depth"))),
                    gbuffer=GBuffer(*(getattr(gbuffer, name)[one] for name in ("triangle_id", "barycentric", "depth"))),
                    coefficients=Coefficients(
                        *(part[one] for part in vars(fit.coefficients).values()),
                    ),
                    landmarks68=apply_affine(points[index].cpu().numpy(), invert_affine(affine)),
                    fit_error=float(fit.fit_error[index]),
                    quality=float(trust[index]),
                )
            )
        return results
