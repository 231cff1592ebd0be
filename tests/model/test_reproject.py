"""Which points of one view another view sees: against analytic visibility, and where shadow maps usually fail."""

import pytest
import torch
import trimesh

from cfr.model.camera import project, rotation_matrix, to_camera_space
from cfr.model.rasterize import depth_test, interpolate, rasterize, reproject, sample_image

SPHERE_CENTRE, SPHERE_RADIUS = torch.tensor([0.0, 0.0, 0.4]), 0.5


class View:
    """A mesh, turned by yaw and pitch, as one view shows it."""

    def __init__(self, vertices, triangles, yaw=0.0, pitch=0.0, size=224):
        self.rotation = rotation_matrix(torch.tensor([[yaw, pitch, 0.0]]))
        self.vertices, self.triangles = vertices, triangles
        self.pixels, self.depth = project(to_camera_space(vertices[None], self.rotation, torch.zeros(1, 3)))
        self.gbuffer = rasterize(self.pixels, self.depth, triangles, size)

    def camera(self) -> torch.Tensor:
        """(3,) the camera in model space."""
        return torch.tensor([0.0, 0.0, 10.0]) @ self.rotation[0]

    def sees(self, other: "View") -> tuple[torch.Tensor, torch.Tensor]:
        """`reproject` of the other view's pixels into this one."""
        return reproject(other.gbuffer, self.gbuffer, self.pixels, self.depth, self.triangles)


