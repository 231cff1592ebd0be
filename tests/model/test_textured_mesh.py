"""A photo's face as a textured mesh: what the files show when other software reads and renders them."""

import numpy as np
import pytest
import torch
import trimesh

from cfr.model.images import decode_image
from cfr.model.photo_fits import Photo, PhotoFit, PhotoFitter
from cfr.model.rasterize import GBuffer, interpolate, rasterize, sample_image
from cfr.model.rendering import pose_mesh
from cfr.model.texture_chart import chart_of
from cfr.model.textured_mesh import FORMATS, METRES, TexturedMesh, textured_mesh


@pytest.fixture(scope="module")
def fit(photos_dir) -> PhotoFit:
    image = decode_image((photos_dir / "astronaut.png").read_bytes())
    [found] = PhotoFitter().fit([Photo("astronaut", image)])
    return found


@pytest.fixture(scope="module")
def mesh(fit) -> TexturedMesh:
    return textured_mesh(fit)


def rendered(path, pose: list[float], translation: list[float]) -> tuple[torch.Tensor, GBuffer]:
    """The file's mesh and texture as trimesh reads them, in the camera of the crop: (1,3,224,224) RGB 0..1."""
    loaded = trimesh.load(path, process=False, force="mesh")
    material = loaded.visual.material
    picture = getattr(material, "baseColorTexture", None) or material.image
    texture = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
    vertices, uv, triangles = (
        torch.from_numpy(np.array(each)) for each in (loaded.vertices, loaded.visual.uv, loaded.faces)
    )
    vertices = (vertices.float() / METRES)[None]
    turned = pose_mesh(vertices, vertices, torch.tensor([pose]), torch.tensor([translation]))
    gbuffer = turned.rasterized(triangles.long())
    places = interpolate(gbuffer, uv[None].float(), triangles.long())
    pixels = torch.stack([places[:, 0], 1 - places[:, 1]], -1) * texture.shape[-1]
    return sample_image(texture, pixels), gbuffer


@pytest.mark.parametrize("suffix", FORMATS)
def test_in_the_photos_pose_the_file_shows_the_photo(fit, mesh, tmp_path, suffix):
    files = mesh.save(tmp_path / f"face.{suffix}")
    assert sorted(files) == sorted(tmp_path.iterdir())
    pose, translation = (part[0].tolist() for part in (fit.coefficients.pose, fit.coefficients.translation))
    shown, gbuffer = rendered(files[0], pose, translation)
    assert (gbuffer.covered[0] == fit.face_mask).float().mean() > 0.999
    # Resampled twice, at about the photo's own resolution: 4.1 of 255 when written; a shift of one pixel gives 8.0.
    difference = (shown[0] - fit.crop).abs().mean(0)[fit.oval]
    assert difference.mean() < 5.5 / 255


def test_from_the_side_there_are_no_holes(mesh, tmp_path):
    [path] = mesh.save(tmp_path / "face.glb")
    for yaw in (-60.0, 60.0):
        shown, gbuffer = rendered(path, [yaw, 0.0, 0.0], [0.0, 0.0, 0.0])
        dark = shown.amax(1)[gbuffer.covered] < 10 / 255
        assert dark.float().mean() < 0.02  # what the open mouth shows


def test_size_and_directions_are_those_of_a_head(mesh):
    width, height, depth = np.ptp(mesh.vertices, axis=0)
    assert 0.13 < width < 0.2 and 0.17 < height < 0.25 and 0.1 < depth < 0.2  # metres
    nose = mesh.vertices[mesh.vertices[:, 2].argmax()]
    assert abs(nose[0]) < 0.01 and np.abs(nose[1] - mesh.vertices[:, 1].mean()) < 0.06
    first, second, third = (mesh.vertices[corner] for corner in mesh.triangles.T)
    across = np.cross(second - first, third - first)
    assert ((across * mesh.normals[mesh.triangles[:, 0]]).sum(1) > 0).mean() > 0.99
    assert np.linalg.norm(mesh.normals, axis=1) == pytest.approx(1, abs=1e-3)


def test_the_photos_part_of_the_texture_is_known(mesh):
    assert mesh.texture.shape[:2] == mesh.own.shape
    assert 0.15 < mesh.own.mean() < 0.5


def test_every_triangle_has_its_own_place(face_model):
    """The middle of each triangle's place in the texture belongs to that triangle, in the view or in the cells."""
    chart = chart_of(face_model, 1024)
    assert chart.corners.amin() >= 0 and chart.corners.amax() <= chart.size
    assert 0.5 < chart.in_view.float().mean() < 0.8
    # Drawn again without depth, at a size where all but the smallest triangles have pixels.
    factor = 2
    drawn = rasterize(
        chart.corners.reshape(1, -1, 2) * factor,
        torch.ones(1, 3 * len(chart.corners)),
        torch.arange(3 * len(chart.corners)).view(-1, 3),
        chart.size * factor,
        cull_back_faces=False,
    )
    seen = torch.bincount(drawn.triangle_id[drawn.covered], minlength=len(chart.corners))
    assert (seen > 0).float().mean() > 0.99
    cells = chart.cells.triangle_id[0]
    assert set(cells[cells >= 0].tolist()) == set((~chart.in_view).nonzero().flatten().tolist())
    assert chart.cells.barycentric[chart.cells.covered].sum(1) == pytest.approx(1, abs=1e-5)
    assert chart.cells.barycentric.amin() >= -1e-6


def test_too_small_a_texture_is_refused(face_model):
    with pytest.raises(ValueError, match="too small"):
        chart_of(face_model, 256)


def test_other_suffixes_are_refused(mesh, tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.glb, \.obj, \.ply"):
        mesh.save(tmp_path / "face.stl")
