"""The paper's steps as the stages call them, pictures rounded to 8 bits in between."""

import pytest
import torch
from torch import Tensor, nn

from cfr.model.alignment import CONTEXT_MARGIN
from cfr.model.paper.recipe import DoubleRotator, OcclusionTransfer, RegressionFitter
from cfr.model.paper.renderer import render
from cfr.model.swap import SwappedFaces


class Regressor(nn.Module):
    """Says the same of every mini-batch, and keeps what it was shown."""

    def __init__(self, coefficients: Tensor):
        super().__init__()
        self.coefficients = coefficients

    def forward(self, image: Tensor) -> Tensor:
        self.seen = image
        return self.coefficients


class Parsing(nn.Module):
    """The labels of photos and of guidances, in turn."""

    def __init__(self, photo: Tensor, guidance: Tensor):
        super().__init__()
        self.answers = [photo, guidance]

    def labels(self, image: Tensor) -> Tensor:
        answer = self.answers.pop(0)
        self.answers.append(answer)
        return answer


def rounded(picture: Tensor) -> Tensor:
    """As between two stages."""
    return (picture.clamp(0, 1) * 255).round() / 255


def in_context(crop: Tensor) -> Tensor:
    """(B,3,224,224) uint8 -> (B,320,320,3) uint8 with a black margin."""
    return nn.functional.pad(crop, (CONTEXT_MARGIN,) * 4).permute(0, 2, 3, 1).contiguous()


def test_steps_give_the_reference_pair(fixture, reference_model):
    """99% of pixels within 1e-2, as stated with the fixture, although pictures are rounded in between."""
    reference = fixture("swap")
    photo = reference["image_bgr_uint8"].flip(1)
    regressor = Regressor(reference["coef"])
    fit = RegressionFitter(regressor, reference_model).fit(in_context(photo), torch.zeros(2, 5, 2))
    torch.testing.assert_close(regressor.seen, photo.float() / 255)
    row = fit.coefficients.concatenated()
    parsing = Parsing(reference["parsed_ori"].long(), reference["parsed_gui"].long())
    transfer = OcclusionTransfer(reference_model, parsing)
    mask, deoccluded, guidance = transfer.transfer(photo.float() / 255, rounded(fit.guidance), row)
    faces = SwappedFaces(photo.float() / 255, rounded(deoccluded), rounded(guidance), rounded(mask), fit.face_mask)
    view = torch.rad2deg(reference["angles_used"][:, [1, 0, 2]])
    result = DoubleRotator(reference_model, parsing).rotate(faces, row, view)
    for ours, expected in (
        (rounded(result.rotated), reference["out_rot_rgb"].permute(0, 3, 1, 2).clamp(0, 1)),
        (faces.guidance, reference["out_gui_rgb"].permute(0, 3, 1, 2).clamp(0, 1)),
        (rounded(result.occlusion_mask)[:, None], reference["out_occ_mask"]),
    ):
        assert ((ours - expected).abs() > 1e-2).float().mean() <= 1e-2
    assert torch.equal(result.visible, result.occlusion_mask < 0.5)


def test_fit_error_is_the_distance_of_the_five_points(own_model):
    """Landmarks that lie on the mesh have no error; moved by 5 px each, 5 px over the face's size."""
    coefficients = torch.zeros(1, 257)
    fitter = RegressionFitter(Regressor(coefficients), own_model)
    context = torch.full((1, 320, 320, 3), 128, dtype=torch.uint8)
    start = fitter.fit(context, torch.zeros(1, 5, 2))
    assert start.face_mask.any() and not start.guidance[:, :, ~start.face_mask[0]].any()
    vertices = own_model.shape(torch.zeros(1, 80), torch.zeros(1, 64))[0, own_model.keypoints]
    pixels = 112 + 1015 * vertices[:, :2] * torch.tensor([1.0, -1.0]) / (10 - vertices[:, 2:])
    five = torch.stack([(pixels[36] + pixels[39]) / 2, (pixels[42] + pixels[45]) / 2, *pixels[[30, 48, 54]]])
    size = (pixels.amax(0) - pixels.amin(0)).prod().sqrt()
    assert fitter.fit(context, five[None]).fit_error.item() == pytest.approx(0, abs=1e-5)
    moved = five + torch.tensor([3.0, -4.0])
    assert fitter.fit(context, moved[None]).fit_error.item() == pytest.approx(float(5 / size), rel=1e-3)


def test_an_occluder_goes_to_the_guidance(own_model, own_faces, own_coefficients):
    """A green patch over a cheek: in the guidance afterwards, in both masks, and out of the photo."""
    mesh = render(own_faces.shape, own_faces.colour, own_model.triangles)
    covered = (mesh > 0).any(1)
    photo = torch.where(covered[:, None], mesh, 0.5)
    patch = torch.zeros_like(covered)
    patch[:, 80:150, 70:135] = True
    patch &= covered
    photo = torch.where(patch[:, None], torch.tensor([0.1, 0.5, 0.2]).view(1, 3, 1, 1), photo)
    coefficients = own_coefficients.concatenated()
    parsing = Parsing(torch.where(patch, 0, covered.long()), covered.long())
    mask, deoccluded, guidance = OcclusionTransfer(own_model, parsing).transfer(photo, mesh, coefficients)
    inner = nn.functional.max_pool2d(1 - patch[:, None].float(), 9, 1, 4)[:, 0] == 0
    assert mask[inner].min() == 1
    green = torch.tensor([0.1, 0.5, 0.2])
    for picture, painted in ((guidance, True), (deoccluded, False)):
        distance = (picture.permute(0, 2, 3, 1)[inner] - green).abs().amax(1)
        assert (distance < 0.05).all() == painted and (distance < 0.05).any() == painted
    faces = SwappedFaces(photo, deoccluded, guidance, mask, covered)
    result = DoubleRotator(own_model, parsing).rotate(faces, coefficients, torch.tensor([[30.0, 0, 0], [-20.0, 0, 0]]))
    assert result.occlusion_mask[inner].min() == 1
    assert {round(value, 3) for value in result.occlusion_mask.unique().tolist()} <= {0, 0.15, 0.25, 0.75, 0.9, 1}
