"""Frontal pictures of rendered faces, whose true frontal view is known, and of a real photo."""

import pytest
import torch

from cfr.model.alignment import CONTEXT_MARGIN, CONTEXT_SIZE, crop_affine
from cfr.model.coefficients import Coefficients
from cfr.model.frontalization.framing import reframe
from cfr.model.frontalization.frontalizer import Frontalizer
from cfr.model.frontalization.scene import SourceFaces, build_scene
from cfr.model.frontalization.templates import TEMPLATES
from cfr.model.frontalization.views import mirrored, photo_view
from cfr.model.lighting import shade
from cfr.model.morphology import dilate, erode
from cfr.model.rasterize import interpolate

CROP = TEMPLATES["crop224"]
FRONTAL = torch.zeros(2, 3)
_GREY = 0.5


@pytest.fixture(scope="module")
def frontalizer() -> Frontalizer:
    return Frontalizer()


def rendered(model, coefficients: Coefficients) -> tuple[torch.Tensor, torch.Tensor]:
    """Context crops (B,3,320,320) of faces before grey, and vertex colours (B,V,3) with the light of the photo."""
    vertices = model.shape(coefficients.identity, coefficients.expression)
    view = photo_view(model, vertices, model.vertex_normals(vertices), coefficients)
    colour = (model.albedo(coefficients.albedo) * shade(view.mesh.normals, coefficients.light)).clamp(0, 1)
    picture = interpolate(view.gbuffer, colour, model.triangles)
    return torch.where(view.gbuffer.covered[:, None], picture, _GREY), colour


def sources(photo: torch.Tensor, coefficients: Coefficients, occluder: torch.Tensor | None = None) -> SourceFaces:
    inside = torch.ones(len(photo), CONTEXT_SIZE, CONTEXT_SIZE, dtype=torch.bool)
    none = torch.zeros(len(photo), 224, 224, dtype=torch.bool)
    return SourceFaces(photo, inside, none if occluder is None else occluder, coefficients.concatenated())


def truth(frontalizer, faces, colour, pose, template=CROP, size=224):
    """What the wanted view of rendered faces looks like (B,3,S,S), and the mesh (B,S,S)."""
    scene = build_scene(frontalizer.model, frontalizer.occluders, faces, pose, template, size)
    return interpolate(scene.target.gbuffer, colour, frontalizer.model.triangles), scene.target.gbuffer.covered


def error(picture, expected, mask) -> torch.Tensor:
    """Mean absolute difference per face inside the mesh without its rim, which mixes with the background."""
    inside = erode(mask, 9).float()
    return ((picture - expected).abs().mean(1) * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)


@pytest.mark.parametrize("pose", [(0.0, 0.0, 0.0), (15.0, -5.0, 8.0)])
def test_turned_faces_look_as_if_rendered_at_the_wanted_pose(frontalizer, rendered_faces, pose):
    coefficients = rendered_faces.coefficients
    photo, colour = rendered(frontalizer.model, coefficients)
    faces, wanted = sources(photo, coefficients), torch.tensor([pose, pose])
    result = frontalizer.frontalize(faces, wanted, CROP, 224)
    expected, mesh = truth(frontalizer, faces, colour, wanted)
    # Resampling, and the mirrored side, which in these faces is lit a little differently.
    assert (error(result.picture, expected, mesh) < 0.03).all()
    assert (result.own_fraction > 0.35).all() and (result.own_fraction + result.mirrored_fraction > 0.85).all()
    own = ~result.synthesised & mesh
    difference = (result.picture - expected).abs().mean(1)
    assert difference[own].median() < 0.01


def test_the_hidden_side_of_a_profile_is_the_mirrored_one(frontalizer, rendered_faces):
    coefficients = rendered_faces.coefficients
    pose = torch.tensor([[65.0, 0.0, 0.0], [-65.0, 0.0, 0.0]])
    light = torch.zeros_like(coefficients.light)
    light[:, 0] = 1.0
    turned = Coefficients(*{**vars(coefficients), "pose": pose, "light": light}.values())
    photo, colour = rendered(frontalizer.model, turned)
    faces = sources(photo, turned)
    result = frontalizer.frontalize(faces, FRONTAL, CROP, 224)
    assert (result.mirrored_fraction > 0.3).all()
    # The nose points to image right: the photo shows the side that is at image left in the frontal picture.
    assert result.synthesised[0, 80:150, 130:160].float().mean() > 0.9
    assert result.synthesised[0, 80:150, 60:90].float().mean() < 0.3
    assert result.synthesised[1, 80:150, 60:90].float().mean() > 0.9
    expected, mesh = truth(frontalizer, faces, colour, FRONTAL)
    # The faces themselves are not symmetric.
    assert (error(result.picture, expected, mesh) < 0.06).all()


