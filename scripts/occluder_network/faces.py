"""Faces for training: renderings of the face model with the things that it does not know: skin detail, beards, hair,
hard shadows, backgrounds; and what a fit of the model to such a picture would be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy.ndimage import map_coordinates
from textures import HAIR_TONES, pattern, soft, spectral_noise, tone

from cfr.model.alignment import apply_affine
from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.images import decode_image
from cfr.model.lighting import shade
from cfr.model.photo_fits import Photo, PhotoFit, PhotoFitter
from cfr.model.rasterize import GBuffer, interpolate
from cfr.model.rendering import PosedMesh, posed, render_guidance

SIZE = 224
# Order of the bands as in cfr.model.lighting; the light is the shading of a white sphere: constant, y, z, x.
_BAND_SCALE = torch.tensor([0.886, -1.772, 1.772, -1.772])


@dataclass(frozen=True)
class RenderedFaces:
    """A mini-batch of faces as a camera would see them, before anything covers them.

    Attributes:
        photo: (B,224,224,3) float64 RGB 0..1, with hair and background.
        covered: (B,224,224) bool, the mesh. fringe: (B,224,224) 0..1, hair over the face.
        normals: (B,224,224,3) camera space. landmarks: (B,68,2) crop px. skin: (B,3) mean colour of the face.
        coefficients: that the renderings were made with.
    """

    photo: np.ndarray
    covered: np.ndarray
    fringe: np.ndarray
    normals: np.ndarray
    landmarks: np.ndarray
    skin: np.ndarray
    coefficients: Coefficients


def random_coefficients(model: MorphableModel, generator: np.random.Generator, batch: int) -> Coefficients:
    """Faces of all tones, poses and lights."""
    identities, expressions, albedos = model.sizes

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(generator.normal(size=shape)).float()

    expression = (normal(batch, expressions) * 0.35).clamp(0, 1) * (torch.rand_like(normal(batch, expressions)) < 0.35)
    jaw = model.expression_names.index("jawOpen")
    expression[:, jaw] = torch.where(normal(batch) > 0.5, normal(batch).abs() * 0.35, torch.zeros(batch)).clamp(0, 1)
    for side in ("Left", "Right"):
        expression[:, model.expression_names.index(f"mouthSmile{side}")] = (normal(batch) * 0.4).clamp(0, 0.9)
    blink = torch.where(normal(batch) > 1.3, torch.ones(batch), torch.zeros(batch))
    for side in ("Left", "Right"):
        index = model.expression_names.index(f"eyeBlink{side}")
        expression[:, index] = torch.maximum(expression[:, index], blink)
    albedo = normal(batch, albedos)
    albedo[:, 0] *= 1.2
    light = torch.zeros(batch, 9, 3)
    direction = torch.nn.functional.normalize(
        normal(batch, 3) * torch.tensor([1.0, 0.7, 0.6]) + torch.tensor([0, 0.4, 0.8]), dim=1
    )
    directed = torch.from_numpy(generator.uniform(0.05, 0.55, (batch, 1))).float()
    level = torch.from_numpy(generator.uniform(0.8, 1.25, (batch, 1))).float()
    bands = torch.cat([1 - directed, directed * direction[:, [1, 2, 0]]], 1) * level / _BAND_SCALE
    tint = 1 + normal(batch, 1, 3) * 0.06
    light[:, :4] = bands[..., None] * tint
    light[:, 4:] = normal(batch, 5, 1) * 0.03
    side_yaw = torch.where(normal(batch) > 0.6, normal(batch) * 45, normal(batch) * 18)
    pose = torch.stack([side_yaw.clamp(-88, 88), normal(batch) * 11, normal(batch) * 8], 1)
    translation = normal(batch, 3) * torch.tensor([0.04, 0.04, 0.25])
    return Coefficients(normal(batch, identities) * 0.9, expression, albedo, light, pose, translation)


def render_faces(model: MorphableModel, generator: np.random.Generator, batch: int) -> RenderedFaces:
    """Random faces."""
    coefficients = random_coefficients(model, generator, batch)
    mesh = posed(model, coefficients)
    gbuffer = mesh.rasterized(model.triangles)
    guidance = render_guidance(model, coefficients, mesh, gbuffer).permute(0, 2, 3, 1).double().numpy()
    covered = gbuffer.covered.numpy()
    place = canonical_position(model, gbuffer).permute(0, 2, 3, 1).double().numpy()
    normals = interpolate(gbuffer, mesh.normals, model.triangles).permute(0, 2, 3, 1).double().numpy()
    region = _nearest_region(model, gbuffer)
    shading = _shading(model, coefficients, mesh, gbuffer)
    landmarks = model.surface_points(
        mesh.pixels.new_zeros(()) + torch.cat([mesh.pixels, mesh.depth[..., None]], -1),
        model.ibug68_triangles,
        model.ibug68_barycentric,
    )[..., :2]
    photo = np.zeros((batch, SIZE, SIZE, 3))
    fringe = np.zeros((batch, SIZE, SIZE))
    skin = np.zeros((batch, 3))
    for index in range(batch):
        face = _detailed(generator, guidance[index], place[index], normals[index], region[index], model)
        skin[index] = face[covered[index]].mean(0) if covered[index].any() else 0.5
        photo[index], fringe[index] = _surrounded(
            generator, face, covered[index], place[index], landmarks[index].numpy(), shading[index], skin[index]
        )
    return RenderedFaces(photo, covered, fringe, normals, landmarks.numpy(), skin, coefficients)


def canonical_position(model: MorphableModel, gbuffer: GBuffer) -> torch.Tensor:
    """(B,3,H,W) dm: where on the mean face each pixel lies."""
    return interpolate(gbuffer, model.mean_shape.expand(len(gbuffer.depth), -1, -1), model.triangles)


def misfitted(model: MorphableModel, generator: np.random.Generator, truth: Coefficients) -> Coefficients:
    """What a landmark fit would find instead of the truth: shape, pose and place a little wrong, gaze not followed."""
    batch = len(truth.pose)
    amount = torch.from_numpy(generator.choice([0.5, 1.0, 2.0], batch, p=[0.35, 0.45, 0.2])).float()[:, None]

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(generator.normal(size=shape)).float()

    expression = truth.expression + 0.08 * amount * normal(*truth.expression.shape) * (truth.expression > 0)
    expression[:, model.frozen_expressions] = 0
    return replace(
        truth,
        identity=0.7 * truth.identity + 0.35 * amount * normal(*truth.identity.shape),
        expression=expression.clamp(0, 1),
        pose=truth.pose + amount * normal(batch, 3) * torch.tensor([2.5, 2.0, 0.8]),
        translation=truth.translation + amount * normal(batch, 3) * torch.tensor([0.012, 0.012, 0.06]),
    )


def warped(generator: np.random.Generator, pictures: list[np.ndarray], strength: float) -> list[np.ndarray]:
    """Pictures (224,224[,C]) moved by one smooth random field of this deviation, px: faces are not the model's."""
    field = [soft(generator.normal(size=(SIZE, SIZE)), 14.0) for _ in range(2)]
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    y, x = (axis + strength * part / (part.std() + 1e-9) for axis, part in zip((y, x), field, strict=True))

    def move(picture: np.ndarray) -> np.ndarray:
        if picture.ndim == 2:
            return map_coordinates(picture, [y, x], order=1, mode="nearest")
        return np.stack([move(picture[..., channel]) for channel in range(picture.shape[-1])], -1)

    return [move(picture) for picture in pictures]


