"""Renderer, colour sampling, alignment and rotation of the paper on the package's own face, in every run."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from cfr.model.alignment import apply_affine, crop_affine
from cfr.model.camera import project, unproject
from cfr.model.paper.alignment import align_photo
from cfr.model.paper.renderer import rasterize_screen_linear, render
from cfr.model.paper.rotation import rotate_once, rotate_twice
from cfr.model.paper.vertex_colours import sample_vertex_colours
from cfr.model.rasterize import rasterize

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=DEVICES)
def device(request) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param


def tilted_triangle(device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """One large triangle, far deeper at one corner than at the others: (1,3,3) camera space, (1,3)."""
    pixels = torch.tensor([[[20.0, 200.0], [205.0, 190.0], [100.0, 15.0]]], device=device)
    return unproject(pixels, torch.tensor([[8.0, 9.0, 16.0]], device=device)), torch.tensor([[0, 1, 2]], device=device)


def test_values_are_linear_on_the_screen(device):
    """Colours that are a linear function of the corners' pixels are that function of the pixel."""
    shape, triangles = tilted_triangle(device)
    gbuffer = rasterize_screen_linear(shape, triangles)
    pixels, depth = project(shape)
    centre = torch.arange(224, device=device) + 0.5
    for axis, expected in ((0, centre.expand(224, 224)), (1, centre[:, None].expand(224, 224))):
        ours = (gbuffer.barycentric[0] * pixels[0, :, axis]).sum(-1)
        torch.testing.assert_close(ours[gbuffer.covered[0]], expected[gbuffer.covered[0]], atol=2e-3, rtol=0)
    middle = gbuffer.depth[0, 100, 100]
    assert middle == pytest.approx(float((gbuffer.barycentric[0, 100, 100] * depth[0]).sum()), abs=1e-3)
    # Perspective-correct depth is smaller: more of the triangle's picture is near.
    assert middle > rasterize(pixels, depth, triangles, 224).depth[0, 100, 100] + 0.1


def test_light_of_a_pixel(device):
    """The Phong terms of single pixels, written out; the light lies on the triangle's bright side at some of them."""
    shape, triangles = tilted_triangle(device)
    shape = shape - torch.tensor([0.0, 0.0, 1.5], device=device)  # behind the light, so that it is lit
    colours = torch.tensor([[[0.1, 0.3, 0.5], [0.4, 0.2, 0.6], [0.7, 0.5, 0.1]]], device=device)
    picture = render(shape, colours, triangles)
    gbuffer = rasterize_screen_linear(shape, triangles)
    corners = shape[0].double().cpu().numpy()
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    normal /= np.linalg.norm(normal)
    lit = 0
    for row, column in np.argwhere(gbuffer.covered[0].cpu().numpy())[::977]:
        weights = gbuffer.barycentric[0, row, column].double().cpu().numpy()
        point, texel = weights @ corners, weights @ colours[0].double().cpu().numpy()
        to_light = np.array([0, 0, 1e-5]) - point
        to_light /= np.linalg.norm(to_light)
        to_camera = np.array([0, 0, 10.0]) - point
        to_camera /= np.linalg.norm(to_camera)
        cosine = normal @ to_light
        highlight = max(0.0, to_camera @ (2 * cosine * normal - to_light)) ** 64 if cosine > 0 else 0.0
        expected = np.clip((1 + 0.3 * max(0.0, cosine)) * texel + 0.2 * highlight, 0, 1)
        assert picture[0, :, row, column].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
        lit += cosine > 0
    assert lit > 3
    assert not picture[0, :, ~gbuffer.covered[0]].any()


def test_picture_of_a_face_shows_its_colours(own_model, own_faces):
    """Seen from the front hardly anything turns inwards: the picture is the interpolated colour on most of the face."""
    picture = render(own_faces.shape, own_faces.colour, own_model.triangles)
    gbuffer = rasterize_screen_linear(own_faces.shape, own_model.triangles)
    assert torch.equal(gbuffer.covered, (picture > 0).any(1))
    plain = (own_faces.colour[:1, own_model.triangles[gbuffer.triangle_id[0].clamp_min(0)]][0]
             * gbuffer.barycentric[0, ..., None]).sum(2).clamp(0, 1)  # fmt: skip
    same = ((picture[0].permute(1, 2, 0) - plain).abs().amax(-1) < 1 / 255)[gbuffer.covered[0]]
    assert same.float().mean() > 0.8


def test_colour_sampling_rounds_half_to_even_and_clamps():
    column, row = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="xy")
    picture = torch.stack([column, row])[None]
    # v points up in the paper: a pixel coordinate y is at v = 224 - y, and its row is 223 - v, rounded.
    cases = {(0.5, 1.5): (0, 0), (1.5, 2.5): (2, 2), (10.4, 20.7): (10, 20), (-5, 300): (0, 223), (230, -1): (223, 0)}
    places = torch.tensor([list(cases)], dtype=torch.float32)
    assert sample_vertex_colours(picture, places)[0].tolist() == [list(map(float, cell)) for cell in cases.values()]


