"""The rasteriser against a brute-force reference, its watertightness, and what it leaves out."""

import numpy as np
import pytest
import torch
import trimesh

from cfr.model.camera import project, rotation_matrix, to_camera_space, unproject
from cfr.model.rasterize import interpolate, rasterize, reproject, sample_image

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=DEVICES)
def device(request) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param


def sphere(subdivisions: int, radius: float = 0.9) -> tuple[torch.Tensor, torch.Tensor]:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces, dtype=torch.int64)


def triangle_soup(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Triangles of all sizes, slivers too, in all directions and depths, partly outside a frame of 64 pixels."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 1, 2, generator=generator) * 80 - 8
    extent = 10 ** (torch.rand(count, 1, 1, generator=generator) * 2.5 - 0.7)
    pixels = (centre + torch.randn(count, 3, 2, generator=generator) * extent).view(1, -1, 2)
    depth = (5 + 10 * torch.rand(1, 3 * count, generator=generator)).float()
    return pixels, depth, torch.arange(3 * count).view(count, 3)


def brute_force(pixels, depth, triangles, size: int, cull_back_faces: bool):
    """Every triangle against every pixel of its bounding box, float64: triangle ids, barycentrics and depth."""
    pixels, depth = pixels.double().numpy(), depth.double().numpy()
    ids = np.full((size, size), -1)
    nearest = np.full((size, size), np.inf)
    barycentric = np.zeros((size, size, 3))
    for number, corner in enumerate(triangles.tolist()):
        p, d = pixels[corner], depth[corner]
        area = np.linalg.det(np.stack([p[1] - p[0], p[2] - p[0]]))
        if area == 0 or (cull_back_faces and area > 0):
            continue
        x0, y0 = np.clip(np.floor(p.min(0)), 0, size).astype(int)
        x1, y1 = np.clip(np.ceil(p.max(0)) + 1, 0, size).astype(int)
        x, y = np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5)
        dx, dy = p[:, 0] - x[..., None], p[:, 1] - y[..., None]
        weight = np.roll(dx, -1, -1) * np.roll(dy, -2, -1) - np.roll(dx, -2, -1) * np.roll(dy, -1, -1)
        weight /= area
        perspective = weight / d
        z = 1 / perspective.sum(-1)
        window = (slice(y0, y1), slice(x0, x1))
        wins = (weight >= 0).all(-1) & (z < nearest[window])
        ids[window][wins] = number
        nearest[window][wins] = z[wins]
        barycentric[window][wins] = (perspective * z[..., None])[wins]
    return ids, barycentric, nearest


def assert_agrees(gbuffer, index: int, reference, share: float = 0.999):
    ids, barycentric, nearest = reference
    found = gbuffer.triangle_id[index].cpu().numpy()
    either = (ids >= 0) | (found >= 0)
    equal = (ids == found)[either]
    assert equal.mean() >= share, f"{equal.mean():.5f} of {either.sum()} covered pixels show the same triangle"
    same = (ids == found) & (ids >= 0)
    np.testing.assert_allclose(gbuffer.depth[index].cpu().numpy()[same], nearest[same], rtol=1e-3)
    difference = np.abs(gbuffer.barycentric[index].cpu().numpy()[same] - barycentric[same]).max(-1)
    assert np.quantile(difference, 0.999) < 1e-3