class PhotographedFaces:
    """The bundled photographs in the public domain, turned, mirrored and fitted; a few faces, but real ones.

    Args:
        generator: of the angles.
        variants: how many fits of each photograph.
    """

    def __init__(self, generator: np.random.Generator, variants: int):
        self.fits: list[PhotoFit] = []
        fitter = PhotoFitter()
        self.model = fitter.model
        folder = resources.files("cfr.model").joinpath("data", "photos")
        for name in ("astronaut.png", "grace_hopper.jpg"):
            picture = Image.fromarray(decode_image(folder.joinpath(name).read_bytes()))
            picture.thumbnail((600, 600))
            turned = [picture.rotate(generator.uniform(-25, 25), Image.Resampling.BICUBIC) for _ in range(variants)]
            flipped = [ImageOps.mirror(one) if index % 2 else one for index, one in enumerate(turned)]
            photos = [Photo(f"{name} {index}", np.asarray(one)) for index, one in enumerate(flipped)]
            self.fits += [fit for fit in fitter.fit(photos) if isinstance(fit, PhotoFit)]

    def faces(self, generator: np.random.Generator, batch: int) -> RenderedFaces:
        """A mini-batch, with other complexions, as `render_faces`."""
        fits = [self.fits[index] for index in generator.integers(len(self.fits), size=batch)]
        photo = np.stack([fit.crop.permute(1, 2, 0).double().numpy() for fit in fits])
        photo = photo ** generator.uniform(0.7, 1.7, (batch, 1, 1, 1)) * generator.uniform(0.75, 1.1, (batch, 1, 1, 3))
        covered = np.stack([fit.face_mask.numpy() for fit in fits])
        place = np.stack([canonical_position(self.model, fit.gbuffer)[0].permute(1, 2, 0).numpy() for fit in fits])
        normals = [interpolate(fit.gbuffer, fit.mesh.normals, self.model.triangles)[0] for fit in fits]
        coefficients = Coefficients(
            *(torch.cat(parts) for parts in zip(*(vars(fit.coefficients).values() for fit in fits), strict=True))
        )
        return RenderedFaces(
            photo.clip(0, 1),
            covered,
            (covered & (place[..., 1] > 0.6)).astype(np.float64),
            np.stack([normal.permute(1, 2, 0).double().numpy() for normal in normals]),
            np.stack([apply_affine(fit.landmarks68, fit.affine) for fit in fits]),
            np.stack([one[mask].mean(0) for one, mask in zip(photo, covered, strict=True)]),
            coefficients,
        )


