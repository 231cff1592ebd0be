"""OpenGL, through pyrender, as an independent witness of our rasteriser."""

import os

import numpy as np
import pytest
import torch
import trimesh

from cfr.model.camera import project, rotation_matrix, to_camera_space
from cfr.model.rasterize import rasterize

# pyrender's last release is of 2021; it and what it pulls in use what their own dependencies deprecate today.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

pytest.importorskip("pyrender", reason="pyrender is not installed (make install-pyrender)", exc_type=ImportError)


@pytest.fixture(scope="module")
def draw():
    """`rasterize_with_pyrender`, where it works."""
    from cfr.model.pyrender_backend import PyrenderUnavailable, rasterize_with_pyrender

    try:
        rasterize_with_pyrender(torch.zeros(1, 3, 2), torch.ones(1, 3), torch.tensor([[0, 1, 2]]), 8)
    except PyrenderUnavailable as error:
        pytest.skip(str(error))
    return rasterize_with_pyrender


@pytest.fixture(scope="module")
def mesh():
    """Three balls in a row, one behind the other, at two poses."""
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    vertices = np.concatenate([ball.vertices + k * np.array([0.3, 0.2, -0.5]) for k in range(3)])
    triangles = np.concatenate([ball.faces + k * len(ball.vertices) for k in range(3)])
    poses = torch.tensor([[0.0, 0.0, 0.0], [50.0, -20.0, 10.0]])
    points = torch.tensor(vertices, dtype=torch.float32).expand(2, -1, -1)
    return *project(to_camera_space(points, rotation_matrix(poses), torch.zeros(2, 3))), torch.tensor(triangles)


def assert_same_picture(ours, theirs, share):
    either = ours.covered | theirs.covered
    assert either.float().mean() > 0.05
    assert (ours.triangle_id == theirs.triangle_id)[either].float().mean() >= share
    both = ours.covered & theirs.covered
    assert (ours.depth - theirs.depth)[both].abs().quantile(0.999) < 0.02


@pytest.mark.parametrize("cull_back_faces", [True, False])
@pytest.mark.parametrize("size", [224, 300])
def test_shows_the_triangles_that_our_rasteriser_shows(draw, mesh, size, cull_back_faces):
    # OpenGL snaps vertices to 1/256 pixel here, so the few pixel centres that lie closer to an edge may differ.
    assert_same_picture(rasterize(*mesh, size, cull_back_faces), draw(*mesh, size, cull_back_faces), 0.99)


def test_shows_the_reference_face_as_our_rasteriser_does(draw, shared_dir):
    face = np.load(shared_dir / "fixtures" / "standin_face_model.npz")
    shape = torch.from_numpy(np.load(shared_dir / "fixtures" / "reconstruction.npz")["face_shape"])
    triangles = torch.from_numpy(face["tri"].astype(np.int64))
    assert_same_picture(rasterize(*project(shape), triangles, 224), draw(*project(shape), triangles, 224), 0.997)


def test_unusable_vertices_cost_only_their_own_triangles(draw):
    pixels = torch.tensor([[[5.0, 5.0], [5.0, 30.0], [30.0, 30.0], [float("nan"), 20.0], [28.0, 4.0]]])
    depth = torch.tensor([[10.0, 10.0, 10.0, 10.0, -1.0]])
    triangles = torch.tensor([[0, 2, 3], [0, 2, 4], [0, 1, 2]])
    assert set(draw(pixels, depth, triangles, 32).triangle_id.unique().tolist()) == {-1, 2}
    assert not draw(pixels, depth, triangles[:2], 32).covered.any()


def test_a_forked_process_is_refused_instead_of_hanging(draw, mesh):
    from cfr.model.pyrender_backend import PyrenderUnavailable

    child = os.fork()
    if child == 0:
        status = 1
        try:
            draw(*mesh, 32)
        except PyrenderUnavailable:
            status = 7
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
