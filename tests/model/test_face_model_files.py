"""Face models that a user brings: what is read, what is carried over from the package's own, what is refused."""

import shutil

import numpy as np
import pytest
import torch
from ict_files import SHIFT, UNIT, write_ict_folder
from paper_files import basel_arrays, write_basel_file

from cfr.model.face_model import MorphableModel
from cfr.model.face_model_files import load_face_model
from cfr.model.face_model_transfer import nearest_on_surface, rigid_alignment
from cfr.model.fitting import FaceFitter
from cfr.model.ict_face_model import KEYPOINTS, read_folder


@pytest.fixture(scope="module")
def ict_folder(tmp_path_factory):
    return write_ict_folder(tmp_path_factory.mktemp("ict") / "ICT-FaceKit")


@pytest.fixture(scope="module")
def ict(ict_folder) -> MorphableModel:
    return load_face_model(str(ict_folder))


@pytest.fixture(scope="module")
def basel(tmp_path_factory) -> MorphableModel:
    return load_face_model(str(write_basel_file(tmp_path_factory.mktemp("basel") / "BFM_model_80.mat")))


def facemesh_points(model: MorphableModel) -> torch.Tensor:
    return model.surface_points(model.mean_shape[None], model.facemesh_triangles, model.facemesh_barycentric)[0]