def _nearest_region(model: MorphableModel, gbuffer: GBuffer) -> np.ndarray:
    corner = model.triangles[gbuffer.triangle_id.clamp(min=0)].gather(-1, gbuffer.barycentric.argmax(-1, keepdim=True))
    return torch.where(gbuffer.covered, model.region[corner[..., 0]], -1).numpy()


def _shading(model: MorphableModel, coefficients: Coefficients, mesh: PosedMesh, gbuffer: GBuffer) -> np.ndarray:
    grey = shade(mesh.normals, coefficients.light).mean(-1, keepdim=True)
    return interpolate(gbuffer, grey, model.triangles)[:, 0].double().numpy()


def _detailed(generator, guidance, place, normals, region, model) -> np.ndarray:
    """The rendering with skin texture, blemishes, beard, wrinkles, gloss and hard shadows: (224,224,3)."""
    log_change = np.zeros((SIZE, SIZE, 1))
    log_change = (
        log_change
        + generator.uniform(0.01, 0.07) * spectral_noise(generator, SIZE, generator.uniform(0.3, 1.2))[..., None]
    )
    blotches = spectral_noise(generator, SIZE, 1.6)[..., None] * generator.uniform(0, 0.08) * np.array([0.1, 1.0, 0.8])
    log_change = log_change + blotches
    if generator.random() < 0.5:  # wrinkles: thin dark ridges of a smooth field
        field = spectral_noise(generator, SIZE, generator.uniform(1.6, 2.4), 3.0)
        ridge = np.exp(-((np.sin(field * generator.uniform(2, 6)) / 0.25) ** 2))
        log_change = (
            log_change - generator.uniform(0.05, 0.35) * (ridge * (spectral_noise(generator, SIZE, 2) > 0.3))[..., None]
        )
    for _ in range(generator.integers(0, 12)):  # moles, pimples
        y, x = generator.integers(0, SIZE, 2)
        y0, x0, radius = max(y - 4, 0), max(x - 4, 0), generator.uniform(0.6, 2)
        yy, xx = np.mgrid[y0 : y + 5, x0 : x + 5]
        spot = np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * radius**2))[..., None] * generator.uniform(0.1, 0.9)
        part = log_change[y0 : y + 5, x0 : x + 5]
        log_change[y0 : y + 5, x0 : x + 5] = part - (spot * [0.6, 1.0, 1.0])[: part.shape[0], : part.shape[1]]
    face = guidance * np.exp(log_change)
    if generator.random() < 0.3:
        face = _bearded(generator, face, place, region, model)
    if generator.random() < 0.2:  # make-up and face paint, thin enough to leave the shape
        names = [model.region_names.index(name) for name in ("lips", "eyelids")]
        paint = np.isin(region, names[: generator.integers(1, 3)]).astype(float)
        paint = soft(paint, 1.0)[..., None] * generator.uniform(0.2, 0.8)
        face = face * (1 - paint) + paint * face * np.array(
            [1.1, generator.uniform(0.3, 1.0), generator.uniform(0.4, 1.1)]
        )
    gloss = np.clip(normals @ _direction(generator), 0, 1) ** generator.uniform(8, 40)
    face = face + generator.uniform(0, 0.35) * gloss[..., None]
    if generator.random() < 0.45:  # a shadow or a lit patch with a hard or soft edge
        field = spectral_noise(generator, SIZE, 2.2)
        if generator.random() < 0.5:
            angle = generator.uniform(0, 2 * np.pi)
            y, x = np.mgrid[:SIZE, :SIZE] / 40
            field = field * 0.3 + (x - 2.8) * np.cos(angle) + (y - 2.8) * np.sin(angle)
        edge = 1 / (1 + np.exp(-(field - generator.normal(0, 0.7)) * generator.uniform(2, 25)))
        face = face * (1 - generator.uniform(0.2, 0.65) * edge[..., None] * generator.uniform(0.9, 1.0, 3))
    return face.clip(0, 1)


