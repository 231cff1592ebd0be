"""The geometry against the outputs of the authors' code (PyTorch3D 0.2.5), within the tolerances stated with them.

The reference's pictures are BGR where a name says so; its y axis points up in projections. Half-precision outputs are
rounded by up to 5e-4 relative.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from cfr.model.paper import filters
from cfr.model.paper.alignment import align_photo
from cfr.model.paper.masks import ParsedFaces, full_mask, object_mask
from cfr.model.paper.reconstruction import from_regressed, reconstruct
from cfr.model.paper.renderer import rasterize_screen_linear, render
from cfr.model.paper.rotation import rotate_once, rotate_twice, turned
from cfr.model.paper.structure_colour_difference import (
    contrast_structure,
    misread_lab,
    rgb_to_lab,
    structure_colour_difference,
)
from cfr.model.paper.swap import swap
from cfr.model.paper.vertex_colours import sample_vertex_colours


def picture(values: Tensor) -> Tensor:
    """uint8 -> 0..1; NHWC -> NCHW; the reference's renderings are clamped only after they were stored."""
    if values.dtype == torch.uint8:
        return values.float() / 255
    return values.permute(0, 3, 1, 2)[:, :3].clamp(0, 1)


def share_beyond(ours: Tensor, reference: Tensor, tolerance: float) -> float:
    return ((ours - reference).abs() > tolerance).float().mean().item()