@pytest.mark.parametrize("cull_back_faces", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_triangle_soup_agrees_with_brute_force(device, seed, cull_back_faces):
    pixels, depth, triangles = triangle_soup(300, seed)
    gbuffer = rasterize(pixels.to(device), depth.to(device), triangles.to(device), 64, cull_back_faces)
    assert_agrees(gbuffer, 0, brute_force(pixels[0], depth[0], triangles, 64, cull_back_faces))


def test_sphere_at_many_poses_agrees_with_brute_force(device):
    vertices, triangles = sphere(4)
    poses = torch.tensor([[0, 0, 0], [25, 10, 5], [-60, 20, -30], [90, 0, 0], [13, -77, 170]], dtype=torch.float32)
    shift = torch.tensor([[0, 0, 0], [0.5, 0.2, 1], [-0.9, 0.9, -2], [0, 0, 6], [0.1, -0.3, 0.5]])
    pixels, depth = project(to_camera_space(vertices.expand(5, -1, -1), rotation_matrix(poses), shift))
    gbuffer = rasterize(pixels.to(device), depth.to(device), triangles.to(device), 224)
    for i in range(len(poses)):
        assert_agrees(gbuffer, i, brute_force(pixels[i], depth[i], triangles, 224, True))


def test_a_batch_gives_what_its_images_give_alone(device):
    vertices, triangles = sphere(3)
    vertices, triangles = vertices.to(device), triangles.to(device)
    poses = torch.tensor([[0.0, 0, 0], [40, 0, 0], [0, 30, 10]], device=device)
    pixels, depth = project(to_camera_space(vertices.expand(3, -1, -1), rotation_matrix(poses), 0.1 * poses / 40))
    together = rasterize(pixels, depth, triangles, 128)
    values = interpolate(together, vertices.expand(3, -1, -1), triangles)
    for i in range(3):
        alone = rasterize(pixels[i : i + 1], depth[i : i + 1], triangles, 128)
        assert torch.equal(alone.triangle_id[0], together.triangle_id[i])
        assert torch.equal(alone.barycentric[0], together.barycentric[i])
        assert torch.equal(alone.depth[0], together.depth[i])
        assert torch.equal(interpolate(alone, vertices[None], triangles)[0], values[i])
    for images_at_once in (1, 2, 3):
        again = rasterize(pixels, depth, triangles, 128, images_at_once=images_at_once)
        assert torch.equal(again.triangle_id, together.triangle_id)
        assert torch.equal(again.barycentric, together.barycentric)
        assert torch.equal(again.depth, together.depth)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shared_edges_leave_no_cracks_and_no_double_hits(device, seed):
    # A jittered grid of triangles that spans the frame; corners snapped so that many fall exactly on pixel centres.
    # Every pixel must be in exactly one triangle.
    generator = torch.Generator().manual_seed(seed)
    cells, size = 40, 96
    line = torch.linspace(-4, size + 4, cells + 1)
    y, x = torch.meshgrid(line, line, indexing="ij")
    corners = torch.stack([x, y], dim=-1) + (torch.rand(cells + 1, cells + 1, 2, generator=generator) - 0.5) * 1.2
    snapped = torch.rand(cells + 1, cells + 1, 1, generator=generator) < 0.3
    corners = torch.where(snapped, corners.floor() + 0.5, corners)
    number = torch.arange((cells + 1) ** 2).view(cells + 1, cells + 1)
    a, b, c, d = (n.flatten() for n in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
    triangles = torch.cat([torch.stack([a, c, b], 1), torch.stack([a, d, c], 1)])
    pixels, depth = corners.view(1, -1, 2).to(device), torch.full((1, (cells + 1) ** 2), 10.0, device=device)
    whole = rasterize(pixels, depth, triangles.to(device), size, cull_back_faces=False)
    assert whole.covered.all()

    hits = torch.zeros(size, size, dtype=torch.int64, device=device)
    # Triangles of one group have no corner in common, so a pixel that two triangles claim counts in two groups.
    row, column = number[:-1, :-1].flatten() // (cells + 1) % 2, number[:-1, :-1].flatten() % (cells + 1) % 2
    group = torch.cat([row * 2 + column, row * 2 + column + 4])
    for k in range(8):
        hits += rasterize(pixels, depth, triangles[group == k].to(device), size, cull_back_faces=False).covered[0]
    assert hits.min() == 1 and hits.max() == 1


def test_front_is_counter_clockwise_for_the_viewer(device):
    points = torch.tensor([[[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.0, 0.5, 0.0]]], device=device)
    pixels, depth = project(points)
    front, back = torch.tensor([[0, 1, 2]], device=device), torch.tensor([[0, 2, 1]], device=device)
    assert rasterize(pixels, depth, front, 224).covered.any()
    assert not rasterize(pixels, depth, back, 224).covered.any()
    assert torch.equal(
        rasterize(pixels, depth, back, 224, cull_back_faces=False).covered, rasterize(pixels, depth, front, 224).covered
    )


@pytest.mark.parametrize(
    ("vertex", "depth"),
    [
        ((float("nan"), 20.0), 10.0),
        ((float("inf"), 20.0), 10.0),
        ((20.0, -float("inf")), 10.0),
        ((20.0, 20.0), float("nan")),
        ((20.0, 20.0), float("inf")),
        ((20.0, 20.0), 0.0),
        ((20.0, 20.0), -3.0),
        ((1e30, 1e30), 10.0),
    ],
)
def test_unusable_vertices_cost_only_their_own_triangles(device, vertex, depth):
    pixels = torch.tensor([[[5.0, 5.0], [5.0, 30.0], [30.0, 30.0], list(vertex)]], device=device)
    depths = torch.tensor([[10.0, 10.0, 10.0, depth]], device=device)
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3], [3, 2, 0], [0, 1, 3]], device=device)
    for cull in (True, False):
        gbuffer = rasterize(pixels, depths, triangles, 32, cull)
        assert set(gbuffer.triangle_id.unique().tolist()) == {-1, 0}
        assert gbuffer.barycentric.isfinite().all()