def _bearded(generator, face, place, region, model) -> np.ndarray:
    """With a beard or a moustache in the colour of hair."""
    mouth = model.mean_shape[model.region == model.region_names.index("lips")]
    upper, lower = float(mouth[:, 1].max()), float(mouth[:, 1].min())
    y, x = place[..., 1], np.abs(place[..., 0])
    ragged = 0.05 * spectral_noise(generator, SIZE, 1.2)
    moustache = (y < upper + 0.13 + ragged) & (y > upper - 0.02) & (x < 0.3 + ragged)
    chin = (y < lower + 0.02 + ragged) & (x < generator.uniform(0.15, 0.8))
    cheeks = y < upper - 0.1 + 0.9 * np.clip(x - generator.uniform(0.3, 0.5), 0, 1) + ragged
    shape = {0: moustache, 1: moustache | chin, 2: moustache | chin | cheeks, 3: chin | cheeks}[
        int(generator.integers(4))
    ]
    skin = ~np.isin(region, [model.region_names.index(name) for name in ("lips", "mouth_interior", "teeth", "tongue")])
    share = soft((shape & skin).astype(float), generator.uniform(1.0, 5.0)) * generator.uniform(0.2, 0.95)
    strands = spectral_noise(generator, SIZE, 0.6, 4.0)
    share = np.clip(share * (1 + 0.35 * strands), 0, 1)[..., None]
    hair = tone(generator, HAIR_TONES) * np.exp(0.3 * strands[..., None])
    light = face.mean(-1, keepdims=True) / max(face.mean(), 1e-3)
    return face * (1 - share) + share * hair * light.clip(0.4, 1.6)


def _surrounded(generator, face, covered, place, landmarks, shading, skin) -> tuple[np.ndarray, np.ndarray]:
    """With background, neck and hair; and the hair over the face, (224,224) 0..1."""
    picture = pattern(generator, SIZE)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    chin, middle = landmarks[8], landmarks[27]
    width = max(np.linalg.norm(landmarks[16] - landmarks[0]), 60)
    neck = (np.abs(x - chin[0] - (middle[0] - chin[0]) * 0.2) < width * generator.uniform(0.3, 0.45)) & (y > middle[1])
    picture = np.where(neck[..., None], skin * generator.uniform(0.5, 1.0), picture)
    if generator.random() < 0.7:
        collar = y > chin[1] + width * generator.uniform(0.05, 0.5) + 0.2 * np.abs(x - chin[0]) * generator.normal()
        picture = np.where(collar[..., None], pattern(generator, SIZE), picture)
    picture = np.where(covered[..., None], face, picture)
    if generator.random() < 0.12:
        return picture, np.zeros((SIZE, SIZE))
    # Hair: above a ragged hairline on the face, and a cap of hair around the head.
    strands = spectral_noise(generator, SIZE, 0.7, generator.uniform(3, 10))
    hair_colour = tone(generator, HAIR_TONES) * np.exp(generator.uniform(0.1, 0.4) * strands[..., None])
    ragged = 0.10 * spectral_noise(generator, SIZE, 1.3) + 0.04 * strands
    line = generator.choice([0.75, 0.62, 0.45, 0.3], p=[0.3, 0.4, 0.2, 0.1]) + generator.normal(0, 0.05)
    sides = generator.uniform(0.0, 0.5) + generator.normal(0, 0.15) * np.sign(place[..., 0])
    on_face = covered & (place[..., 1] + sides * np.clip(np.abs(place[..., 0]) - 0.35, 0, 1) + ragged > line)
    top = middle - (chin - middle) * generator.uniform(0.2, 0.5)
    reach = width * generator.uniform(0.52, 0.8)
    outside = ~covered & (
        ((x - top[0]) / reach) ** 2 + ((y - top[1]) / (reach * generator.uniform(0.9, 1.3))) ** 2 < 1 + 2 * ragged
    )
    if generator.random() < 0.4:  # long hair beside the face
        outside |= ~covered & (np.abs(x - top[0]) < reach) & (y > top[1]) & (y < chin[1] + generator.uniform(-20, 80))
    light = np.where(covered, shading, 0.8)[..., None].clip(0.3, 1.3)
    share = np.clip(soft((on_face | outside).astype(float), generator.uniform(0.7, 2.5)), 0, 1)
    picture = picture * (1 - share[..., None]) + share[..., None] * hair_colour * light
    return picture.clip(0, 1), share * covered


def _direction(generator: np.random.Generator) -> np.ndarray:
    vector = generator.normal(size=3) * [0.7, 0.6, 0.2] + [0, 0.3, 1.0]
    return vector / np.linalg.norm(vector)
