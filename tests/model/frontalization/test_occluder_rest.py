"""What an occluder's mask misses goes with it: a strap, what hangs below the chin, a rim; nothing else does."""

import pytest
import torch
from photographed_faces import BLUE, FRONTAL_POSES, colour_of, lower_face, painted, photographed, region, share

from cfr.model.frontalization.occluder_rest import OccluderRest
from cfr.model.frontalization.occluders import RemovableOccluders
from cfr.model.morphology import dilate

GREY = (0.55, 0.55, 0.55)


@pytest.fixture(scope="module")
def frontal(face_model, rendered_faces):
    """A photo against a grey wall, and its view."""
    photo, view = photographed(face_model, rendered_faces.coefficients, *FRONTAL_POSES)
    return painted(photo, ~view.gbuffer.covered, GREY), view


@pytest.fixture(scope="module")
def rest(face_model) -> OccluderRest:
    return OccluderRest(face_model)


def below(mask: torch.Tensor, rows: int) -> torch.Tensor:
    """Pixels under the lowest ones of a mask (B,H,W), up to so many."""
    shifted = [torch.roll(mask, row, -2) for row in range(1, rows + 1)]
    return torch.stack(shifted).any(0) & ~mask


def below_brows(brows: torch.Tensor) -> torch.Tensor:
    """All rows under the lowest of the brows (B,H,W)."""
    return torch.arange(brows.shape[-2])[:, None] > torch.nonzero(brows)[:, 1].max()


def strap(mask: torch.Tensor) -> torch.Tensor:
    """Four rows from the mask's middle to 60 pixels beyond its right end, (B,H,W)."""
    found = torch.zeros_like(mask)
    for item, each in zip(found, mask, strict=True):
        rows, columns = torch.nonzero(each).unbind(1)
        middle, end = int(rows.float().mean()), int(columns[rows == int(rows.float().mean())].max())
        item[middle - 2 : middle + 2, end + 1 : end + 61] = True
    return found


@pytest.mark.parametrize("colour", [BLUE, (0.95, 0.95, 0.95)])
def test_strap_and_what_hangs_below_the_chin_go_with_the_mask(face_model, rest, frontal, colour):
    photo, view = frontal
    mask = lower_face(face_model, view)
    hanging, line = below(mask, 10), strap(mask)
    masked = painted(photo, mask | hanging | line, colour)
    found = rest.added(masked, mask, ~mask, view)
    assert share(found, mask) == 1
    # It grows by cells of two pixels: those that the mask shares are left to its dilation, and some have a neighbour.
    found = dilate(found, 3)
    assert share(found, hanging) > 0.97
    assert share(found, line) > 0.97
    assert float((found & ~dilate(mask | hanging | line, 5)).sum() / found.sum()) < 0.02


def test_a_mask_that_found_half_of_it_is_completed(face_model, rest, frontal):
    photo, view = frontal
    whole = lower_face(face_model, view)
    half = whole & (torch.cumsum(whole.float(), -1) < whole.sum(-1, keepdim=True) * 0.85)
    masked = painted(photo, whole, BLUE)
    assert share(rest.added(masked, half, ~half, view), whole) > 0.97


def test_in_the_colour_of_skin_the_face_stays(face_model, rest, frontal):
    """A hand: where it ends and the face begins, no colour can tell."""
    photo, view = frontal
    mask = lower_face(face_model, view)
    hand = painted(photo, mask, colour_of(photo, region(face_model, view, "skin")))
    assert share(rest.added(hand, mask, ~mask, view), view.gbuffer.covered & ~mask) < 0.05


def test_glasses_do_not_go_on_in_hair_of_their_colour(face_model, rest, frontal):
    photo, view = frontal
    glasses = dilate(region(face_model, view, "sclera", "iris", "pupil", "eyelids"), 9)
    hair = ~view.gbuffer.covered | region(face_model, view, "brows", "ears", "scalp")
    dark = painted(photo, glasses | hair, (0.05, 0.05, 0.05))
    assert torch.equal(rest.added(dark, glasses, ~glasses, view), glasses)


def test_a_mask_does_not_go_on_in_brows_of_its_colour(face_model, rest, frontal):
    """One that was found up to the eyes."""
    photo, view = frontal
    brows = region(face_model, view, "brows")
    mask = (lower_face(face_model, view) | region(face_model, view, "skin", "eyelids")) & below_brows(brows)
    dark = painted(photo, mask | brows, (0.05, 0.05, 0.05))
    assert share(rest.added(dark, mask, ~mask, view), brows & ~mask) < 0.05


def test_without_an_occluder_nothing_is_added(rest, frontal):
    photo, view = frontal
    nothing = torch.zeros_like(view.gbuffer.covered)
    assert not rest.added(photo, nothing, ~nothing, view).any()


def test_a_frontal_picture_is_freed_of_all_of_a_mask(face_model, frontal):
    """Through `RemovableOccluders`: below the chin too, where hair alone would stay."""
    photo, view = frontal
    mask = lower_face(face_model, view) | region(face_model, view, "neck")
    masked = painted(photo, mask | strap(mask), BLUE)
    removed = RemovableOccluders(face_model).select(masked, mask[:, 48:272, 48:272], view)
    assert share(removed, mask | strap(mask)) > 0.95


def test_a_finer_photo_tells_the_same(face_model, rest, frontal):
    photo, view = frontal
    mask = lower_face(face_model, view)
    masked = painted(photo, mask | below(mask, 10), BLUE)
    finer = masked.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.equal(rest.added(finer, mask, ~mask, view), rest.added(masked, mask, ~mask, view))
