"""Where a label set puts its 68 points, beside where `ibug.py` puts them: prints its JAW and LABEL_OFFSETS anew.

python scripts/face_model/calibrate_landmarks.py labelled/

The folder holds photos with <stem>.npy, 68x3 iBUG points of the photo in pixels, the third in the same unit and larger
nearer to the viewer (AFLW2000-3D). Every photo is fitted; what is left between labels and fit is brought into the
face's own frame and averaged over photos and mirror images by ridge regression. To tell how far that holds for other
photos, each is also measured with what the rest of them say.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from ibug import LABEL_OFFSETS, MIRRORED

from cfr.model.alignment import apply_affine
from cfr.model.camera import CAMERA_DISTANCE, FOCAL_LENGTH, rotation_matrix
from cfr.model.face_model import MorphableModel
from cfr.model.landmark_metrics import normalised_mean_error, points_box
from cfr.model.photo_fits import Photo, PhotoFit, PhotoFitter
from cfr.pipeline.labelled_photos import find_photos, photo_name, read_photos, read_points

JAW_POINTS = 17
# The point on the other side, of every point.
MIRROR = np.arange(68)
for _point, _partner in MIRRORED:
    MIRROR[[_point, _partner]] = _partner, _point
# A depth says less than a place in the picture: its weight. Offsets are pulled to zero by this many photos that say so.
DEPTH_WEIGHT, RIDGE = 0.2, 2.0
# A residual of this share of the face's size counts half.
OUTLIER = 0.04


def residuals(fit: PhotoFit, model: MorphableModel, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What lies between the fitted points and the labels.

    labels: (68, 3). Returns (68, 3) dm in camera space, the head's rotation (3, 3), and the weight (68,) by size.
    """
    pixels = apply_affine(labels[:, :2], fit.affine)
    scale = np.abs(np.linalg.det(fit.affine.reshape(2, 3)[:, :2])) ** 0.5
    points = model.surface_points(fit.mesh.vertices, model.ibug68_triangles, model.ibug68_barycentric)[0].numpy()
    inner = slice(JAW_POINTS, None)
    unit = (CAMERA_DISTANCE - points[inner, 2].mean()) / FOCAL_LENGTH
    forward = labels[:, 2] * scale * unit
    forward = forward + (points[inner, 2] - forward[inner]).mean()
    distance = CAMERA_DISTANCE - forward
    across = (pixels - 112) * distance[:, None] / FOCAL_LENGTH * [1, -1]
    residual = np.c_[across, forward] - points
    size = np.sqrt(np.ptp(pixels, axis=0).prod()) * unit
    weight = 1 / (1 + (np.linalg.norm(residual[:, :2], axis=1) / size / OUTLIER) ** 2)
    return residual, rotation_matrix(fit.coefficients.pose)[0].numpy(), weight


def solve(measured: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """(68, 3) dm, mirror-symmetric offsets in the face's frame."""
    flip, weights = np.diag([-1.0, 1.0, 1.0]), np.diag([1.0, 1.0, DEPTH_WEIGHT])
    offsets = np.zeros((68, 3))
    for point in range(68):
        ridge = 0.0 if point < JAW_POINTS else RIDGE
        normal, right = (ridge + 1e-6) * np.eye(3), np.zeros(3)
        for residual, rotation, weight in measured:
            for index, turn in ((point, rotation), (MIRROR[point], rotation @ flip)):
                normal += weight[index] * turn.T @ weights @ turn
                right += weight[index] * turn.T @ weights @ residual[index]
        offsets[point] = np.linalg.solve(normal, right)
    return offsets


def corrected_error(fit: PhotoFit, labels: np.ndarray, offsets: np.ndarray) -> float:
    """Normalised mean error (a fraction) with the offsets (68, 3) added to the fitted points."""
    rotation = rotation_matrix(fit.coefficients.pose)[0].numpy()
    scale = np.abs(np.linalg.det(fit.affine.reshape(2, 3)[:, :2])) ** 0.5
    pixels_per_dm = FOCAL_LENGTH / float(fit.mesh.depth.mean()) / scale
    moved = fit.landmarks68 + (offsets @ rotation.T)[:, :2] * [1, -1] * pixels_per_dm
    return float(normalised_mean_error(moved, labels[:, :2]))


def main(words: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    labels, fits, measured = [], [], []
    fitter = PhotoFitter()
    photos = []
    for path, image in read_photos(find_photos([str(arguments.folder)]), {}):
        points = read_points(path.with_suffix(".npy"))
        if points.shape == (68, 3):
            # The files count pixel centres at whole numbers.
            labels.append(np.add(points, (0.5, 0.5, 0)))
            photos.append(Photo(photo_name(path), image, points_box(labels[-1][:, :2])))
    for fit, truth in zip(fitter.fit(photos), labels, strict=True):
        if isinstance(fit, PhotoFit):
            fits.append((fit, truth))
            measured.append(residuals(fit, fitter.model, truth))
    plain = [corrected_error(fit, truth, np.zeros((68, 3))) for fit, truth in fits]
    left_out = [
        corrected_error(fit, truth, solve(measured[:index] + measured[index + 1 :]))
        for index, (fit, truth) in enumerate(fits)
    ]
    print(f"{len(fits)} photos: error {np.mean(plain):.2%} as it is, {np.mean(left_out):.2%} by the others' offsets")
    for (fit, _), before, after in zip(fits, plain, left_out, strict=True):
        print(f"  {fit.photo.name}: yaw {fit.yaw:.0f}, {before:.2%} -> {after:.2%}")
    offsets = solve(measured)
    model = fitter.model
    mean = model.surface_points(model.mean_shape[None], model.ibug68_triangles, model.ibug68_barycentric)[0].numpy()
    jaw = (mean + offsets)[: JAW_POINTS // 2 + 1]
    print("JAW = np.array([" + ", ".join(f"({x:.3f}, {y:.3f}, {z:.3f})" for x, y, z in jaw) + "])")
    print("to add to LABEL_OFFSETS (0.1 mm):")
    print({point: tuple((1000 * offsets[point]).round().astype(int).tolist()) for point in LABEL_OFFSETS})


if __name__ == "__main__":
    main()
