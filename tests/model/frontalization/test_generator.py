"""A trained generator as the painter, and the identity encoder, with stand-in weights."""

import pytest
import torch

from cfr.model.alignment import CONTEXT_MARGIN, CONTEXT_SIZE
from cfr.model.checkpoints import CheckpointError, load_generator
from cfr.model.frontalization.frontalizer import Frontalizer
from cfr.model.frontalization.generator import GeneratorPainter
from cfr.model.frontalization.identity import IdentityComparison
from cfr.model.frontalization.scene import SourceFaces, build_scene
from cfr.model.frontalization.templates import TEMPLATES
from cfr.model.networks.cfrnet import CFRNet
from cfr.model.networks.identity_encoder import IdentityEncoder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, stand_in):
    """A small generator in the authors' packing."""
    path = tmp_path_factory.mktemp("generator") / "generator.pth"
    torch.save({"G_state_dict": stand_in(CFRNet(width=8, residual_blocks=2)).state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def faces(astronaut) -> SourceFaces:
    photo, fit = astronaut
    context = torch.nn.functional.pad(photo, (CONTEXT_MARGIN,) * 4, mode="replicate")
    inside = torch.ones(1, CONTEXT_SIZE, CONTEXT_SIZE, dtype=torch.bool)
    occluder = torch.zeros(1, 224, 224, dtype=torch.bool)
    return SourceFaces(context, inside, occluder, fit.coefficients.concatenated())


@torch.inference_mode()
def test_the_painter_computes_what_the_network_does(checkpoint, picture):
    rotated, guidance = picture(2, 224), picture(4, 224)[2:]
    image, mask = load_generator(checkpoint)(rotated, guidance)
    painted, painted_mask = GeneratorPainter(checkpoint).complete((rotated + 1) / 2, (guidance + 1) / 2)
    # Folded norms and another memory layout change the order of float32 sums.
    torch.testing.assert_close(painted, (image + 1) / 2, rtol=0, atol=1e-3)
    torch.testing.assert_close(painted_mask, mask[:, 0], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("template", "size"), [("crop224", 224), ("arcface112", 112)])
def test_the_mesh_shows_what_the_network_paints(checkpoint, faces, template, size):
    frontalizer = Frontalizer(generator=checkpoint)
    pose = torch.zeros(1, 3)
    result = frontalizer.frontalize(faces, pose, TEMPLATES[template], size)
    assert result.picture.shape == (1, 3, size, size)
    composite = Frontalizer().frontalize(faces, pose, TEMPLATES[template], size)
    middle = slice(size // 3, 2 * size // 3)
    assert (result.picture - composite.picture)[..., middle, middle].abs().mean() > 0.02
    assert result.landmarks5.numpy() == pytest.approx(composite.landmarks5.numpy(), abs=0.1)
    if size == 224:
        scene = build_scene(frontalizer.model, frontalizer.occluders, faces, pose, TEMPLATES[template], size)
        painted = frontalizer.painter.paint(scene).colour
        torch.testing.assert_close(result.picture[..., 100:120, 100:120], painted[..., 100:120, 100:120])


@torch.inference_mode()
def test_the_authors_generator_paints_what_their_code_did(reference_state, recorded, tmp_path):
    """In the packing of their training: DataParallel, beside an optimiser's state."""
    state = {f"module.{name}": values for name, values in reference_state("CFRNet").items()}
    torch.save({"G_state_dict": state, "epoch": 55}, tmp_path / "CFRNet_G_ep55_vgg.pth")
    expected = recorded("cfrnet")
    painter = GeneratorPainter(tmp_path / "CFRNet_G_ep55_vgg.pth")
    image, mask = painter.complete((expected["rot"] + 1) / 2, (expected["gui"] + 1) / 2)
    # Float32 against float64, and pictures in 0..1 in place of -1..1: half of test_cfrnet's tolerance.
    torch.testing.assert_close(image, (expected["image"] + 1) / 2, rtol=0, atol=1e-3)
    torch.testing.assert_close(mask, expected["mask"][:, 0], rtol=0, atol=1e-3)


@torch.inference_mode()
def test_the_authors_identity_encoder_tells_what_their_code_did(reference_state, recorded, tmp_path):
    torch.save(reference_state("IR_SE_50_112"), tmp_path / "face_res_50.pth")
    expected = recorded("arcface")
    comparison = IdentityComparison(tmp_path / "face_res_50.pth")
    pictures = [(expected[name].float() + 1) / 2 for name in ("input_rgb", "input2_rgb")]
    # Landmarks where the recogniser's template has them: the pictures are its crops already.
    points = torch.from_numpy(TEMPLATES["arcface112"].points)[None].float()
    similarity = comparison.similarity(pictures[0], points, pictures[1], points)
    # The crop is resampled, at its own pixels: float32 weights of about 1e-6 off whole ones.
    torch.testing.assert_close(similarity, expected["cosine"].view(1).float(), rtol=0, atol=1e-3)


def test_a_wrong_file_is_named(tmp_path):
    path = tmp_path / "encoder.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"encoder\.pth does not fit CFRNet"):
        Frontalizer(generator=path)
    with pytest.raises(CheckpointError, match=r"encoder\.pth does not fit IdentityEncoder"):
        IdentityComparison(path)


def test_identity_similarity(tmp_path_factory, stand_in, astronaut, faces):
    path = tmp_path_factory.mktemp("identity") / "encoder.pth"
    torch.save(stand_in(IdentityEncoder()).state_dict(), path)
    comparison = IdentityComparison(path)
    points = torch.tensor([[[80.0, 90], [140, 90], [110, 125], [88, 155], [132, 155]]])
    larger = torch.nn.functional.interpolate(faces.photo, scale_factor=2, mode="bilinear", align_corners=False)
    same = comparison.similarity(faces.photo, points, larger, 2 * points)
    other = comparison.similarity(faces.photo, points, 1 - faces.photo, points)
    assert same.item() > 0.99
    assert -1 <= other.item() < same.item()
