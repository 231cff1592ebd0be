"""The models of `cfr pairs --recipe paper`: the authors' files, behind the methods that the stages call."""

import functools
from dataclasses import dataclass

from cfr.transforms.models import DefaultModels, file_digest


@dataclass(frozen=True)
class PaperModels(DefaultModels):
    """The paper's fit, masks, swap and rotation; the detector is the default one, or RetinaFace.

    Attributes:
        device, detector_weights: as in DefaultModels.
        regressor, face_model, parsing: paths of the authors' files, which every worker must be able to open.
        true_lab: compare colours in Lab, and not in what the authors' code takes for it.
    """

    regressor: str = ""
    parsing: str = ""
    true_lab: bool = False

    def check(self) -> None:
        """Load every file once, and drop it.

        Raises:
            ValueError, OSError: a file is missing or is not what it has to be; the message names it and the fix.
            ImportError: SciPy is not installed.
        """
        for load, path in ((_face_model, self.face_model), (_regressor, self.regressor), (_parsing, self.parsing)):
            load.__wrapped__(path, "cpu")
        if self.detector_weights:
            self.detector()

    def parameters(self) -> dict[str, str]:
        """See DefaultModels."""
        return {"recipe": "paper", "lab": "true" if self.true_lab else "as published"}

    def alignment(self):
        """See DefaultModels."""
        from cfr.model.paper.alignment import align_photo

        return align_photo

    def fitter(self):
        """See DefaultModels."""
        from cfr.model.paper import recipe

        device = self.torch_device()
        return recipe.RegressionFitter(_regressor(self.regressor, device), _face_model(self.face_model, device), device)

    def occlusion_transfer(self):
        """See DefaultModels."""
        from cfr.model.paper import recipe

        device = self.torch_device()
        models = _face_model(self.face_model, device), _parsing(self.parsing, device)
        return recipe.OcclusionTransfer(*models, self.true_lab, device)

    def rotator(self):
        """See DefaultModels."""
        from cfr.model.paper import recipe

        device = self.torch_device()
        models = _face_model(self.face_model, device), _parsing(self.parsing, device)
        return recipe.DoubleRotator(*models, self.true_lab, device)

    def active(self) -> list[dict[str, str]]:
        """See DefaultModels."""
        default = DefaultModels(detector_weights=self.detector_weights).active()
        detector = [model for model in default if model["part"] == "detector"]
        files = {
            "fitting": ("ResNet-50 regressor of CFR-GAN", self.regressor),
            "face_model": ("Basel Face Model, 80 components", self.face_model),
            "face parsing": ("BiSeNet of CFR-GAN, 19 classes", self.parsing),
        }
        return detector + [
            {"part": part, "name": name, "licence": "see where the file is from", "digest": file_digest(path)}
            for part, (name, path) in files.items()
        ]

    def coefficient_layout(self) -> dict[str, tuple[int, int]]:
        """See DefaultModels."""
        from cfr.model.coefficients import coefficient_layout
        from cfr.model.networks.coefficient_regressor import PAPER_SIZES

        return coefficient_layout(PAPER_SIZES)


# Once per process: the steps share them.


@functools.cache
def _face_model(path: str, device: str):
    from cfr.model.paper.face_model import BaselFaceModel

    return BaselFaceModel.load(path, device)


@functools.cache
def _regressor(path: str, device: str):
    from cfr.model.checkpoints import load_checkpoint
    from cfr.model.networks.coefficient_regressor import CoefficientRegressor

    return load_checkpoint(path, CoefficientRegressor()).eval().requires_grad_(False).to(device)


@functools.cache
def _parsing(path: str, device: str):
    from cfr.model.parsing_labels import load_face_parsing

    return load_face_parsing(path).to(device)