@pytest.mark.parametrize("cull_back_faces", [True, False])
def test_triangles_without_area_are_left_out(device, cull_back_faces):
    pixels = torch.tensor([[[5.0, 5.0], [25.0, 25.0], [15.0, 15.0], [5.0, 25.0]]], device=device)
    depth = torch.full((1, 4), 10.0, device=device)
    flat = torch.tensor([[0, 1, 2], [0, 0, 1], [3, 3, 3]], device=device)
    assert not rasterize(pixels, depth, flat, 32, cull_back_faces).covered.any()


def test_huge_triangles_are_clipped_to_the_frame(device):
    pixels = torch.tensor([[[-9e6, -9e6], [0.0, 9e6], [9e6, -9e6]]], device=device)
    gbuffer = rasterize(pixels, torch.full((1, 3), 10.0, device=device), torch.tensor([[0, 1, 2]], device=device), 64)
    assert gbuffer.covered.all()


def test_nothing_to_draw(device):
    none = rasterize(
        torch.zeros(2, 0, 2, device=device), torch.zeros(2, 0, device=device),
        torch.zeros(0, 3, dtype=torch.int64, device=device), 16,
    )  # fmt: skip
    assert none.triangle_id.shape == (2, 16, 16) and not none.covered.any() and none.depth.isposinf().all()
    empty = rasterize(
        torch.zeros(0, 3, 2, device=device), torch.zeros(0, 3, device=device),
        torch.tensor([[0, 1, 2]], device=device), 16,
    )  # fmt: skip
    assert empty.triangle_id.shape == (0, 16, 16) and empty.barycentric.shape == (0, 16, 16, 3)


@pytest.mark.parametrize("batch", [0, 2])
def test_values_of_nothing(device, batch):
    pixels, depth = torch.zeros(batch, 3, 2, device=device), torch.ones(batch, 3, device=device)
    triangles = torch.tensor([[0, 1, 2]], device=device)
    gbuffer = rasterize(pixels, depth, triangles, 16)
    assert interpolate(gbuffer, torch.rand(batch, 3, 4, device=device), triangles).shape == (batch, 4, 16, 16)
    where, seen = reproject(gbuffer, gbuffer, pixels, depth, triangles)
    assert where.shape == (batch, 16, 16, 2) and seen.shape == (batch, 16, 16) and not seen.any()


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"pixels \(B,V,2\)"):
        rasterize(torch.zeros(4, 2), torch.zeros(4), torch.zeros(1, 3, dtype=torch.int64), 16)
    with pytest.raises(ValueError, match=r"triangles \(F,3\)"):
        rasterize(torch.zeros(1, 4, 2), torch.zeros(1, 4), torch.zeros(3, dtype=torch.int64), 16)


def test_interpolated_positions_project_back_to_their_pixel_centres(device):
    # Only perspective-correct weights do that.
    vertices, triangles = sphere(1)
    vertices, triangles = vertices[None].to(device) + torch.tensor([0.0, 0.0, 5.0], device=device), triangles.to(device)
    pixels, depth = project(vertices)
    gbuffer = rasterize(pixels, depth, triangles, 224)
    points = interpolate(gbuffer, vertices, triangles)[0].permute(1, 2, 0)[gbuffer.covered[0]]
    back, back_depth = project(points)
    row, column = gbuffer.covered[0].nonzero().unbind(1)
    torch.testing.assert_close(back, torch.stack([column, row], 1) + 0.5, rtol=0, atol=1e-2)
    torch.testing.assert_close(back_depth, gbuffer.depth[gbuffer.covered], rtol=0, atol=1e-4)
    expected = unproject(back, gbuffer.depth[gbuffer.covered])
    torch.testing.assert_close(points, expected, rtol=0, atol=1e-4)


