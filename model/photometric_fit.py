"""Albedo and spherical-harmonic light from the photo's colours, with whatever covers the face as an outlier.

Maximum a posteriori under: photo = albedo(c) * light(normal) with albedo = exp(mean + basis c), c ~ N(0, 1); light with
a Gaussian prior that is narrow in colour and in its second band; Student-t noise on log colours, split into luminance
(wide: shadows) and chroma (narrow). Light and albedo are solved in turn, each a small linear system.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.lighting import spherical_harmonics
from cfr.model.rasterize import GBuffer, depth_test, sample_image
from cfr.model.rendering import PosedMesh

SAMPLES = 4000
ITERATIONS = 8
# Regions whose colour says nothing reliable about skin and light (cavities, hair over the border).
UNUSED_REGIONS = ("mouth_interior", "teeth", "tongue", "nostrils", "ears", "neck", "border", "scalp")
TONE_COEFFICIENTS = 2
STUDENT_FREEDOM = 3.0
LUMINANCE_DEVIATION = 0.16
CHROMA_DEVIATION = 0.06
# Neighbouring samples err together (shadows, missing detail): all samples count as this many independent ones.
INDEPENDENT_SAMPLES = 700.0
DARKEST = 0.015
# First band of the basis: its value for a light coefficient of one (fixtures' a0 * c0).
FIRST_BAND = math.pi / math.sqrt(4 * math.pi)
LIGHT_LUMINANCE_DEVIATION = (0.35, 0.4, 0.4, 0.4, 0.12, 0.12, 0.12, 0.12, 0.12)
LIGHT_CHROMA_DEVIATION = (0.07, 0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.02, 0.02)
LIGHT_NOISE = 0.10
DARKEST_SHADING = 0.06
START_MEDIAN_DEVIATION = 0.06
# Orthonormal: luminance, then two chroma axes.
OPPONENT = torch.tensor(
    [
        [1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)],
        [1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)],
        [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
    ]
)


def _start_regions(points: Tensor) -> Tensor:
    """Overlapping parts of the face from which a start is estimated: (R,S) bool for sample points (S,3)."""
    x, y = points[:, 0], points[:, 1]
    low, high = torch.quantile(y, 0.3), torch.quantile(y, 0.7)
    left, right = torch.quantile(x, 0.3), torch.quantile(x, 0.7)
    middle = (x > left) & (x < right)
    return torch.stack(
        [
            torch.ones_like(middle),
            y > high,
            (x < left) & (y < high),
            (x > right) & (y < high),
            middle & (y > low) & (y < high),
            y < low,
        ]
    )


def _median(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted median over dim 1 of values (B,S,3) with weight (B,S)."""
    ordered, order = values.sort(dim=1)
    cumulative = weight[..., None].expand_as(values).gather(1, order).cumsum(1)
    index = (cumulative < cumulative[:, -1:] / 2).sum(1, keepdim=True).clamp(max=values.shape[1] - 1)
    return ordered.gather(1, index)[:, 0]