def test_own_layout_and_default(tmp_path):
    assert load_face_model("") is MorphableModel.load_default("cpu")
    (tmp_path / "model.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="is not a face model file"):
        load_face_model(str(tmp_path / "model.npz"))


def test_basel_model_in_our_layout(basel, face_model):
    """The stand-in is the package's own face: what is carried over from it must come back as it is."""
    assert basel.sizes == (80, 128, 80)
    distance = (facemesh_points(basel) - facemesh_points(face_model)).norm(dim=-1)
    # The 68 points are vertices there and lie between vertices here: up to a millimetre.
    assert distance.median() < 0.005 and distance.max() < 0.02
    arrays = basel_arrays()
    coefficients = torch.randn(1, 80, generator=torch.Generator().manual_seed(0)) * 0.05
    linear = arrays["meantex"].reshape(-1, 3) + (arrays["texBase"] @ coefficients[0].numpy()).reshape(-1, 3)
    bright = linear.min(1) > 0.2
    np.testing.assert_allclose(basel.albedo(coefficients)[0].numpy()[bright], linear[bright], rtol=0.05)
    # An expression of one deviation, forwards and backwards.
    expression = torch.zeros(2, 128)
    expression[0, 3] = expression[1, 64 + 3] = 0.4
    shapes = basel.shape(torch.zeros(2, 80), expression) - basel.mean_shape
    torch.testing.assert_close(shapes[0], -shapes[1])
    mode = torch.from_numpy(arrays["exBase"][:, 3].copy()).view(-1, 3)
    assert shapes[0].norm() == pytest.approx(float(mode.norm()), rel=1e-4)


def test_ict_folder_is_read(ict_folder):
    face = read_folder(ict_folder)
    assert read_folder(ict_folder / "FaceXModel").digest == face.digest
    assert face.identities.shape == (4, 22752, 3) and face.expression_names[-1] == "jawOpen"
    own = MorphableModel.load_default()
    points = own.surface_points(own.mean_shape[None], own.ibug68_triangles, own.ibug68_barycentric)[0].numpy()
    # Centimetres and another origin there. The stand-in's grid goes through brows, nose, eyes and mouth.
    inner = KEYPOINTS[17:]
    assert np.abs(face.vertices[inner] - (points[17:] - SHIFT) * UNIT / 10).max() < 0.06
    assert set(face.part[face.triangles.ravel()]) == {"face", "eyeballs"}


def test_ict_face_takes_over_landmarks_albedo_and_regions(ict, ict_folder, face_model):
    assert ict.sizes == (4, 4, len(face_model.log_albedo_basis))
    assert ict.expression_names == ("browDown_L", "browDown_R", "eyeLookUp_L", "jawOpen")
    assert ict.frozen_expressions.tolist() == [False, False, True, False]
    assert ict.expression_mirror.tolist() == [1, 0, 2, 3]
    assert ict.license.startswith("MIT")
    distance = (facemesh_points(ict) - facemesh_points(face_model)).norm(dim=-1)
    assert distance.median() < 0.03
    names = np.array(face_model.region_names)
    region = names[ict.region.numpy()]
    height = ict.mean_shape[:, 1].numpy()
    part = read_folder(ict_folder).part
    assert set(region[part == "eyeballs"]) <= {"sclera", "iris", "pupil"} and set(region[part == "teeth"]) == {"teeth"}
    assert not set(region[part == "face"]) & {"sclera", "iris", "pupil", "teeth", "mouth_interior", "tongue"}
    lips, brows = height[:9409][region[:9409] == "lips"], height[:9409][region[:9409] == "brows"]
    assert len(lips) > 30 and len(brows) > 50 and lips.mean() < -0.2 and brows.mean() > 0.2
    tone = torch.zeros(1, ict.sizes[2])
    tone[0, 0] = 1.5
    skin = torch.from_numpy(np.isin(region, "skin"))
    ours = face_model.albedo(tone)[0, face_model.region == 0].mean(0)
    torch.testing.assert_close(ict.albedo(tone)[0, skin].mean(0), ours, atol=0.1, rtol=0)


@pytest.mark.parametrize("model", ["basel", "ict"])
def test_the_visible_recipe_fits_it(model, astronaut, photos_dir, request):
    """Within a few per cent of the face, the same pose as the package's own model, a guidance like the photo."""
    from cfr.model.alignment import align_photo, apply_affine
    from cfr.model.detector import MTCNN
    from cfr.model.images import decode_image

    image = decode_image((photos_dir / "astronaut.png").read_bytes())
    landmarks5 = MTCNN.load_default().detect(image).landmarks5[0]
    context, affine = align_photo(image, landmarks5)
    points = torch.from_numpy(apply_affine(landmarks5, affine)).float()[None]
    fit = FaceFitter(model=request.getfixturevalue(model)).fit(torch.tensor(context)[None], points)
    photo, own = astronaut
    assert fit.fit_error < 0.04
    assert (fit.coefficients.pose - own.coefficients.pose).abs().max() < 12
    both = fit.face_mask & own.face_mask
    assert both.sum() > 0.6 * own.face_mask.sum()
    assert (fit.guidance - photo).abs().mean(1)[both].mean() < 0.15


def test_real_ict_geometry(shared_dir):
    """The face of ICT-FaceKit itself, in the layout of the paper's face model: brows, eyes and lips are found on it."""
    from cfr.model.face_model_files import _from_basel
    from cfr.model.paper.face_model import BaselFaceModel

    with np.load(shared_dir / "fixtures" / "standin_face_model.npz") as archive:
        model = _from_basel(BaselFaceModel(dict(archive)))
    points = facemesh_points(model)
    keypoints = model.surface_points(model.mean_shape[None], model.ibug68_triangles, model.ibug68_barycentric)[0]
    # FaceMesh's corners of eyes and mouth, tip of the nose, chin; and the 68 points of the same name.
    for facemesh, ibug, tolerance in ((33, 36, 0.05), (263, 45, 0.05), (61, 48, 0.05), (291, 54, 0.05), (152, 8, 0.15)):
        assert (points[facemesh] - keypoints[ibug]).norm() < tolerance, (facemesh, ibug)


def test_nearest_points_are_the_nearest():
    """Against many points of every triangle."""
    generator = torch.Generator().manual_seed(0)
    vertices = torch.rand(30, 3, generator=generator)
    triangles = torch.randint(0, 30, (20, 3), generator=generator)
    triangles = triangles[(triangles[:, 0] != triangles[:, 1]) & (triangles[:, 1] != triangles[:, 2])]
    triangles = triangles[triangles[:, 0] != triangles[:, 2]]
    places = torch.rand(50, 3, generator=generator) * 1.5 - 0.25
    found, weights = nearest_on_surface(places, vertices, triangles)
    assert (weights >= 0).all() and torch.allclose(weights.sum(1), torch.ones(50), atol=1e-5)
    distance = ((vertices[triangles[found]] * weights[..., None]).sum(1) - places).norm(dim=-1)
    share = torch.rand(4000, 2, generator=generator).sort(dim=1).values
    inside = torch.stack([share[:, 0], share[:, 1] - share[:, 0], 1 - share[:, 1]], 1)
    samples = torch.einsum("nk,tkd->tnd", inside, vertices[triangles]).flatten(0, 1)
    nearest = torch.cdist(places, samples).amin(1)
    assert (distance <= nearest + 1e-5).all() and (nearest - distance).max() < 0.05


def test_rigid_alignment_undoes_a_motion():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(68, 3, generator=generator)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    rotation = rotation * torch.sign(torch.linalg.det(rotation))
    turned, shift = rigid_alignment(points @ rotation.T + 0.5, points)
    torch.testing.assert_close((points @ rotation.T + 0.5) @ turned.T + shift, points, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "generic_neutral_mesh.obj").unlink(), "a folder without generic_neutral_mesh.obj"),
        (lambda folder: (folder / "jawOpen.obj").write_text("v 1 2 3\n"), "jawOpen.obj has 1 vertices"),
        (lambda folder: (folder / "jawOpen.obj").write_text("v 1 two 3\n"), "jawOpen.obj is not an OBJ file"),
        (lambda folder: [file.unlink() for file in folder.glob("identity*.obj")], "no identity or no expression"),
        (lambda folder: (folder / "generic_neutral_mesh.obj").write_text("v 1 2 3\n"), "has 1 vertices; the face"),
    ],
)
def test_damaged_ict_folders_are_named(ict_folder, tmp_path, change, message):
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    for file in (ict_folder / "FaceXModel").iterdir():
        shutil.copyfile(file, folder / file.name)
    change(folder)
    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path)
