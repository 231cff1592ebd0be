"""Albedo and spherical-harmonic light from the photo's colours, with whatever covers the face as an outlier.

Maximum a posteriori under: photo = albedo(c) * light(normal) with albedo = exp(mean + basis c), c ~ N(0, 1); light with
a Gaussian prior that is narrow in colour and in its second band; robust (Geman-McClure) noise on log colours, split
into luminance (wide: shadows) and chroma (narrow). Light and albedo are solved in turn, each a small linear system.

`PhotometricFitter.start` fits skin tone, features and light from several parts of the face at once and keeps the
best: a start on a mask explains the mask, so the parts of the face that are seldom covered decide. `refine` frees the
smooth variations of the skin, which would soak up an occluder, only once the occluder is known.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.lighting import spherical_harmonics
from cfr.model.morphology import dilate
from cfr.model.rasterize import GBuffer, depth_test, sample_image
from cfr.model.rendering import PosedMesh

SAMPLES = 2600
START_SAMPLES = 700
START_ITERATIONS = 5
REFINE_ITERATIONS = 5
# Regions whose colour says nothing reliable about skin and light (cavities, hair over the border).
UNUSED_REGIONS = ("mouth_interior", "teeth", "tongue", "nostrils", "ears", "neck", "border", "scalp")
# Squared distance (in deviations) at which a sample counts as an outlier: Geman-McClure, which lets go of it entirely.
# Once the occluder is known, what differs is light and skin, which the second fit is to follow.
START_OUTLIER_DISTANCE = 6.0
REFINE_OUTLIER_DISTANCE = 15.0
LUMINANCE_DEVIATION = 0.16
CHROMA_DEVIATION = 0.06
# Neighbouring samples err together (shadows, missing detail): all samples count as this many independent ones. Fewer
# as long as an occluder, which is one thing however many samples it covers, may be among them.
START_INDEPENDENT = 60.0
CHOICE_INDEPENDENT = 30.0
FACEMESH_MIDDLE_OF_NOSE = 195
REFINE_INDEPENDENT = 300.0
# How much harder than at the start the second fit is held, and to the start's result: a rest of the occluder that was
# not found must not win it over.
REFINE_STIFFNESS = 2.0
COVERED_MARGIN = 9
DARKEST = 0.015
CLIPPED_MARGIN = 0.05
# First band of the basis: its value for a light coefficient of one (fixtures' a0 * c0).
FIRST_BAND = math.pi / math.sqrt(4 * math.pi)
# Order of the bands: constant, y, z, x, xy, yz, zz, xz, xx-yy. Light seldom comes from below.
LIGHT_LUMINANCE_DEVIATION = (0.35, 0.25, 0.35, 0.35, 0.1, 0.1, 0.1, 0.1, 0.1)
LIGHT_CHROMA_DEVIATION = (0.12, 0.03, 0.03, 0.03, 0.02, 0.02, 0.02, 0.02, 0.02)
LIGHT_NOISE = 0.10
DARKEST_SHADING = 0.06
START_MEDIAN_DEVIATION = 0.05
# Orthonormal: luminance, then two chroma axes.
OPPONENT = torch.tensor(
    [
        [1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)],
        [1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)],
        [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
    ]
)


@dataclass(frozen=True)
class ColourSamples:
    """A mini-batch's photo at the sample vertices.

    colour (B,S,3) RGB 0..1; weight (B,S), 0 where hidden; harmonics (B,S,9), the light basis; pixels (B,S,1,2).
    """

    colour: Tensor
    weight: Tensor
    harmonics: Tensor
    pixels: Tensor

    def log_colour(self) -> Tensor:
        """(B,S,3), clamped where the logarithm has no meaning."""
        return self.colour.clamp(min=DARKEST).log()

    def taken(self, samples: Tensor, starts: int) -> "ColourSamples":
        """These samples only, the mini-batch repeated `starts` times (start-major)."""
        parts = (self.colour[:, samples], self.weight[:, samples], self.harmonics[:, samples], self.pixels[:, samples])
        return ColourSamples(*(part.repeat(starts, *[1] * (part.dim() - 1)) for part in parts))


@dataclass(frozen=True)
class _Prior:
    """What a fit is drawn to.

    albedo (B,A), light (B,27) or (27,): the means; stiffness multiplies the inverse variances of light, tone and
    features; independent: how many independent samples the photo counts as; outlier_distance: squared distance from
    which a sample is let go; free: how many albedo coefficients move, the others are 0.
    """

    albedo: Tensor
    light: Tensor
    stiffness: float
    independent: float
    outlier_distance: float
    free: int


def _weighted_median(values: Tensor, weight: Tensor) -> Tensor:
    """(B,3): weighted median over dim 1 of values (B,S,3) with weight (B,S)."""
    ordered, order = values.sort(dim=1)
    cumulative = weight[..., None].expand_as(values).gather(1, order).cumsum(1)
    index = (cumulative < cumulative[:, -1:] / 2).sum(1, keepdim=True).clamp(max=values.shape[1] - 1)
    return ordered.gather(1, index)[:, 0]


def _shading(samples: ColourSamples, light: Tensor) -> Tensor:
    """(B,S,3) for light (B,27) in the order colour * 9 + band."""
    return (samples.harmonics @ light.unflatten(1, (3, 9)).transpose(1, 2)).clamp(min=DARKEST_SHADING)


class PhotometricFitter:
    """Keeps the albedo basis at a fixed subset of vertices.

    Args:
        model: its albedo coefficients are ordered tone, features, smooth fields (`albedo_parts`).
    """

    def __init__(self, model: MorphableModel):
        device = model.mean_shape.device
        area = _vertex_area(model)
        unused = [model.region_names.index(name) for name in UNUSED_REGIONS if name in model.region_names]
        usable = ~torch.isin(model.region.cpu(), torch.tensor(unused))
        # Between one sample per area and one per vertex: eyes and brows are small, but full of detail.
        density = (area.sqrt() * usable).double()
        chosen = torch.multinomial(density, SAMPLES, generator=torch.Generator().manual_seed(0))
        self.vertices = chosen.sort().values.to(device)
        weight = (area / density.clamp(min=1e-12))[self.vertices.cpu()].float()
        self.area_weight = (weight / weight.mean()).to(device)
        self.start_subset = torch.arange(0, SAMPLES, SAMPLES // START_SAMPLES, device=device)
        self.tone_size, self.feature_end = model.albedo_parts
        self.mean = model.log_albedo_mean[self.vertices]
        self.basis = model.log_albedo_basis[:, self.vertices].permute(1, 2, 0).contiguous()
        self.opponent = OPPONENT.to(device)
        self.opponent_basis = torch.einsum("oc,sck->sok", self.opponent, self.basis).contiguous()
        points = model.mean_shape[self.vertices]
        landmarks = model.surface_points(model.mean_shape[None], model.facemesh_triangles, model.facemesh_barycentric)
        middle_of_nose = float(landmarks[0, FACEMESH_MIDDLE_OF_NOSE, 1])
        self.regions, self.reliability = _start_regions(points[self.start_subset], middle_of_nose)
        deviation = torch.tensor([LIGHT_LUMINANCE_DEVIATION, LIGHT_CHROMA_DEVIATION, LIGHT_CHROMA_DEVIATION])
        precision = torch.einsum("oc,od,ok->kcd", OPPONENT, OPPONENT, deviation.pow(-2))
        self.light_precision = torch.einsum("kcd,kl->ckdl", precision, torch.eye(9)).reshape(27, 27).to(device)
        self.light_mean = torch.zeros(27, device=device)
        self.light_mean[::9] = 1 / FIRST_BAND

    def sample(self, photo: Tensor, mesh: PosedMesh, gbuffer: GBuffer) -> ColourSamples:
        """Look the photo (B,3,H,W) up at the sample vertices; mesh and gbuffer as they stand in the photo."""
        pixels = mesh.pixels[:, self.vertices][:, :, None]
        normals = mesh.normals[:, self.vertices]
        visible = depth_test(gbuffer, pixels, mesh.depth[:, self.vertices][:, :, None])[..., 0]
        # As wide as the distance between vertices, so that a sample stands for its surroundings.
        smooth = F.avg_pool2d(photo, 3, stride=1, padding=1, count_include_pad=False)
        colour = sample_image(smooth, pixels)[..., 0].transpose(1, 2).contiguous()
        inside = ((pixels >= 1) & (pixels <= photo.shape[-1] - 1)).all(-1)[..., 0]
        weight = self.area_weight * visible * inside * (normals[..., 2].clamp(0, 1) / 0.4).clamp(max=1)
        # Log noise grows in the dark; pure black is the outside of the photo more often than skin.
        weight = weight * (colour / (colour + 0.04)).prod(-1)
        # Where even the darkest channel is clipped, the photo has no colour left to fit.
        weight = weight * ((1 - colour.amin(-1)) / CLIPPED_MARGIN).clamp(0, 1)
        return ColourSamples(colour, weight, spherical_harmonics(normals), pixels)

    def start(self, samples: ColourSamples) -> tuple[Tensor, Tensor]:
        """Tone, features and light, from the best of several starts.

        Returns:
            albedo coefficients (B,A), smooth fields at 0, and light (B,27) in the order colour * 9 + band.
        """
        batch, starts = len(samples.colour), len(self.regions)
        albedo, light = self._region_starts(samples)
        few = samples.taken(self.start_subset, starts)
        few = replace(few, weight=few.weight * self.reliability)
        wide = _Prior(
            torch.zeros_like(albedo), self.light_mean, 1.0, START_INDEPENDENT, START_OUTLIER_DISTANCE, self.feature_end
        )
        for iteration in range(START_ITERATIONS):
            widen = 1.5 if iteration < 2 else 1.0
            albedo, light = self._iterate(few, albedo, light, wide, widen, self.start_subset)
        distance = self._squared_distance(self._residual(few, albedo, light, self.start_subset), 1.0)
        loss = 0.5 * distance / (1 + distance / START_OUTLIER_DISTANCE)
        data = CHOICE_INDEPENDENT * (loss * few.weight).sum(1) / few.weight.sum(1).clamp(min=1e-6)
        off = light - self.light_mean
        prior = 0.5 * albedo.pow(2).sum(1) + 0.5 * (off @ self.light_precision * off).sum(1)
        best = (data + prior).unflatten(0, (starts, batch)).argmin(0)
        pick = best * batch + torch.arange(batch, device=best.device)
        return albedo[pick], light[pick]

    def refine(self, samples: ColourSamples, albedo: Tensor, light: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
        """All albedo coefficients and light, without the covered pixels.

        Args:
            samples: from `sample`.
            albedo, light: from `start`.
            covered: (B,H,W) bool, pixels known to show something else than the face.

        Returns:
            albedo coefficients (B,A) and light (B,27).
        """
        wide = dilate(covered, COVERED_MARGIN)[:, None].float()
        hidden = sample_image(wide, samples.pixels)[:, 0, :, 0]
        seen = replace(samples, weight=samples.weight * (1 - hidden))
        tied = _Prior(
            albedo, light, REFINE_STIFFNESS, REFINE_INDEPENDENT, REFINE_OUTLIER_DISTANCE, self.basis.shape[-1]
        )
        for _ in range(REFINE_ITERATIONS):
            albedo, light = self._iterate(seen, albedo, light, tied, 1.0, slice(None))
        return albedo, light

    def _region_starts(self, samples: ColourSamples) -> tuple[Tensor, Tensor]:
        """Tone and light level that explain the median colour of each part of the face: (R*B,A) and (R*B,27)."""
        subset = self.start_subset
        offset = samples.log_colour()[:, subset] - self.mean[subset]
        tone = self.basis[subset, :, : self.tone_size].mean(0)
        luminance, chroma = LIGHT_LUMINANCE_DEVIATION[0], LIGHT_CHROMA_DEVIATION[0]
        level = self.opponent.new_tensor([luminance, chroma, chroma])
        light_covariance = self.opponent.T @ torch.diag(level.pow(2)) @ self.opponent
        noise = START_MEDIAN_DEVIATION**2 * torch.eye(3, device=tone.device)
        inverse = torch.linalg.inv(tone @ tone.T + light_covariance + noise)
        medians = [_weighted_median(offset, samples.weight[:, subset] * region + 1e-6) for region in self.regions]
        explained = torch.cat(medians) @ inverse
        albedo = torch.zeros(len(explained), self.basis.shape[-1], device=offset.device)
        albedo[:, : self.tone_size] = explained @ tone
        light = torch.zeros(len(explained), 27, device=offset.device)
        light[:, ::9] = (explained @ light_covariance).exp() / FIRST_BAND
        return albedo, light

    def _iterate(
        self, samples: ColourSamples, albedo: Tensor, light: Tensor, prior: _Prior, widen: float, subset: Tensor | slice
    ) -> tuple[Tensor, Tensor]:
        """One round of light, then albedo."""
        residual = self._residual(samples, albedo, light, subset)
        robust = self._robust_weight(residual, widen, prior.outlier_distance) * samples.weight
        share = prior.independent / len(self.mean[subset])
        log_albedo = self._log_albedo(albedo, subset)
        light = self._solve_light(samples, log_albedo.exp(), robust * share, prior)
        shaded = samples.log_colour() - self.mean[subset] - _shading(samples, light).log()
        robust = self._robust_weight(shaded + self.mean[subset] - log_albedo, widen, prior.outlier_distance)
        robust = robust * samples.weight
        return self._solve_albedo(shaded, robust * share, prior, subset), light

    def _log_albedo(self, albedo: Tensor, subset: Tensor | slice) -> Tensor:
        return self.mean[subset] + (self.basis[subset].flatten(0, 1) @ albedo.T).T.unflatten(1, (-1, 3))

    def _residual(self, samples: ColourSamples, albedo: Tensor, light: Tensor, subset: Tensor | slice) -> Tensor:
        return samples.log_colour() - self._log_albedo(albedo, subset) - _shading(samples, light).log()

    def _robust_weight(self, residual: Tensor, widen: float, outlier_distance: float) -> Tensor:
        """Geman-McClure weights (B,S) of log-colour residuals (B,S,3)."""
        return (1 + self._squared_distance(residual, widen) / outlier_distance).pow(-2)

    def _squared_distance(self, residual: Tensor, widen: float) -> Tensor:
        scale = residual.new_tensor([LUMINANCE_DEVIATION, CHROMA_DEVIATION, CHROMA_DEVIATION]) * widen
        return (residual @ self.opponent.T / scale).pow(2).sum(-1)

    def _solve_light(self, samples: ColourSamples, albedo: Tensor, weight: Tensor, prior: _Prior) -> Tensor:
        """Light (B,27) in the order colour * 9 + band."""
        # Divided by the albedo's own brightness: dark skin is lit as strongly as pale skin.
        relative = albedo.mean(-1, keepdim=True).clamp(min=0.05)
        scaled = ((albedo / relative)[..., None] * samples.harmonics[:, :, None]).transpose(1, 2)
        target = (samples.colour / relative).transpose(1, 2)
        weighted = scaled * (weight / LIGHT_NOISE**2)[:, None, :, None]
        blocks = weighted.transpose(2, 3) @ scaled
        precision = self.light_precision * prior.stiffness
        normal = precision.repeat(len(albedo), 1, 1)
        for channel in range(3):
            part = slice(channel * 9, channel * 9 + 9)
            normal[:, part, part] += blocks[:, channel]
        right = (weighted.transpose(2, 3) @ target[..., None])[..., 0].flatten(1)
        return torch.linalg.solve(normal, right + prior.light @ precision)

    def _solve_albedo(self, residual: Tensor, weight: Tensor, prior: _Prior, subset: Tensor | slice) -> Tensor:
        """Albedo coefficients (B,A) from log-colour residuals (B,S,3) around the mean."""
        deviation = residual.new_tensor([LUMINANCE_DEVIATION, CHROMA_DEVIATION, CHROMA_DEVIATION])
        row_weight = (weight[..., None] / deviation.pow(2)).flatten(1)
        free = prior.free
        basis = self.opponent_basis[subset][..., :free].flatten(0, 1)
        weighted = basis * row_weight[..., None]
        # The smooth fields are new in the second fit: only what has been fitted before is tied to it.
        precision = torch.ones(free, device=basis.device)
        precision[: self.feature_end] = prior.stiffness
        normal = weighted.transpose(1, 2) @ basis + torch.diag(precision)
        right = (weighted.transpose(1, 2) @ (residual @ self.opponent.T).flatten(1)[..., None])[..., 0]
        solution = torch.linalg.solve(normal, right + prior.albedo[:, :free] * precision)
        return F.pad(solution, (0, self.basis.shape[-1] - free))


def _vertex_area(model: MorphableModel) -> Tensor:
    """(V,) float32 on the CPU: a third of the adjacent triangles' area on the mean face."""
    corners = model.mean_shape.cpu()[model.triangles.cpu()]
    doubled = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
    area = torch.zeros(len(model.mean_shape))
    return area.index_add_(0, model.triangles.cpu().flatten(), (doubled / 6).repeat_interleave(3))


def _start_regions(points: Tensor, middle_of_nose: float) -> tuple[Tensor, Tensor]:
    """Parts of the face to start from, and how much each point has to say about which start is right.

    Args:
        points: (S,3) of the mean face.
        middle_of_nose: y of the middle of the nose's bridge.

    Returns:
        (R,S) bool, overlapping parts; (S,) weights 0..1. Medical masks are by far the most common thing that covers
        half a face, hair and hats come next: so the band of eyes and upper cheeks decides. Without an occluder all
        starts end alike, and the weights do not matter.
    """
    x, y = points[:, 0], points[:, 1]
    low, high = torch.quantile(y, 0.35), torch.quantile(y, 0.7)
    left, right = torch.quantile(x, 0.3), torch.quantile(x, 0.7)
    middle = (x > left) & (x < right)
    parts = [
        torch.ones_like(middle),
        y > high,
        (x < left) & (y < high) & (y > low),
        (x > right) & (y < high) & (y > low),
        middle & (y > low) & (y < high),
        y < low,
    ]
    reliability = torch.where(y < middle_of_nose, 0.1, torch.where(y > torch.quantile(y, 0.85), 0.4, 1.0))
    return torch.stack(parts), reliability
