"""What fitted coefficients say of a face's skin tone and of the light on it, in numbers that people can read."""

import numpy as np
import torch
from torch import Tensor

from cfr.model.face_model import MorphableModel
from cfr.model.lighting import shade

# Individual typology angle in degrees: lower bounds of the groups (Chardon et al. 1991, Del Bino et al. 2006).
TONE_GROUPS = {"very light": 55.0, "light": 41.0, "intermediate": 28.0, "tan": 10.0, "brown": -30.0, "dark": -np.inf}

# D65 white; linear sRGB to CIE XYZ (IEC 61966-2-1).
_WHITE = (0.95047, 1.0, 1.08883)
_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))


def typology_angle(colour: Tensor) -> Tensor:
    """Individual typology angle of skin colours: arctan((L* - 50) / b*), CIE L*a*b* under D65.

    Args:
        colour: (..., 3) RGB 0..1, sRGB-encoded.

    Returns:
        (...) degrees; large is light, below -30 dark.
    """
    linear = torch.where(colour <= 0.04045, colour / 12.92, ((colour.clamp(min=0) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ linear.new_tensor(_TO_XYZ).T / linear.new_tensor(_WHITE)
    f = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=1e-9) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    lightness, b = 116 * f[..., 1] - 16, 200 * (f[..., 1] - f[..., 2])
    return torch.rad2deg(torch.atan2(lightness - 50, b.clamp(min=1e-6)))


def tone_group(angle: float) -> str:
    """Name of the group of `TONE_GROUPS` that a typology angle belongs to."""
    return next(name for name, lowest in TONE_GROUPS.items() if angle > lowest)


def skin_colour(model: MorphableModel, albedo: Tensor) -> Tensor:
    """Mean fitted albedo (B,3) of the skin, RGB sRGB-encoded, for albedo coefficients (B,A).

    Albedo and light are fitted to one photo together: a dim photo of light skin and a bright one of dark skin may come
    out alike. It describes sets of photos, never persons.
    """
    chosen = model.region == model.region_names.index("skin")
    basis = model.log_albedo_basis[:, chosen]
    log_albedo = model.log_albedo_mean[chosen] + torch.tensordot(albedo, basis, dims=1)
    return log_albedo.exp().mean(1)


def light_on_face(light: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Brightness and main direction of the fitted light.

    Args:
        light: (B,9,3) as in `cfr.model.lighting`.

    Returns:
        Brightness (B,): light that reaches a surface that faces the camera, mean of the colours, 1 is full white.
        Azimuth (B,), elevation (B,) degrees of the linear band: azimuth > 0 comes from image right, elevation > 0 from
        above; both are 0 for light from the camera.
    """
    normal = light.new_tensor([0.0, 0.0, 1.0]).expand(len(light), 1, 3)
    brightness = shade(normal, light)[:, 0].mean(-1)
    y, z, x = (sign * light[:, band].mean(-1) for sign, band in ((-1, 1), (1, 2), (-1, 3)))
    azimuth = torch.rad2deg(torch.atan2(x, z))
    elevation = torch.rad2deg(torch.atan2(y, torch.hypot(x, z)))
    return brightness, azimuth, elevation