def test_beside_a_frontal_face_lies_the_background_and_not_the_back_of_the_head(frontalizer, rendered_faces):
    """Two profiles with blue hair behind the mesh and green walls before them."""
    coefficients = rendered_faces.coefficients
    pose = torch.tensor([[65.0, 0.0, 0.0], [-65.0, 0.0, 0.0]])
    turned = Coefficients(*{**vars(coefficients), "pose": pose}.values())
    photo, _ = rendered(frontalizer.model, turned)
    behind = torch.arange(CONTEXT_SIZE).expand(2, CONTEXT_SIZE, CONTEXT_SIZE) < CONTEXT_SIZE / 2
    behind[1] = ~behind[1]
    blue, green = (torch.tensor(colour)[:, None, None] for colour in ([0.1, 0.1, 0.9], [0.1, 0.8, 0.1]))
    wall = (photo - _GREY).abs().amax(1, keepdim=True) < 1e-6
    photo = torch.where(wall, torch.where(behind[:, None], blue, green), photo)
    result = frontalizer.frontalize(sources(photo, turned), FRONTAL, CROP, 224)
    is_green = result.picture[:, 1] - result.picture[:, [0, 2]].amax(1) > 0.3
    is_blue = result.picture[:, 2] - result.picture[:, :2].amax(1) > 0.3
    for side in (slice(0, 20), slice(204, 224)):
        assert is_green[:, 60:150, side].float().mean() > 0.95
    # Hair shows as a band beside the face.
    assert 0.002 < is_blue[:, 60:150].float().mean() < 0.15


def test_hair_around_a_frontal_face_stays_around_the_turned_one(frontalizer, rendered_faces):
    """Two faces from the front with blue hair around them before a green wall, turned to both sides."""
    coefficients = rendered_faces.coefficients
    light = torch.zeros_like(coefficients.light)
    light[:, 0] = 1.0
    frontal = Coefficients(*{**vars(coefficients), "pose": torch.zeros(2, 3), "light": light}.values())
    photo, _ = rendered(frontalizer.model, frontal)
    mesh = (photo != _GREY).any(1)
    blue, green = torch.tensor([0.1, 0.1, 0.9]), torch.tensor([0.1, 0.8, 0.1])
    around = torch.where(dilate(mesh, 33)[:, None], blue.view(1, 3, 1, 1), green.view(1, 3, 1, 1))
    photo = torch.where(mesh[:, None], photo, around)
    faces, wanted = sources(photo, frontal), torch.tensor([[25.0, 0.0, 0.0], [-25.0, 0.0, 0.0]])
    picture = frontalizer.frontalize(faces, wanted, CROP, 224).picture[:, :, 60:110]
    # Outwards on the far side, the second face mirrored.
    far = torch.stack([picture[0], picture[1].flip(-1)])[..., 140:]
    is_skin = far[:, 0] > 0.25
    is_hair = (far[:, 2] - far[:, 1] > 0.2) & ~is_skin
    is_wall = (far[:, 2] - far[:, 1] < 0) & (far[:, 1] > 0.35) & ~is_skin  # eyes are dark, too
    assert (is_hair.sum(-1) >= 5).all()
    # Face, hair, wall: no wall comes before the last of the hair.
    columns = torch.arange(far.shape[-1])
    last_hair = torch.where(is_hair, columns, -1).amax(-1, keepdim=True)
    assert not (is_wall & (columns < last_hair)).any()


def test_an_occluder_disappears_and_hair_over_the_forehead_stays(frontalizer, rendered_faces):
    coefficients = rendered_faces.coefficients
    photo, _ = rendered(frontalizer.model, coefficients)
    occluder = torch.zeros(2, 224, 224, dtype=torch.bool)
    occluder[:, 125:165, 90:140] = True  # over the mouth
    occluder[:, 0:70] = True  # from above down to the forehead
    margin = CONTEXT_MARGIN
    blue = torch.tensor([0.05, 0.1, 0.9])[:, None]
    covered = photo.clone()
    inner = covered[:, :, margin:-margin, margin:-margin]
    inner.permute(1, 0, 2, 3)[:, occluder] = blue
    result = frontalizer.frontalize(sources(covered, coefficients, occluder), FRONTAL, CROP, 224)
    is_blue = (result.picture[:, 2] - result.picture[:, 0]) > 0.3
    assert not is_blue[:, 100:200].any()
    assert is_blue[:, :40, 80:140].float().mean() > 0.8


def in_even_light(coefficients: Coefficients, pose) -> Coefficients:
    light = torch.zeros_like(coefficients.light)
    light[:, 0] = 1.0
    return Coefficients(*{**vars(coefficients), "pose": torch.tensor(pose), "light": light}.values())


