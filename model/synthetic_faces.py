"""Pictures of random faces of the face model, with the truth about every one: what landmark networks are trained on.

A face has random identity, expression, gaze, skin, light and pose up to profile and beyond. So that the outline of the
bare mesh is no clue, the head is dressed: skull, hair of several lengths, caps and scarves, neck, shoulders, beard.
The 2D part (background, glasses, things in front of the face, the camera) is `synthetic_photos`.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from cfr.model.alignment import SMALLEST_SCALE, STANDARD_SOLVER, TARGET_SCALE
from cfr.model.camera import CAMERA_DISTANCE, CROP_SIZE, FOCAL_LENGTH, project, rotation_matrix, to_camera_space
from cfr.model.coefficients import Coefficients
from cfr.model.face_landmarks import UprightSquare
from cfr.model.face_model import MorphableModel
from cfr.model.lighting import spherical_harmonics
from cfr.model.rasterize import interpolate, rasterize

# Pixels per side of the network's input in the renderer: the rest is anti-aliasing.
OVERSAMPLING = 1.5
LARGEST_YAW = 100.0
# Rough heads (model space, dm): centre and radii of skull, neck, torso.
_SKULL = ((0.0, 0.45, -0.78), (0.76, 0.80, 0.86))
_NECK = ((0.0, -1.0, -0.72), (0.52, 0.9, 0.52))
_TORSO = ((0.0, -2.6, -0.85), (1.9, 1.05, 0.75))
_RINGS, _SECTORS = 18, 28
# Where the ears are (z, dm).
_EARS = -0.5
# FaceMesh points whose means are the five points of a detector: eyes, tip of the nose, corners of the mouth.
FIVE_POINTS = ((33, 133), (362, 263), (1, 1), (61, 61), (291, 291))
# Errors of a detector in crop px, and of the alignment that follows from it: scale (log) and shift (px).
_POINT_ERROR, _SCALE_ERROR, _SHIFT_ERROR = 2.0, 0.05, 3.0
_ALIGNMENT_STEPS = 4
# Rough natural colours (sRGB 0..1): hair, from black to blond, red, grey.
_HAIR = (
    (0.05, 0.04, 0.04),
    (0.15, 0.09, 0.06),
    (0.32, 0.20, 0.12),
    (0.62, 0.47, 0.28),
    (0.45, 0.20, 0.10),
    (0.6, 0.6, 0.6),
)


@dataclass(frozen=True)
class SyntheticFaces:
    """A mini-batch of rendered heads.

    Attributes:
        picture: (B,3,S,S) float32 RGB 0..1, black where there is no head.
        covered: (B,1,S,S) float32, share of the pixel that shows the head.
        face: (B,1,S,S) float32, share of the pixel that shows the face model's mesh.
        landmarks: (B,468,3) FaceMesh points of the mesh: px of the picture, z in the same unit, smaller is nearer.
        visible: (B,468) bool, the surface there faces the camera.
        coefficients: what was drawn; pose and translation are those of the crop the square was cut from.
        square: what the picture shows.
    """

    picture: Tensor
    covered: Tensor
    face: Tensor
    landmarks: Tensor
    visible: Tensor
    coefficients: Coefficients
    square: UprightSquare


class SyntheticFaceRenderer:
    """Draws and renders faces.

    Args:
        model: the face model.
        size: pixels per side of the pictures.
        depth: mean and standard deviation of a factor that every head is stretched by from front to back. With (1, 0)
            the coefficients tell the shape exactly.
        aligned: show the crop that a detector's five points would give, in place of the square around the landmarks.
        oversampling: pixels per side of the renderer's picture for one of the result.
    """

    def __init__(
        self,
        model: MorphableModel,
        size: int,
        depth: tuple[float, float] = (1.0, 0.0),
        aligned: bool = False,
        oversampling: float = OVERSAMPLING,
    ):
        self.model, self.size, self.depth = model, size, depth
        self.aligned, self.oversampling = aligned, oversampling
        self.sphere, sphere_triangles = _sphere()
        parts = [model.triangles]
        for part in range(5):
            parts.append(sphere_triangles + len(model.mean_shape) + part * len(self.sphere))
        self.triangles = torch.cat(parts)
        self.names = list(model.expression_names)
        self.skin_like = model.in_regions("skin", "scalp", "border", "neck", "ears")
        self.ears = model.in_regions("ears")
        neck = model.in_regions("neck")
        self.neck = neck if neck.any() else self.skin_like

    @torch.inference_mode()
    def draw(self, batch: int, generator: torch.Generator) -> SyntheticFaces:
        """A mini-batch of random faces; the same generator state gives the same pictures."""
        model = self.model
        coefficients = self._coefficients(batch, generator)
        shape = model.shape(coefficients.identity, coefficients.expression)
        normals = model.vertex_normals(shape)
        rotation = rotation_matrix(coefficients.pose)
        true_points = model.surface_points(shape, model.facemesh_triangles, model.facemesh_barycentric)
        point_normals = model.surface_points(normals, model.facemesh_triangles, model.facemesh_barycentric)
        if self.aligned:
            translation = _aligned_translation(true_points @ rotation.transpose(1, 2), coefficients.pose, generator)
            coefficients = replace(coefficients, translation=translation)
        in_camera = to_camera_space(true_points, rotation, coefficients.translation)
        pixels, depth = project(in_camera)
        square = _whole_crop(batch) if self.aligned else _square(pixels, coefficients.pose, rotation, generator)
        colours, vertices = self._dressed(shape, normals, coefficients, generator)
        body, body_normals, body_colours = self._body(batch, colours, generator)
        # The torso follows half of the head's turn, at most.
        calm = coefficients.pose * torch.rand(batch, 1, generator=generator)
        body_rotation = [
            rotation,
            rotation,
            rotation,
            rotation_matrix((coefficients.pose + calm) / 2),
            rotation_matrix(calm),
        ]
        turned = [vertices @ rotation.transpose(1, 2)]
        turned_normals = [normals @ rotation.transpose(1, 2)]
        for part, turn in enumerate(body_rotation):
            turned.append(body[:, part] @ turn.transpose(1, 2))
            turned_normals.append(body_normals[:, part] @ turn.transpose(1, 2))
        everything = torch.cat(turned, 1) + coefficients.translation[:, None]
        shade = (spherical_harmonics(torch.cat(turned_normals, 1)) @ coefficients.light).clamp(min=0.03)
        colour = torch.cat([colours, body_colours.flatten(1, 2)], 1) * shade
        # A camera exposes for the face, more or less.
        seen = (turned_normals[0][..., 2:] > 0.3) * self.skin_like[:, None]
        level = (colour[:, : len(self.skin_like)].mean(-1, keepdim=True) * seen).sum(1) / seen.sum(1).clamp(min=1)
        exposure = (0.15 + 0.6 * torch.rand(batch, 1, generator=generator)) / level
        colour = colour * (exposure * level.pow(0.3).clamp(min=0.4))[..., None]
        large = int(self.size * self.oversampling)
        places, distance = project(everything)
        gbuffer = rasterize(square.from_crop(places, large), distance, self.triangles, large)
        ones = torch.ones_like(colour[..., :1])
        own = ones * (torch.arange(ones.shape[1]) < len(model.mean_shape))[:, None]
        layers = interpolate(gbuffer, torch.cat([colour.clamp(0, 1), ones, own], -1), self.triangles)
        layers = functional.interpolate(layers, size=(self.size,) * 2, mode="bilinear", antialias=True)
        relative = (depth - depth.mean(1, keepdim=True)) * FOCAL_LENGTH / depth.mean(1, keepdim=True)
        relative = relative * (self.size / square.side)[:, None]
        landmarks = torch.cat([square.from_crop(pixels, self.size), relative[..., None]], -1)
        view = functional.normalize(in_camera - in_camera.new_tensor([0, 0, 10.0]), dim=-1)
        facing = -((point_normals @ rotation.transpose(1, 2)) * view).sum(-1)
        return SyntheticFaces(
            layers[:, :3], layers[:, 3:4], layers[:, 4:], landmarks, facing > 0.1, coefficients, square
        )

    def _coefficients(self, batch: int, generator: torch.Generator) -> Coefficients:
        identities, expressions, albedos = self.model.sizes

        def uniform(low, high, *shape):
            return low + (high - low) * torch.rand(*shape, generator=generator)

        identity = torch.randn(batch, identities, generator=generator) * uniform(0.5, 1.2, batch, 1)
        active = torch.rand(batch, expressions, generator=generator) < uniform(0.0, 0.25, batch, 1)
        expression = active * uniform(0, 0.8, batch, expressions)
        mirrored = expression[:, self.model.expression_mirror]
        symmetric = torch.rand(batch, 1, generator=generator) < 0.8
        expression = torch.where(symmetric, torch.maximum(expression, mirrored), expression)
        jaw = uniform(0, 0.7, batch) * (torch.rand(batch, generator=generator) < 0.3)
        smile = uniform(0, 1, batch) * (torch.rand(batch, generator=generator) < 0.35)
        blink = uniform(0, 1, batch) * (torch.rand(batch, generator=generator) < 0.25)
        self._set(expression, "jawOpen", jaw)
        # Lips can only be closed as far as the jaw is open.
        if {"jawOpen", "mouthClose"} <= set(self.names):
            closing = self.names.index("mouthClose")
            expression[:, closing] = torch.minimum(expression[:, closing], jaw)
        self._set(expression, "tongueOut", torch.zeros(batch))
        for left, right in (("Left", "Right"), ("_L", "_R")):
            for side in (left, right):
                self._set(expression, f"mouthSmile{side}", smile)
                self._set(expression, f"eyeBlink{side}", blink)
        yaw = torch.where(
            torch.rand(batch, generator=generator) < 0.25,
            25 * torch.randn(batch, generator=generator),
            uniform(-LARGEST_YAW, LARGEST_YAW, batch),
        )
        pitch, roll = 15 * torch.randn(batch, generator=generator), 12 * torch.randn(batch, generator=generator)
        translation = torch.stack([uniform(-0.1, 0.1, batch), uniform(-0.1, 0.1, batch), uniform(-1.5, 1.5, batch)], 1)
        albedo = torch.randn(batch, albedos, generator=generator)
        albedo[:, 0] = uniform(-2.5, 2.5, batch)
        return Coefficients(
            identity, expression, albedo, _light(batch, generator), torch.stack([yaw, pitch, roll], 1), translation
        )

    def _set(self, expression: Tensor, name: str, values: Tensor) -> None:
        """Give an expression (B,) values if the face model has it."""
        if name in self.names:
            expression[:, self.names.index(name)] = values

    def _dressed(self, shape: Tensor, normals: Tensor, coefficients: Coefficients, generator: torch.Generator):
        """Colours (B,V,3) and vertices (B,V,3) of the face mesh with hair, or cloth, over forehead and temples."""
        batch = len(shape)
        colours = self.model.albedo(coefficients.albedo)
        x, y, z = self.model.mean_shape.unbind(-1)

        def uniform(low, high):
            return low + (high - low) * torch.rand(batch, 1, generator=generator)

        wave = _waves(self.model.mean_shape, batch, 6.0, generator)
        hairline = uniform(0.55, 1.0) + uniform(-0.5, 0.2) * x.abs() + 0.06 * wave
        behind = uniform(-0.85, -0.3) + 0.08 * wave
        over = torch.sigmoid((y - hairline) * 40) + torch.sigmoid((behind - z) * 40) * (y > uniform(-1.2, 0.4))
        # Short hair leaves the ears free.
        over = over * torch.where(self.ears, (torch.rand(batch, 1, generator=generator) < 0.5).float(), 1.0)
        over = (over.clamp(max=1) * self.skin_like)[..., None]
        bald = torch.rand(batch, 1, 1, generator=generator) < 0.12
        over = torch.where(bald, 0.0, over)
        strands = _waves(self.model.mean_shape * self.model.mean_shape.new_tensor([4, 0.5, 2]), batch, 20.0, generator)
        self._hair_colour = _hair_colours(batch, generator)
        hair = self._hair_colour[:, None] * (1 + 0.4 * strands[..., None])
        colours = colours * (1 - over) + hair * over
        return colours, shape + normals * over * uniform(0.0, 0.12)[..., None] * (1 + 0.5 * wave[..., None])

    def _body(self, batch: int, colours: Tensor, generator: torch.Generator):
        """Skull, hair behind, brim or bun, neck and torso: vertices, normals (B,5,N,3) and colours."""

        def uniform(low, high, *shape):
            return low + (high - low) * torch.rand(batch, *shape, generator=generator)

        hair = self._hair_colour
        skin = colours[:, self.neck].mean(1)
        cloth = torch.rand(batch, 3, generator=generator)
        gone = torch.full((batch, 3), float("nan"))
        long = torch.rand(batch, 1, generator=generator) < 0.4
        brim = torch.rand(batch, 1, generator=generator) < 0.12
        scale = uniform(0.97, 1.12, 3)
        parts = [
            (colours.new_tensor(_SKULL[0]) + 0, colours.new_tensor(_SKULL[1]) * scale, hair),
            (
                torch.where(long, torch.stack([uniform(-0.1, 0.1), uniform(-0.9, 0.2), uniform(-1.3, -0.9)], 1), gone),
                torch.stack([uniform(0.75, 1.2), uniform(1.0, 1.7), uniform(0.35, 0.6)], 1),
                hair,
            ),
            (
                torch.where(brim, torch.stack([uniform(-0.1, 0.1), uniform(0.7, 0.95), uniform(0.0, 0.4)], 1), gone),
                torch.stack([uniform(0.6, 1.1), uniform(0.02, 0.08), uniform(0.5, 0.8)], 1),
                torch.rand(batch, 3, generator=generator),
            ),
            (
                colours.new_tensor(_NECK[0]) + 0.1 * uniform(-1, 1, 3),
                colours.new_tensor(_NECK[1]) * uniform(0.85, 1.15, 3),
                skin,
            ),
            (
                colours.new_tensor(_TORSO[0]) + 0.3 * uniform(-1, 1, 3),
                colours.new_tensor(_TORSO[1]) * uniform(0.8, 1.2, 3),
                cloth,
            ),
        ]
        vertices, normals, shades = [], [], []
        for centre, radii, colour in parts:
            vertices.append(self.sphere * radii[:, None] + centre.expand(batch, 3)[:, None])
            normals.append(functional.normalize(self.sphere / radii[:, None], dim=-1))
            pattern = _waves(self.sphere * self.sphere.new_tensor([3, 1, 3]), batch, 8.0, generator)
            shades.append(colour[:, None] * (1 + uniform(0.05, 0.5, 1) * pattern)[..., None])
        return torch.stack(vertices, 1), torch.stack(normals, 1), torch.stack(shades, 1).clamp(0, 1)


def _sphere() -> tuple[Tensor, Tensor]:
    """Unit sphere: vertices (N,3), triangles (F,3) counter-clockwise from outside."""
    polar = torch.linspace(0, math.pi, _RINGS)[:, None].expand(-1, _SECTORS)
    around = (torch.arange(_SECTORS) * 2 * math.pi / _SECTORS)[None].expand(_RINGS, -1)
    vertices = torch.stack([polar.sin() * around.sin(), polar.cos(), polar.sin() * around.cos()], -1).reshape(-1, 3)
    ring, sector = torch.meshgrid(torch.arange(_RINGS - 1), torch.arange(_SECTORS), indexing="ij")
    here, beside = ring * _SECTORS + sector, ring * _SECTORS + (sector + 1) % _SECTORS
    below, across = here + _SECTORS, beside + _SECTORS
    triangles = torch.cat([torch.stack([here, below, beside], -1), torch.stack([beside, below, across], -1)])
    return vertices, triangles.reshape(-1, 3)


def _waves(points: Tensor, batch: int, frequency: float, generator: torch.Generator) -> Tensor:
    """Smooth noise (B,N) of about unit variance at points (N,3): a few plane waves per face."""
    direction = torch.randn(batch, 6, 3, generator=generator) * frequency
    phase = 2 * math.pi * torch.rand(batch, 6, 1, generator=generator)
    return (torch.einsum("bwc,nc->bwn", direction, points) + phase).sin().sum(1) / math.sqrt(3)


def _hair_colours(batch: int, generator: torch.Generator) -> Tensor:
    """(B,3): natural hair, and now and then the colour of a scarf or a cap."""
    tones = torch.tensor(_HAIR)[torch.randint(len(_HAIR), (batch,), generator=generator)]
    tones = tones * (0.6 + 0.8 * torch.rand(batch, 1, generator=generator))
    cloth = torch.rand(batch, 1, generator=generator) < 0.2
    return torch.where(cloth, torch.rand(batch, 3, generator=generator), tones)


def _light(batch: int, generator: torch.Generator) -> Tensor:
    """(B,9,3): some light from everywhere, one lamp mostly from the front half, a tint, a little of the second band."""
    light = torch.zeros(batch, 9, 3)
    lamp = torch.randn(batch, 3, generator=generator) * torch.tensor([0.8, 0.6, 0.6]) + torch.tensor([0.0, 0.25, 0.6])
    lamp = functional.normalize(lamp, dim=1) * (0.05 + 0.5 * torch.rand(batch, 1, generator=generator))
    level = 0.35 + 0.6 * torch.rand(batch, generator=generator)
    # Values of a unit coefficient in each band: see `lighting`.
    light[:, 0] = (level / 0.886)[:, None]
    light[:, 1:4] = (lamp[:, [1, 2, 0]] * torch.tensor([-1.0, 1.0, -1.0]) / 1.772)[..., None]
    light[:, 4:] = 0.06 * torch.randn(batch, 5, 1, generator=generator)
    return light * (1 + 0.08 * torch.randn(batch, 1, 3, generator=generator))


def _square(pixels: Tensor, pose: Tensor, rotation: Tensor, generator: torch.Generator) -> UprightSquare:
    """A square as the landmark stage would place it, within its usual errors of place, size and roll."""
    batch = len(pixels)
    down = -rotation[:, :2, 1] * pixels.new_tensor([1.0, -1.0])
    angle = torch.deg2rad(8 * torch.randn(batch, generator=generator))
    cos, sin = angle.cos(), angle.sin()
    down = functional.normalize(down, dim=1)
    down = torch.stack([cos * down[:, 0] - sin * down[:, 1], sin * down[:, 0] + cos * down[:, 1]], 1)
    right = torch.stack([down[:, 1], -down[:, 0]], 1)
    axes = torch.stack([right, down], 1)
    upright = pixels @ axes.transpose(1, 2)
    low, high = upright.amin(1), upright.amax(1)
    side = (high - low).amax(1) * 1.5 * torch.exp(0.12 * torch.randn(batch, generator=generator))
    jitter = 0.05 * side[:, None] * torch.randn(batch, 2, generator=generator)
    centre = (((low + high) / 2)[:, None] @ axes)[:, 0] + jitter
    return UprightSquare(centre, side, down)


def _whole_crop(batch: int) -> UprightSquare:
    """The aligned crop as a square."""
    centre = torch.full((batch, 2), CROP_SIZE / 2)
    return UprightSquare(centre, torch.full((batch,), float(CROP_SIZE)), torch.tensor([[0.0, 1.0]]).expand(batch, 2))


def _aligned_translation(turned: Tensor, pose: Tensor, generator: torch.Generator) -> Tensor:
    """Translation (B,3) that puts faces where the alignment by a detector's five points, with its errors, puts a photo.

    Args:
        turned: (B,468,3) FaceMesh points of turned faces, dm, before the translation.
        pose: (B,3) degrees.
    """
    batch = len(turned)
    five = torch.stack([turned[:, list(pair)].mean(1) for pair in FIVE_POINTS], 1)
    # What a detector says of the half that it cannot see is too near to the half that it sees.
    hidden = ((pose[:, 0].abs() - 40) / 50).clamp(0, 1) * 0.6 * torch.rand(batch, generator=generator)
    far = torch.where((pose[:, :1] > 0)[..., None], five[:, [1, 4]], five[:, [0, 3]])
    near = torch.where((pose[:, :1] > 0)[..., None], five[:, [0, 3]], five[:, [1, 4]])
    moved = far + (near - far) * hidden[:, None, None]
    rightwards = torch.stack([near[:, 0], moved[:, 0], five[:, 2], near[:, 1], moved[:, 1]], 1)
    leftwards = torch.stack([moved[:, 0], near[:, 0], five[:, 2], moved[:, 1], near[:, 1]], 1)
    five = torch.where(pose[:, :1, None] > 0, rightwards, leftwards)
    error = _POINT_ERROR * torch.randn(batch, 5, 2, generator=generator)
    zoom_error = torch.exp(_SCALE_ERROR * torch.randn(batch, generator=generator))
    shift_error = _SHIFT_ERROR * torch.randn(batch, 2, generator=generator)
    translation = torch.zeros(batch, 3)
    for _ in range(_ALIGNMENT_STEPS):
        pixels, _ = project(five + translation[:, None])
        solution = torch.from_numpy(STANDARD_SOLVER).float() @ (pixels + error)
        centre, scale = solution[:, 3], solution[:, :3].norm(dim=1).mean(1).clamp(min=SMALLEST_SCALE)
        distance = CAMERA_DISTANCE - translation[:, 2]
        per_pixel = distance / FOCAL_LENGTH
        wanted = CROP_SIZE / 2 + shift_error
        shift = (wanted - centre) * per_pixel[:, None]
        nearer = distance * scale / (TARGET_SCALE * zoom_error)
        translation = torch.stack(
            [
                translation[:, 0] + shift[:, 0],
                translation[:, 1] - shift[:, 1],
                CAMERA_DISTANCE - nearer.clamp(CAMERA_DISTANCE / 2, CAMERA_DISTANCE * 2),
            ],
            1,
        )
    return translation