class PhotometricFitter:
    """Keeps the albedo basis at a fixed subset of vertices.

    Args:
        model: its first `TONE_COEFFICIENTS` albedo coefficients are skin tone.
    """

    def __init__(self, model: MorphableModel):
        device = model.mean_shape.device
        unused = [model.region_names.index(name) for name in UNUSED_REGIONS if name in model.region_names]
        usable = torch.nonzero(~torch.isin(model.region, torch.tensor(unused, device=device)))[:, 0]
        order = torch.randperm(len(usable), generator=torch.Generator().manual_seed(0)).to(device)
        self.vertices = usable[order[:SAMPLES]].sort().values
        self.mean = model.log_albedo_mean[self.vertices]
        self.basis = model.log_albedo_basis[:, self.vertices].permute(1, 2, 0).contiguous()
        self.opponent = OPPONENT.to(device)
        self.opponent_basis = torch.einsum("oc,sck->sok", self.opponent, self.basis).flatten(0, 1).contiguous()
        self.regions = _start_regions(model.mean_shape[self.vertices])
        deviation = torch.tensor([LIGHT_LUMINANCE_DEVIATION, LIGHT_CHROMA_DEVIATION, LIGHT_CHROMA_DEVIATION])
        precision = torch.einsum("oc,od,ok->kcd", OPPONENT, OPPONENT, deviation.pow(-2))
        # (27,27) in the order colour * 9 + band.
        self.light_precision = torch.einsum("kcd,kl->ckdl", precision, torch.eye(9)).reshape(27, 27).to(device)
        self.light_mean = torch.zeros(27, device=device)
        self.light_mean[::9] = 1 / FIRST_BAND

    def fit(self, photo: Tensor, mesh: PosedMesh, gbuffer: GBuffer, covered: Tensor | None) -> tuple[Tensor, Tensor]:
        """Fit a mini-batch.

        Args:
            photo: (B,3,H,W) RGB 0..1.
            mesh, gbuffer: the fitted mesh in the photo.
            covered: (B,H,W) bool, pixels known to show something else than the face, or None.

        Returns:
            albedo coefficients (B,A) and light (B,9,3).
        """
        colour, weight, harmonics = self._samples(photo, mesh, gbuffer, covered)
        log_colour = colour.clamp(min=DARKEST).log()
        # Log noise grows in the dark.
        weight = weight * (colour / (colour + 0.06)).prod(-1)
        albedo, light = self._start(log_colour - self.mean, weight)
        for iteration in range(ITERATIONS):
            widen = max(1.0, 2.5 - 0.5 * iteration)
            shading = torch.einsum("bsk,bck->bsc", harmonics, light.unflatten(1, (3, 9))).clamp(min=DARKEST_SHADING)
            log_albedo = self.mean + torch.einsum("sck,bk->bsc", self.basis, albedo)
            robust = self._robust_weight(log_colour - log_albedo - shading.log(), widen) * weight
            light = self._solve_light(colour, log_albedo.exp(), harmonics, robust)
            shading = torch.einsum("bsk,bck->bsc", harmonics, light.unflatten(1, (3, 9))).clamp(min=DARKEST_SHADING)
            residual = log_colour - self.mean - shading.log()
            robust = self._robust_weight(residual - log_albedo + self.mean, widen) * weight
            albedo = self._solve_albedo(residual, robust)
        return albedo, light.unflatten(1, (3, 9)).transpose(1, 2)

    def _samples(
        self, photo: Tensor, mesh: PosedMesh, gbuffer: GBuffer, covered: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Photo colour (B,S,3), weight (B,S) and light basis (B,S,9) at the sample vertices."""
        pixels = mesh.pixels[:, self.vertices][:, :, None]
        depth = mesh.depth[:, self.vertices][:, :, None]
        normals = mesh.normals[:, self.vertices]
        visible = depth_test(gbuffer, pixels, depth)[..., 0]
        # As wide as the distance between vertices, so that a sample stands for its surroundings.
        smooth = F.avg_pool2d(photo, 3, stride=1, padding=1, count_include_pad=False)
        colour = sample_image(smooth, pixels)[..., 0].transpose(1, 2)
        weight = visible * (normals[..., 2].clamp(0, 1) / 0.4).clamp(max=1)
        inside = (pixels >= 1).all(-1) & (pixels <= photo.shape[-1] - 1).all(-1)
        weight = weight * inside[..., 0]
        if covered is not None:
            weight = weight * (1 - sample_image(covered[:, None].float(), pixels)[:, 0, :, 0])
        return colour, weight, spherical_harmonics(normals)

    def _robust_weight(self, residual: Tensor, widen: float) -> Tensor:
        """Student-t weights (B,S) of log-colour residuals (B,S,3)."""
        distance = self._squared_distance(residual, widen)
        return (STUDENT_FREEDOM + 3) / (STUDENT_FREEDOM + distance)

    def _squared_distance(self, residual: Tensor, widen: float) -> Tensor:
        opponent = residual @ self.opponent.T
        scale = residual.new_tensor([LUMINANCE_DEVIATION, CHROMA_DEVIATION, CHROMA_DEVIATION]) * widen
        return (opponent / scale).pow(2).sum(-1)

    def _start(self, offset: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Best of several starts, one for each part of the face: a part that is covered gives a bad one.

        Args:
            offset: (B,S,3) log colour minus log mean albedo.
            weight: (B,S).

        Returns:
            albedo coefficients (B,A) with only the tone set, light (B,27) with only the first band set.
        """
        basis = self.basis[..., :TONE_COEFFICIENTS]
        tone = basis.mean(0)
        grey = torch.tensor([LIGHT_LUMINANCE_DEVIATION[0], LIGHT_CHROMA_DEVIATION[0], LIGHT_CHROMA_DEVIATION[0]])
        light_covariance = self.opponent.T @ torch.diag(grey.to(tone).pow(2)) @ self.opponent
        covariance = tone @ tone.T + light_covariance
        noisy = covariance + START_MEDIAN_DEVIATION**2 * torch.eye(3).to(tone)
        inverse = torch.linalg.inv(noisy)
        scores, offsets = [], []
        for region in self.regions:
            in_region = weight * region
            median = _median(offset, in_region + 1e-6)
            estimate = median @ (covariance @ inverse).T
            distance = self._squared_distance(offset - estimate[:, None], widen=2.0)
            likelihood = -0.5 * (STUDENT_FREEDOM + 3) * (1 + distance / STUDENT_FREEDOM).log()
            share = in_region.sum(1) / (region.sum() + 1e-6)
            mean_likelihood = (likelihood * weight).sum(1) / weight.sum(1).clamp(min=1)
            prior = -0.5 * torch.einsum("bi,ij,bj->b", median, inverse, median)
            # A part that is hidden from the camera cannot speak for the face.
            scores.append(mean_likelihood * 20 + prior - 10 * (share < 0.05))
            offsets.append(median @ inverse.T)
        best = torch.stack(scores).argmax(0)
        chosen = torch.stack(offsets)[best, torch.arange(len(best), device=best.device)]
        albedo = torch.zeros(len(offset), self.basis.shape[-1], device=offset.device)
        albedo[:, :TONE_COEFFICIENTS] = chosen @ tone
        light = torch.zeros(len(offset), 27, device=offset.device)
        light[:, ::9] = (chosen @ light_covariance).exp() / FIRST_BAND
        return albedo, light

    def _solve_light(self, colour: Tensor, albedo: Tensor, harmonics: Tensor, weight: Tensor) -> Tensor:
        """Light (B,27) in the order colour * 9 + band."""
        scale = weight * (INDEPENDENT_SAMPLES / len(self.vertices) / LIGHT_NOISE**2)
        # Divided by the albedo's own brightness: dark skin is lit as strongly as pale skin.
        relative = albedo.mean(-1, keepdim=True).clamp(min=0.05)
        scaled = (albedo / relative)[..., None] * harmonics[:, :, None]
        target = colour / relative
        scaled, target = scaled.transpose(1, 2), target.transpose(1, 2)
        weighted = scaled * scale[:, None, :, None]
        blocks = weighted.transpose(2, 3) @ scaled
        normal = self.light_precision.repeat(len(colour), 1, 1)
        for channel in range(3):
            part = slice(channel * 9, channel * 9 + 9)
            normal[:, part, part] += blocks[:, channel]
        right = (weighted.transpose(2, 3) @ target[..., None])[..., 0].flatten(1) + self.light_precision @ self.light_mean
        return torch.linalg.solve(normal, right)

    def _solve_albedo(self, residual: Tensor, weight: Tensor) -> Tensor:
        """Albedo coefficients (B,A) from log-colour residuals (B,S,3) around the mean."""
        deviation = residual.new_tensor([LUMINANCE_DEVIATION, CHROMA_DEVIATION, CHROMA_DEVIATION])
        scale = weight * (INDEPENDENT_SAMPLES / len(self.vertices))
        row_weight = (scale[..., None] / deviation.pow(2)).flatten(1)
        opponent = (residual @ self.opponent.T).flatten(1)
        weighted = self.opponent_basis * row_weight[..., None]
        normal = weighted.transpose(1, 2) @ self.opponent_basis
        normal = normal + torch.eye(normal.shape[-1], device=normal.device)
        right = torch.einsum("bsk,bs->bk", weighted, opponent)
        return torch.linalg.solve(normal, right)