def heights(frontalizer, faces) -> torch.Tensor:
    """(B,1,224,224) dm on the mean face, of the frontal view."""
    scene = build_scene(frontalizer.model, frontalizer.occluders, faces, FRONTAL, CROP, 224)
    height = frontalizer.model.mean_shape[:, 1:2].expand(2, -1, -1)
    return interpolate(scene.target.gbuffer, height, frontalizer.model.triangles)


def test_above_a_cut_forehead_the_face_fades_into_the_background(frontalizer, rendered_faces):
    """No outline of a bald head where the photo shows no head."""
    turned = in_even_light(rendered_faces.coefficients, [[30.0, 0.0, 0.0], [-30.0, 0.0, 0.0]])
    photo, _ = rendered(frontalizer.model, turned)
    faces = sources(photo, turned)
    cut = CONTEXT_MARGIN + 60
    faces.inside[:, :cut] = False
    faces.photo[:, :, :cut] = 0
    result = frontalizer.frontalize(faces, FRONTAL, CROP, 224)
    height = heights(frontalizer, faces)[:, 0]
    top = height.flatten(1).amax(1)[:, None, None]
    crown, brow = (height > top - 0.1) & (height > 0), (height > 0.25) & (height < 0.35)
    away = (result.picture - _GREY).abs().mean(1)
    for index in range(2):
        assert away[index][crown[index]].mean() < 0.3 * away[index][brow[index]].mean()
        assert result.synthesised[index][crown[index]].all()


def test_a_beard_goes_on_across_the_middle_that_a_profile_hides(frontalizer, rendered_faces):
    turned = in_even_light(rendered_faces.coefficients, [[70.0, 0.0, 0.0], [-70.0, 0.0, 0.0]])
    vertices = frontalizer.model.shape(turned.identity, turned.expression)
    view = photo_view(frontalizer.model, vertices, frontalizer.model.vertex_normals(vertices), turned)
    height = interpolate(
        view.gbuffer, frontalizer.model.mean_shape[:, 1:2].expand(2, -1, -1), frontalizer.model.triangles
    )
    photo, _ = rendered(frontalizer.model, turned)
    faces = sources(torch.where((height < -0.45) & view.gbuffer.covered[:, None], photo * 0.25, photo), turned)
    picture = frontalizer.frontalize(faces, FRONTAL, CROP, 224).picture.mean(1)
    wanted = heights(frontalizer, faces)[:, 0]
    chin = (wanted < -0.55) & (wanted > -0.7)
    middle, sides = torch.zeros_like(chin), torch.zeros_like(chin)
    middle[:, :, 106:118] = True
    sides[:, :, 76:92] = sides[:, :, 132:148] = True
    for index in range(2):
        between = picture[index][(chin & middle)[index]].mean() / picture[index][(chin & sides)[index]].mean()
        # Unshaded skin would be four times as bright.
        assert 0.6 < between < 1.6


@pytest.mark.parametrize(("blank", "yaw"), [(True, 20.0), (False, 20.0), (True, 10.0)])
def test_turned_eyes_without_an_iris_get_one_and_others_are_kept(frontalizer, rendered_faces, blank, yaw):
    turned = in_even_light(rendered_faces.coefficients, [[yaw, 0.0, 0.0], [-yaw, 0.0, 0.0]])
    photo, _ = rendered(frontalizer.model, turned)
    faces = sources(photo, turned)
    model = frontalizer.model
    eyeball = torch.isin(model.region, torch.tensor([model.region_names.index(n) for n in ("sclera", "iris", "pupil")]))
    labels = torch.stack([eyeball, torch.isin(model.region, torch.tensor([model.region_names.index("pupil")]))], -1)
    labels = labels.float().expand(2, -1, -1)
    if blank:
        scene = build_scene(model, frontalizer.occluders, faces, FRONTAL, CROP, 224)
        shown = interpolate(scene.source.gbuffer, labels, model.triangles)[:, :1] > 0.5
        faces = sources(torch.where(dilate(shown, 3), torch.tensor(0.8), photo), turned)
    result = frontalizer.frontalize(faces, FRONTAL, CROP, 224)
    scene = build_scene(model, frontalizer.occluders, faces, FRONTAL, CROP, 224)
    eyes, pupils = (interpolate(scene.target.gbuffer, labels, model.triangles) > 0.5).unbind(1)
    brightness = result.picture.mean(1)
    for index in range(2):
        made = result.synthesised[index][eyes[index]].float().mean()
        contrast = brightness[index][pupils[index]].mean() / brightness[index][eyes[index]].mean()
        if blank and yaw < 15:
            # Closed, as far as one can tell.
            assert contrast > 0.9 and made < 0.7
        else:
            assert contrast < 0.75 and (made == 1 if blank else made < 0.7)