@pytest.mark.parametrize("seed", range(12))
def test_alignment_is_that_of_the_whole_reduced_picture(seed):
    """Against the same steps on the whole picture; Pillow has edges of parts in float32: a grey level at places."""
    generator = np.random.default_rng(seed)
    width, height = generator.integers(150, 700, 2)
    blocks = generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).astype(np.uint8)
    photo = np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC))
    size = generator.uniform(25, 220)
    face = np.array([[-0.31, -0.29], [0.31, -0.29], [0.02, 0.05], [-0.25, 0.38], [0.25, 0.38]])
    landmarks = face * size + [width, height] * generator.uniform(0.2, 0.8, 2)
    context, affine = align_photo(photo, landmarks)
    assert context.shape == (320, 320, 3)

    design = np.column_stack([_STANDARD_POINTS, np.ones(5)])
    upwards = np.column_stack([landmarks[:, 0], height - 1 - landmarks[:, 1]])
    solution = np.linalg.lstsq(design, upwards, rcond=None)[0]
    scale = np.linalg.norm(solution[:3], axis=0).mean()
    shift = (1, 0, solution[3, 0] - width / 2, 0, 1, height / 2 - solution[3, 1])
    whole = Image.fromarray(photo).transform((width, height), Image.Transform.AFFINE, shift)
    reduced = math.trunc(102 * width / scale), math.trunc(102 * height / scale)
    whole = whole.resize(reduced, Image.Resampling.BILINEAR)
    left, top = math.trunc(reduced[0] / 2 - 112) - 48, math.trunc(reduced[1] / 2 - 112) - 48
    expected = np.asarray(whole.crop((left, top, left + 320, top + 320)))
    difference = np.abs(context.astype(int) - expected)
    assert difference.max() <= 2 and difference.mean() < 0.05

    # Where a landmark lands: as by the package's own alignment, but for shift, size and corner rounded to whole px.
    zoom = 102 / scale
    ours = apply_affine(landmarks, affine)
    assert np.abs(ours - apply_affine(landmarks, crop_affine(landmarks))).max() < 1.5 * zoom + 2
    assert affine[[1, 3]].tolist() == [0, 0]


_STANDARD_POINTS = np.array(
    [
        [-0.31148657, 0.29036078, 0.13377953],
        [0.30979887, 0.28972036, 0.13179526],
        [0.0032535, -0.04617932, 0.55244243],
        [-0.25216928, -0.38133916, 0.22405732],
        [0.24846619, -0.38128236, 0.22235769],
    ]
)


def test_small_face_in_a_large_photo_needs_little_memory():
    """The whole reduced picture would have (102 / 2 * 3000)^2 px here: 70 GB."""
    photo = np.full((3000, 3000, 3), 90, np.uint8)
    face = np.array([[-0.31, -0.29], [0.31, -0.29], [0.02, 0.05], [-0.25, 0.38], [0.25, 0.38]])
    context, _ = align_photo(photo, face * 2 + [900, 2000])
    assert np.abs(context.astype(int) - 90).max() <= 1


def test_rotation_there_and_back(own_model, own_faces):
    """From its own view a face survives the double rotation; from the side the far half is lost."""
    picture = render(own_faces.shape, own_faces.colour, own_model.triangles)
    covered = rasterize_screen_linear(own_faces.shape, own_model.triangles).covered
    poses = torch.tensor([[5.0, 3.0, -2.0], [-40.0, -5.0, 4.0]])
    errors = {}
    for name, view in (("own", poses), ("side", torch.tensor([[80.0, 3.0, -2.0], [50.0, -5.0, 4.0]]))):
        once, twice = rotate_twice(own_model, own_faces, picture, view)
        assert once.shape == twice.shape == (2, 3, 224, 224)
        errors[name] = [(twice[k] - picture[k]).abs().mean(0)[covered[k]].mean().item() for k in range(2)]
    assert max(errors["own"]) < 0.03  # colours are from half a pixel beside
    assert min(errors["side"]) > 2 * max(errors["own"])


def test_rotation_to_a_wanted_pose(own_model, own_faces):
    photo = render(own_faces.shape, own_faces.colour, own_model.triangles)
    pair = rotate_once(own_model, own_faces, photo, torch.tensor([[0.0, 0.0, 0.0], [30.0, 0.0, 0.0]]))
    frontal, turned = pair.keypoints
    eyes, nose = frontal[36:48].mean(0), frontal[30]
    assert abs(eyes[0] - 112) < 6 and abs(nose[0] - 112) < 6 and eyes[1] < nose[1]
    # yaw > 0: the nose points to the right of the image.
    assert turned[30, 0] - turned[36:48, 0].mean() > 10
    # Both pictures show the same mesh; the near-frontal face keeps most of its colours.
    shown = (pair.guidance > 0).any(1)[0]
    assert not (pair.rotated[0] > 0).any(0)[~shown].any()
    assert (pair.rotated[0] - pair.guidance[0]).abs().mean(0)[shown].mean() < 0.05
