"""The embedded model's albedo: what is painted where, and which skins it can and cannot describe."""

import pytest
import torch

from cfr.model.face_model import MorphableModel


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.load_default()


def _region(model: MorphableModel, *names: str) -> torch.Tensor:
    return torch.isin(model.region, torch.tensor([model.region_names.index(name) for name in names]))


def _mean_colour(model: MorphableModel, coefficients: torch.Tensor, *names: str) -> torch.Tensor:
    return model.albedo(coefficients)[0][_region(model, *names)].mean(0)


def _zeros(model: MorphableModel) -> torch.Tensor:
    return torch.zeros(1, len(model.log_albedo_basis))


def _luminance_field(model: MorphableModel) -> torch.Tensor:
    """(A, skin vertices) log luminance of the basis without the first three coefficients (skin tone)."""
    return model.log_albedo_basis[3:, _region(model, "skin")].mean(-1)


def test_average_face_has_features_where_they_belong(model):
    skin, lips, brows, sclera, iris, pupil, nostrils = (
        _mean_colour(model, _zeros(model), name)
        for name in ("skin", "lips", "brows", "sclera", "iris", "pupil", "nostrils")
    )
    assert skin[0] > skin[1] > skin[2]
    assert lips[0] / lips[1] > 1.15 * skin[0] / skin[1]
    assert brows.mean() < 0.8 * skin.mean()
    assert sclera.mean() > 1.3 * iris.mean() > 1.3 * pupil.mean()
    assert nostrils.mean() < 0.8 * skin.mean()


def test_what_may_be_covered_is_painted_as_people_look_on_average(model):
    """Crisp nostrils, lips and brows in a slightly wrong place cost more than they bring."""
    skin = _mean_colour(model, _zeros(model), "skin").mean()
    for name in ("nostrils", "teeth", "lips", "brows"):
        assert 0.5 * skin < _mean_colour(model, _zeros(model), name).mean() < 1.1 * skin, name


def test_average_face_and_most_variation_are_mirror_symmetric(model):
    mean = model.log_albedo_mean
    assert torch.equal(mean, mean[model.mirror])
    basis = model.log_albedo_basis
    odd = ((basis - basis[:, model.mirror]) / 2).pow(2).sum()
    assert 0 < odd < 0.2 * basis.pow(2).sum()


def test_colours_are_finite_and_positive(model):
    generator = torch.Generator().manual_seed(0)
    albedo = model.albedo(torch.randn(20, len(model.log_albedo_basis), generator=generator))
    assert torch.isfinite(albedo).all()
    assert albedo.min() > 0


def test_melanin_spans_very_pale_to_very_dark_skin_but_leaves_teeth_alone(model):
    pale, dark = _zeros(model), _zeros(model)
    pale[0, 0], dark[0, 0] = -1.6, 2.5
    assert _mean_colour(model, pale, "skin").mean() > 0.7
    assert _mean_colour(model, dark, "skin").mean() < 0.27
    torch.testing.assert_close(_mean_colour(model, pale, "teeth"), _mean_colour(model, dark, "teeth"))
    # Eyes stay visible in the darkest face; most of the eyeball lies in the shadow of the lids.
    sclera = model.albedo(dark)[0][_region(model, "sclera")].mean(-1)
    assert sclera.quantile(0.9) > 1.5 * _mean_colour(model, dark, "skin").mean()


@pytest.mark.parametrize("region", ["lips", "brows", "iris"])
def test_features_vary_between_people_more_than_skin_around_them(model, region):
    log_luminance = model.log_albedo_basis[3:].mean(-1)
    deviation = log_luminance.pow(2).sum(0).sqrt()
    assert deviation[_region(model, region)].mean() > 1.3 * deviation[_region(model, "skin")].mean()


def test_skin_varies_moderately(model):
    deviation = _luminance_field(model).pow(2).sum(0).sqrt()
    assert 0.04 < deviation.median() < 0.16


def test_face_paint_is_not_explained_as_skin(model):
    """A dark stripe down one cheek is left over even after a fit without any robustness."""
    skin = _region(model, "skin")
    x = model.mean_shape[skin][:, 0]
    paint = -1.0 * ((x - 0.35).abs() < 0.08).float()
    basis = _luminance_field(model)
    precision = 400 / skin.sum() / 0.15**2  # many correlated samples count as 400 with this noise
    normal = precision * basis @ basis.T + torch.eye(len(basis))
    explained = basis.T @ torch.linalg.solve(normal, precision * basis @ paint)
    assert (paint - explained).pow(2).sum() > 0.5 * paint.pow(2).sum()


def test_hidden_half_follows_the_visible_half(model):
    """Brightness seen on one side only is expected on the other side, too."""
    skin = _region(model, "skin")
    side = torch.nonzero(skin & (model.mean_shape[:, 0] > 0.1))[:, 0]
    field = model.log_albedo_basis[3:].mean(-1)
    here, there = field[:, side], field[:, model.mirror[side]]
    correlation = (here * there).sum(0) / (here.pow(2).sum(0) * there.pow(2).sum(0)).sqrt()
    assert correlation.median() > 0.6