def test_faces_do_not_depend_on_each_other(frontalizer, rendered_faces):
    coefficients = rendered_faces.coefficients
    photo, _ = rendered(frontalizer.model, coefficients)
    both = frontalizer.frontalize(sources(photo, coefficients), FRONTAL, CROP, 224)
    first = Coefficients(*(value[:1] for value in vars(coefficients).values()))
    alone = frontalizer.frontalize(sources(photo[:1], first), FRONTAL[:1], CROP, 224)
    # Sums over a batch of another size are rounded differently; single pixels may change sides at a threshold.
    assert ((both.picture[:1] - alone.picture).abs().amax(1) < 2 / 255).float().mean() > 0.999


@pytest.mark.parametrize("name", list(TEMPLATES))
@pytest.mark.parametrize("size", [112, 224, 300])
def test_results_are_framed_by_the_template(frontalizer, rendered_faces, name, size):
    coefficients = rendered_faces.coefficients
    photo, colour = rendered(frontalizer.model, coefficients)
    faces, template = sources(photo, coefficients), TEMPLATES[name]
    result = frontalizer.frontalize(faces, FRONTAL, template, size)
    assert result.picture.shape == (2, 3, size, size)
    # Framed already: the template would leave it where it is. float32 pixels.
    for points in result.landmarks5.numpy():
        identity = template.affine(points, size) * [1, 1, 1, 1, 1, 1]
        assert identity == pytest.approx([1, 0, 0, 0, 1, 0], abs=0.02 * size / 100)
    expected, mesh = truth(frontalizer, faces, colour, FRONTAL, template, size)
    assert (error(result.picture, expected, mesh) < 0.03).all()


def test_arcface_points():
    """The five points of the published 112-pixel template are where they belong."""
    wanted = torch.tensor([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]]) + 0.5
    turned = torch.stack([-wanted[:, 1], wanted[:, 0]], -1) * 3 + 7
    found = TEMPLATES["arcface112"].moved(turned[None].numpy(), 112)[0]
    assert found == pytest.approx(wanted.numpy(), abs=0.02)


def test_reframe_of_a_framed_crop_changes_nothing():
    anywhere = torch.tensor([[[40.0, 50], [90, 50], [65, 80], [45, 100], [85, 100]]])
    points = CROP.moved(anywhere.numpy(), 224)
    assert crop_affine(points[0]) == pytest.approx([1, 0, 0, 0, 1, 0], abs=1e-6)
    picture = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(reframe(picture, torch.from_numpy(points), CROP, 224), picture, rtol=0, atol=1e-4)


def test_the_mirror_image_of_a_mirror_image_is_the_view(frontalizer, rendered_faces):
    model, coefficients = frontalizer.model, rendered_faces.coefficients
    vertices = model.shape(coefficients.identity, coefficients.expression)
    view = photo_view(model, vertices, model.vertex_normals(vertices), coefficients)
    twice = mirrored(mirrored(view, model.mirror), model.mirror)
    for name in ("pixels", "depth", "vertices", "normals"):
        torch.testing.assert_close(getattr(twice.mesh, name), getattr(view.mesh, name), rtol=0, atol=1e-4)
    torch.testing.assert_close(twice.rotation, view.rotation)
    torch.testing.assert_close(twice.landmarks5, view.landmarks5, rtol=0, atol=1e-4)


def test_places_in_a_frame_and_in_space_are_inverse(frontalizer, rendered_faces):
    model, coefficients = frontalizer.model, rendered_faces.coefficients
    vertices = model.shape(coefficients.identity, coefficients.expression)
    view = photo_view(model, vertices, model.vertex_normals(vertices), coefficients)
    pixels, depth = view.to_frame(vertices)
    torch.testing.assert_close(pixels, view.mesh.pixels, rtol=0, atol=1e-3)
    torch.testing.assert_close(view.to_model(pixels, depth), vertices, rtol=0, atol=1e-4)


def test_a_real_portrait_stays_the_portrait(frontalizer, astronaut):
    """The bundled portrait is frontal: turned to its own pose it is the photo again, around the face, too."""
    photo, fit = astronaut
    context = torch.nn.functional.pad(photo, (CONTEXT_MARGIN,) * 4, mode="replicate")
    result = frontalizer.frontalize(sources(context, fit.coefficients), fit.coefficients.pose, CROP, 224)
    assert result.own_fraction > 0.85
    shift = torch.stack([torch.roll(photo, (dy, dx), (2, 3)) for dy in range(-4, 5) for dx in range(-4, 5)])
    # Framed by the mesh's five points instead of the detector's: a shift of some pixels is to be expected.
    difference = (shift - result.picture).abs().mean((1, 2, 3, 4))
    assert difference.min() < 0.04
