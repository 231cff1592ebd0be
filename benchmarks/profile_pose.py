"""Fitted yaw and landmarks of frontal and profile photos, beside what hand-made labels say.

    python benchmarks/profile_pose.py people/ --count 70

The folders hold one person each, as in Celebrities in Frontal-Profile (CFP): frontal_*.jpg and profile_*.jpg with
<stem>.cfp30.npy, 30 labelled points of the visible half of the face (px, pixel centres at whole numbers). A photo that
is called a profile is not one from exactly the side: the yaw of the labels is that at which the mean face, turned,
scaled and shifted without a change of its shape, comes nearest to them (weak perspective, robust least squares). The
landmark error is the mean distance over the root of the area of the box around all labels.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfr.model.camera import rotation_matrix
from cfr.model.face_model import MorphableModel
from cfr.model.photo_fits import Photo, PhotoFailure, PhotoFitter
from cfr.pipeline.labelled_photos import find_photos, read_photos, read_points

# CFP's point -> iBUG's, of a half face turned towards image right: brow, corner of the eye, nose, mouth. Left out: jaw,
# lids and inner corner of the eye, which are labelled where the outline is.
POINTS = {9: 17, 10: 19, 11: 21, 12: 36, 18: 27, 19: 28, 20: 29, 21: 30, 22: 33, 24: 31, 25: 48, 26: 51, 28: 57}
OUTER_CORNER, NOSE_TIP = list(POINTS).index(12), list(POINTS).index(21)
STEPS, OUTLIER = 300, 0.05


def main() -> None:
    """Fit and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=70, help="photos of each view")
    args = parser.parse_args()
    torch.set_num_threads(1)
    fitter = PhotoFitter()
    titles = ("n", "no face", "yaw, labels", "yaw, fit", "difference", "landmark error")
    print("view      " + "".join(f"{title:>{len(title) + 3}}" for title in titles))
    for view in ("frontal", "profile"):
        found = [path for path in find_photos([args.folder], recursive=True) if path.name.startswith(f"{view}_")]
        chosen = [found[i] for i in np.linspace(0, len(found) - 1, min(args.count, len(found))).round().astype(int)]
        photos = [Photo(str(path), image) for path, image in read_photos(chosen, {})]
        errors, yaws, labels = [], [], []
        for fit in fitter.fit(photos):
            if isinstance(fit, PhotoFailure):
                continue
            labelled = read_points(Path(fit.photo.name).with_suffix(".cfp30.npy")) + 0.5
            truth = labelled[list(POINTS)]
            mirrored = view == "profile" and truth[NOSE_TIP, 0] < truth[OUTER_CORNER, 0]
            points = fit.landmarks68 * ([-1, 1] if mirrored else [1, 1])
            truth = truth * ([-1, 1] if mirrored else [1, 1])
            own = (_mirrored_points(points) if mirrored else points)[list(POINTS.values())]
            errors.append(np.linalg.norm(own - truth, axis=1).mean() / np.sqrt(np.ptp(labelled, axis=0).prod()))
            yaws.append(abs(fit.yaw))
            labels.append(truth)
        told = labelled_yaw(fitter.model, torch.from_numpy(np.stack(labels)).float(), 60.0 * (view == "profile"))
        difference = np.median(np.abs(np.abs(told) - yaws))
        print(
            f"{view:<10}{len(yaws):>4}{len(photos) - len(yaws):>10}{np.median(np.abs(told)):>14.1f}"
            f"{np.median(yaws):>11.1f}{difference:>13.1f}{np.median(errors):>17.2%}"
        )


def labelled_yaw(model: MorphableModel, labels: Tensor, start: float) -> np.ndarray:
    """Yaw (N,) in degrees of labels (N,13,2) in px, from a start in degrees."""
    mean = model.surface_points(model.mean_shape[None], model.ibug68_triangles, model.ibug68_barycentric)[0]
    mean = mean[list(POINTS.values())]
    centred = labels - labels.mean(1, keepdim=True)
    size = centred.norm(dim=-1).mean(1)[:, None, None]
    angles = torch.zeros(len(labels), 3)
    angles[:, 0] = start / 60
    scale, shift = torch.zeros(len(labels), 1, 1), torch.zeros(len(labels), 1, 2)
    free = [value.requires_grad_() for value in (angles, scale, shift)]
    optimizer = torch.optim.Adam(free, lr=0.02)
    unit = mean.norm(dim=-1).mean()
    for _ in range(STEPS):
        turned = (mean - mean.mean(0)) @ rotation_matrix(angles * 60).transpose(1, 2) / unit
        placed = turned[..., :2] * torch.tensor([1.0, -1.0]) * scale.exp() + shift
        distance = (placed - centred / size).pow(2).sum(-1) / OUTLIER**2
        optimizer.zero_grad()
        (distance / (1 + distance / 4)).sum().backward()
        optimizer.step()
    return (angles[:, 0] * 60).detach().numpy()


def _mirrored_points(points: np.ndarray) -> np.ndarray:
    """The 68 points of the mirror image in their own order (68,2)."""
    order = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    order += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1)]
    order += [*range(64, 59, -1), *range(67, 64, -1)]
    return points[order]


if __name__ == "__main__":
    main()
