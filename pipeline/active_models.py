"""The models of a run, as its job hash and its schemas name them."""

import io
from importlib import resources

import numpy as np

from cfr.model.registry import ActiveModel, active_models

__all__ = ["ActiveModel", "active_models", "default_coefficient_layout"]


def default_coefficient_layout() -> dict[str, tuple[int, int]]:
    """Half-open ranges of the parts of `coefficients`, by name, for the default face model."""
    from cfr.model.coefficients import coefficient_layout

    data = resources.files("cfr.model").joinpath("data", "face_model.npz").read_bytes()
    with np.load(io.BytesIO(data)) as arrays:
        sizes = tuple(len(arrays[name]) for name in ("identity_basis", "expression_basis", "log_albedo_basis"))
    return coefficient_layout(sizes)