def assert_close(ours: Tensor, reference: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(ours, reference, atol=tolerance, rtol=0)


def test_reconstruction(fixture, reference_model):
    reference = fixture("reconstruction")
    faces = reconstruct(reference_model, from_regressed(reference["coef"]))
    assert_close(faces.front_shape, reference["front_shape"], 1e-5)
    assert_close(faces.shape, reference["face_shape"], 1e-5)
    assert_close(faces.colour, reference["face_color"], 1e-5)
    upwards = torch.stack([faces.pixels[..., 0], 224 - faces.pixels[..., 1]], -1)
    assert_close(upwards, reference["face_projection"], 1e-3)
    assert_close(10 - faces.depth[..., None], reference["z_buffer"], 1e-5)
    assert_close(reference_model.vertex_normals(faces.front_shape), reference["vertex_normals_front"], 1e-4)


def test_renderer(fixture, reference_model):
    reference = fixture("render")
    faces = reconstruct(reference_model, from_regressed(reference["coef"]))
    gbuffer = rasterize_screen_linear(faces.shape, reference_model.triangles)
    equal = gbuffer.triangle_id == reference["tri_id"].long()
    assert equal.float().mean() >= 0.998
    shown = equal & gbuffer.covered
    weights = (gbuffer.barycentric - reference["bary"]).abs().amax(-1)[shown]
    # Slivers, whose float32 area is mostly rounding, are fewer than one pixel in a hundred.
    assert weights.max() <= 2e-2 and (weights > 1e-3).float().mean() < 0.01
    assert_close(gbuffer.depth[shown], reference["zbuf"][shown], 1e-3)
    photo = picture(reference["image_bgr_uint8"])
    colours = sample_vertex_colours(photo, faces.pixels)
    assert_close(colours, reference["vert_color_from_img_bgr"], 5e-4)
    for name, vertex_colours in (("gui", faces.colour.flip(-1)), ("rot", colours)):
        ours = render(faces.shape, vertex_colours, reference_model.triangles, gbuffer)
        difference = (ours - picture(reference[f"{name}_rgba_in_bgr_order"])).abs().amax(1)[shown]
        assert difference.max() <= 4e-3
        assert (difference > 2e-3).float().mean() <= 1e-3


def test_difference_map(fixture):
    reference = fixture("scdiff")
    first, second = picture(reference["img1_rgb_uint8"]), picture(reference["img2_rgb_uint8"])
    for name, weight in (("map_alpha033", 0.33), ("map_alpha05", 0.5)):
        difference = structure_colour_difference(first, second, weight)
        assert_close(difference, reference[name], 3e-3)
        assert share_beyond(difference, reference[name], 1e-3) <= 2e-3
    assert_close(contrast_structure(first, second), reference["contrast_structure"], 3e-3)
    assert_close(misread_lab(first), reference["lab_as_called_on_nchw"], 0.05)
    assert_close(rgb_to_lab(first), reference["lab_true_rgb"], 0.05)


def test_filters(fixture):
    reference = fixture("scdiff")
    binary = reference["binary_in"].float()
    assert torch.equal(filters.dilate(binary, 5), reference["dilation5"].float())
    assert torch.equal(filters.dilate(binary, 3), reference["dilation3"].float())
    assert torch.equal(filters.erode(binary, 2), reference["erosion2"].float())
    assert_close(filters.box_blur(binary, 7), reference["blur7"], 1e-6)
    assert_close(filters.box_blur(picture(reference["img1_rgb_uint8"]), 3), reference["blur3_rgb"], 5e-4)
    assert torch.equal(filters.median(reference["median_in"], 5), reference["median5"])


def test_masks(fixture):
    reference = fixture("occlusion_mask")
    rotated, guidance, photo = (picture(reference[f"{name}_rgb_uint8"]) for name in ("rot", "gui", "ori"))
    parsed = ParsedFaces.of(guidance, reference["parsed_ori"].long(), reference["parsed_gui"].long())
    assert share_beyond(object_mask(guidance, photo, parsed), reference["mask_obj"], 1e-3) <= 1e-3
    assert share_beyond(full_mask(rotated, guidance, photo, parsed), reference["mask_full"].float(), 1e-3) <= 1e-3
    guidance, photo = picture(reference["low_gui_rgb_uint8"]), picture(reference["low_ori_rgb_uint8"])
    parsed = ParsedFaces.of(guidance, reference["low_parsed_ori"].long(), reference["low_parsed_gui"].long())
    assert share_beyond(object_mask(guidance, photo, parsed), reference["low_mask_obj"], 1e-3) <= 1e-3


def test_swap_and_double_rotation(fixture, reference_model):
    """Every stage from our own results of the ones before it: 99% of pixels within 1e-2."""
    reference = fixture("swap")
    faces = reconstruct(reference_model, from_regressed(reference["coef"]))
    photo = picture(reference["image_bgr_uint8"]).flip(1)
    colours = sample_vertex_colours(photo, faces.pixels)
    textured = render(faces.shape, colours, reference_model.triangles)
    guidance = render(faces.shape, faces.colour, reference_model.triangles)
    labels = reference["parsed_ori"].long(), reference["parsed_gui"].long()
    mask = object_mask(guidance, photo, ParsedFaces.of(guidance, *labels))
    deoccluded, carrying = swap(photo, guidance, textured, mask)
    view = torch.rad2deg(reference["angles_used"][:, [1, 0, 2]])
    once, rotated = rotate_twice(reference_model, faces, deoccluded, view)
    full = full_mask(rotated, carrying, photo, ParsedFaces.of(carrying, *labels))
    assert_close(turned(faces.front_shape, view), reference["rotated_vertices"], 1e-5)
    for name, ours, expected in (
        ("textured", textured, picture(reference["render1_rot_bgr"]).flip(1)),
        ("guidance", guidance, picture(reference["render2_gui_bgr"]).flip(1)),
        ("object mask", mask, reference["mask_obj"]),
        ("de-occluded", deoccluded, reference["swapped_image_rgb"]),
        ("colours", sample_vertex_colours(deoccluded, faces.pixels), reference["colors2_rgb"]),
        ("rotated once", once, picture(reference["render3_rotated_rgb"])),
        ("rotated", rotated, picture(reference["out_rot_rgb"])),
        ("carrying guidance", carrying, picture(reference["out_gui_rgb"])),
        ("full mask", full, reference["mask_full"].float()),
        ("occlusion mask", (3 * full + mask) / 4, reference["out_occ_mask"]),
    ):
        assert share_beyond(ours, expected, 1e-2) <= 1e-2, name


@pytest.mark.parametrize("name", ["pose5", "front"])
def test_rotation_at_test_time(fixture, reference_model, name):
    reference = fixture("test_pairs")
    coefficients = from_regressed(reference["coef"])
    faces = reconstruct(reference_model, coefficients)
    pitch = coefficients.pose[:, 1] if name == "front" else torch.full((2,), 5.0)
    view = torch.stack([torch.zeros(2), pitch, torch.zeros(2)], dim=1)
    pair = rotate_once(reference_model, faces, picture(reference["image_bgr_uint8"]).flip(1), view)
    assert share_beyond(pair.rotated, picture(reference[f"rotated_{name}_bgr"]).flip(1), 1e-2) <= 1e-2
    assert share_beyond(pair.guidance, picture(reference[f"guidance_{name}_bgr"]).flip(1), 1e-2) <= 1e-2
    if name == "front":
        # The reference flips y about the last row, not about the frame's edge: its points lie 1 px higher.
        assert_close(pair.keypoints - torch.tensor([0.0, 1.0]), reference["landmarks_front"], 1e-3)


@pytest.mark.parametrize("number", [0, 1])
def test_alignment(fixture, number):
    reference = {key: value.numpy() for key, value in fixture("preprocess_synthetic").items()}
    photo = reference[f"img{number}_rgb_uint8"]
    context, _ = align_photo(photo, reference[f"img{number}_lm5"])
    difference = context[48:272, 48:272].astype(int) - reference[f"img{number}_aligned_bgr_uint8"][..., ::-1]
    # Pillow takes the edges of a part in float32, those of a whole picture exactly.
    assert np.abs(difference).max() <= 1 and np.abs(difference).mean() < 0.01
