"""Contact sheet of the built face model: the average face and random skins under a few lights.

python scripts/face_model/preview.py preview.png
"""

import argparse

import numpy as np
import torch
from PIL import Image

from cfr.model.camera import CROP_SIZE
from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.rendering import posed, render_guidance

# White lights as shading of a white sphere: everywhere, and added from above, from the front and from image right.
LIGHTS = ((0.75, 0.10, 0.20, 0.0), (0.65, 0.15, 0.25, 0.25), (0.65, 0.20, 0.25, -0.20), (0.70, 0.05, 0.15, 0.30))
# What a coefficient of one adds in the four bands of `cfr.model.lighting` (first band; y, z, x).
BAND_SCALE = (0.886, -1.772, 1.772, -1.772)
YAWS = (0.0, 0.0, -30.0, 45.0)
COLUMNS = 7


def sheet(model: MorphableModel, seed: int, spread: float) -> Image.Image:
    """Rows: lights and yaws. Columns: the average, then skins from pale to dark with everything else random.

    Args:
        seed: of the random coefficients.
        spread: standard deviation of the random albedo coefficients (1 = as the model says people differ).
    """
    generator = torch.Generator().manual_seed(seed)
    identities, expressions, albedos = model.sizes
    rows = []
    for light, yaw in zip(LIGHTS, YAWS, strict=True):
        albedo = spread * torch.randn(COLUMNS, albedos, generator=generator)
        albedo[:, 0] = torch.linspace(-2.5, 2.5, COLUMNS)
        albedo[0] = 0
        bands = torch.zeros(COLUMNS, 9, 3)
        bands[:, :4] = (torch.tensor(light) / torch.tensor(BAND_SCALE))[None, :, None]
        coefficients = Coefficients(
            identity=0.7 * torch.randn(COLUMNS, identities, generator=generator),
            expression=torch.zeros(COLUMNS, expressions),
            albedo=albedo,
            light=bands,
            pose=torch.tensor([[yaw, 0.0, 0.0]]).expand(COLUMNS, -1),
            translation=torch.zeros(COLUMNS, 3),
        )
        mesh = posed(model, coefficients)
        picture = render_guidance(model, coefficients, mesh, mesh.rasterized(model.triangles, CROP_SIZE))
        rows.append(torch.cat(list(picture), dim=2))
    pixels = (torch.cat(rows, dim=1).permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    return Image.fromarray(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="PNG to write")
    parser.add_argument("--model", help="model file (default: the one in the package)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spread", type=float, default=0.9, help="standard deviation of the albedo coefficients")
    arguments = parser.parse_args()
    model = MorphableModel.load(arguments.model) if arguments.model else MorphableModel.load_default()
    with torch.inference_mode():
        sheet(model, arguments.seed, arguments.spread).save(arguments.output)


if __name__ == "__main__":
    main()