def test_uncovered_pixels_interpolate_to_zero_even_if_values_are_not_finite(device):
    vertices, triangles = sphere(1)
    pixels, depth = project(vertices[None].to(device))
    gbuffer = rasterize(pixels, depth, triangles.to(device), 256)
    values = torch.full((1, len(vertices), 2), float("nan"), device=device)
    assert (interpolate(gbuffer, values, triangles.to(device)).movedim(1, -1)[~gbuffer.covered] == 0).all()


def test_gradients_reach_vertices_and_attributes():
    # Two triangles at different depths, away from the frame's pixel centres, so that a small step changes no winner.
    pixels = torch.tensor([[[0.7, 0.6], [1.1, 6.9], [7.2, 3.3], [6.6, 7.4]]], dtype=torch.float64, requires_grad=True)
    depth = torch.tensor([[8.0, 9.0, 10.0, 9.5]], dtype=torch.float64, requires_grad=True)
    values = torch.rand(1, 4, 2, dtype=torch.float64, requires_grad=True)
    triangles = torch.tensor([[0, 1, 2], [1, 3, 2]])

    def draw(pixels, depth, values):
        # The frame is float32: gradcheck needs only the resolve, which keeps the input's precision.
        gbuffer = rasterize(pixels, depth, triangles, 8)
        return interpolate(gbuffer, values, triangles), gbuffer.depth[gbuffer.covered]

    assert torch.autograd.gradcheck(draw, (pixels, depth, values))


def test_sampling_a_picture_at_its_pixel_centres_returns_the_picture(device):
    picture = torch.rand(2, 3, 9, 13, device=device)
    y, x = torch.meshgrid(torch.arange(9.0, device=device), torch.arange(13.0, device=device), indexing="ij")
    centres = torch.stack([x + 0.5, y + 0.5], dim=-1).expand(2, -1, -1, -1)
    torch.testing.assert_close(sample_image(picture, centres), picture, rtol=0, atol=1e-5)
    between = sample_image(picture, centres + torch.tensor([0.5, 0.0], device=device))
    torch.testing.assert_close(between[..., :-1], (picture[..., 1:] + picture[..., :-1]) / 2, rtol=0, atol=1e-5)
    assert (sample_image(picture, centres + 50) == 0).all()


def test_agrees_with_the_reference_renderer(shared_dir):
    face = np.load(shared_dir / "fixtures" / "standin_face_model.npz")
    shape = torch.from_numpy(np.load(shared_dir / "fixtures" / "reconstruction.npz")["face_shape"])
    made = np.load(shared_dir / "fixtures" / "render.npz")
    triangles = torch.from_numpy(face["tri"].astype(np.int64))
    pixels, depth = project(shape)
    gbuffer = rasterize(pixels, depth, triangles, 224)
    expected = torch.from_numpy(made["tri_id"].astype(np.int64))
    same = gbuffer.triangle_id == expected
    assert same.float().mean() >= 0.998
    assert same[gbuffer.covered | (expected >= 0)].float().mean() >= 0.998
    same &= gbuffer.covered
    z_error = (gbuffer.depth - torch.from_numpy(made["zbuf"]))[same].abs()
    assert z_error.max() < 0.1 and z_error.quantile(0.95) < 1e-3
    # The reference's weights are linear on the screen; ours, times the corners' depths, become so.
    corner_depth = torch.stack([depth[i][triangles[gbuffer.triangle_id[i].clamp_min(0)]] for i in range(len(depth))])
    screen = gbuffer.barycentric * corner_depth
    screen = screen / screen.sum(-1, keepdim=True)
    weight_error = (screen - torch.from_numpy(made["bary"].astype(np.float32)))[same].abs()
    assert weight_error.max() < 2e-2 and weight_error.quantile(0.995) < 1e-3