def plane(extent: float, height, cells: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Grid that faces the viewer, z = height(x, y)."""
    line = torch.linspace(-extent, extent, cells + 1)
    y, x = torch.meshgrid(line, line, indexing="ij")
    number = torch.arange((cells + 1) ** 2).view(cells + 1, cells + 1)
    a, b, c, d = (n.flatten() for n in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
    vertices = torch.stack([x, y, height(x, y).expand_as(x)], dim=-1).view(-1, 3)
    return vertices, torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])


def joined(*meshes) -> tuple[torch.Tensor, torch.Tensor]:
    vertices, triangles, first = [], [], 0
    for mesh_vertices, mesh_triangles in meshes:
        vertices.append(mesh_vertices)
        triangles.append(mesh_triangles + first)
        first += len(mesh_vertices)
    return torch.cat(vertices), torch.cat(triangles)


def sphere(subdivisions=5) -> tuple[torch.Tensor, torch.Tensor]:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=SPHERE_RADIUS)
    return torch.tensor(mesh.vertices, dtype=torch.float32) + SPHERE_CENTRE, torch.tensor(mesh.faces)


def analytic_visibility(points: torch.Tensor, on_sphere: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    """Whether the camera sees points (n,3) of the sphere or of the plane z = 0.3 x - 0.3 behind it."""
    points = points.double()
    direction = torch.nn.functional.normalize(camera.double() - points, dim=-1)
    from_centre = points - SPHERE_CENTRE.double()
    along = (from_centre * direction).sum(-1)
    hits_sphere = (along < 0) & (along.square() - from_centre.square().sum(-1) + SPHERE_RADIUS**2 > 0)
    plane_faces = direction @ torch.tensor([-0.3, 0.0, 1.0], dtype=torch.float64) > 0
    return torch.where(on_sphere, along > 0, plane_faces & ~hits_sphere)


@pytest.mark.parametrize(("yaw", "pitch"), [(15, 0), (30, 10), (45, -10), (60, 0), (-35, 20), (0, 30)])
def test_agrees_with_analytic_visibility(yaw, pitch):
    ball, ground = sphere(), plane(3.0, lambda x, y: 0.3 * x - 0.3)
    mesh = joined(ball, ground)
    target, source = View(*mesh), View(*mesh, float(yaw), float(pitch))
    where, seen = source.sees(target)
    considered = target.gbuffer.covered & ((where >= 0) & (where < 224)).all(-1)
    points = interpolate(target.gbuffer, target.vertices[None], target.triangles).permute(0, 2, 3, 1)[considered]
    truth = analytic_visibility(points, target.gbuffer.triangle_id[considered] < len(ball[1]), source.camera())
    assert truth.any() and not truth.all()
    assert (seen[considered] == truth).float().mean() >= 0.995

    depth = interpolate(target.gbuffer, source.depth[..., None], target.triangles)[:, 0]
    by_depth_alone = depth_test(source.gbuffer, where, depth)[considered]
    assert (by_depth_alone == truth).float().mean() >= 0.99


@pytest.mark.parametrize("yaw", [30.0, 60.0, 75.0, 82.0, -75.0])
def test_a_slanted_surface_does_not_hide_itself(yaw):
    mesh = plane(0.6, lambda x, y: 0.05 * torch.sin(3 * x) * torch.cos(2 * y))
    # The flat frontal view must be wholly seen from the slanted one, and the other way round, but for the rim.
    frontal, slanted = (
        View(*plane(0.6, lambda x, y: torch.zeros(()))),
        View(*plane(0.6, lambda x, y: torch.zeros(())), yaw),
    )
    for source, target in ((slanted, frontal), (frontal, slanted)):
        assert source.sees(target)[1].sum() >= 0.98 * target.gbuffer.covered.sum()
    waves, turned = View(*mesh), View(*mesh, yaw / 3)
    assert turned.sees(waves)[1].sum() >= 0.98 * waves.gbuffer.covered.sum()


@pytest.mark.parametrize("width", [0.04, 0.08, 0.2])
@pytest.mark.parametrize("gap", [0.1, 0.3])
def test_a_thin_occluder_hides_what_is_behind_it(width, gap):
    # A plate of 4 to 20 pixels' width before a wall; seen from the side it leaves a shadow of its own width there.
    plate = torch.tensor(
        [[-width / 2, -0.5, gap], [width / 2, -0.5, gap], [width / 2, 0.5, gap], [-width / 2, 0.5, gap]]
    )
    wall = plane(1.0, lambda x, y: torch.zeros(()))
    mesh = joined((plate, torch.tensor([[0, 1, 2], [0, 2, 3]])), wall)
    source, target = View(*mesh), View(*mesh, 45.0)
    _, seen = source.sees(target)
    points = interpolate(target.gbuffer, target.vertices[None], target.triangles).permute(0, 2, 3, 1)
    on_wall = target.gbuffer.triangle_id >= 2
    # A ray from the camera through the plate's edge meets the wall a little farther out.
    shadow = width / 2 * 10 / (10 - gap)
    pixel = 10 / 1015
    x, y = points[..., 0].abs(), points[..., 1].abs()
    behind = on_wall & (x < shadow - 0.55 * pixel) & (y < 0.48)
    beside = on_wall & (x > shadow + 0.55 * pixel) & (x < 0.8) & (y < 0.48)
    assert beside.any() and seen[beside].all()
    assert behind.any() and not seen[behind].any()


def test_nothing_is_seen_from_behind():
    target, source = View(*sphere()), View(*sphere(), 179.9)
    assert not source.sees(target)[1].any()


def test_a_view_sees_itself():
    mesh = joined(sphere(), plane(3.0, lambda x, y: 0.3 * x - 0.3))
    view = View(*mesh, 20.0)
    where, seen = view.sees(view)
    assert torch.equal(seen, view.gbuffer.covered)
    row, column = seen[0].nonzero().unbind(1)
    torch.testing.assert_close(where[seen], torch.stack([column, row], 1) + 0.5, rtol=0, atol=2e-3)


def test_outside_the_frame_on_nothing_or_not_finite_is_not_seen():
    view = View(*sphere(), size=224)
    nan, inf = float("nan"), float("inf")
    places = [(-1.0, 112.0), (112.0, 224.5), (2.0, 2.0), (nan, 112.0), (inf, 112.0), (112.0, 112.0), (112.0, 112.0)]
    pixels = torch.tensor(places).view(1, 1, -1, 2)
    depth = torch.tensor([[[1.0, 1.0, 1.0, 1.0, 1.0, nan, 1.0]]])
    assert depth_test(view.gbuffer, pixels, depth).flatten().tolist() == [False] * 6 + [True]


def test_a_texture_survives_the_way_to_another_view():
    mesh = plane(0.8, lambda x, y: -0.4 * x.square())
    source, target = View(*mesh), View(*mesh, 25.0)
    y, x = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    pattern = torch.stack([0.5 + 0.5 * torch.sin(x / 9), 0.5 + 0.5 * torch.cos(y / 7)])[None]
    where, seen = source.sees(target)
    carried = sample_image(pattern, where)
    expected = torch.stack(
        [0.5 + 0.5 * torch.sin((where[..., 0] - 0.5) / 9), 0.5 + 0.5 * torch.cos((where[..., 1] - 0.5) / 7)], 1
    )
    assert seen.float().mean() > 0.3
    assert (carried - expected).abs().amax(1)[seen].max() < 0.01
