"""Shape and pose of faces from the coefficient regressor, as it looks at the crop and at its mirror image."""

from importlib import resources

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from cfr.model.camera import CROP_SIZE, rotation_matrix
from cfr.model.checkpoints import load_checkpoint
from cfr.model.estimated_faces import MorphableFaceEstimator
from cfr.model.estimator_losses import geometry_spread
from cfr.model.face_landmarks import UprightSquare
from cfr.model.face_model import MorphableModel
from cfr.model.landmark_fit import ShapePrior
from cfr.model.networks.facemesh_regressor import FaceMeshRegressor
from cfr.model.paper.reconstruction import from_regressed

WEIGHTS = "regressor.safetensors"


class ShapeEstimator:
    """One per process.

    Args:
        model: the face model, on the device that the network will run on.
        weights: file of `cfr train-estimator --network facemesh`, made with this face model; "": the package's own,
            which goes with the package's face model.

    Raises:
        FileNotFoundError, CheckpointError: no such file, or it does not fit.
    """

    def __init__(self, model: MorphableModel, weights: str = ""):
        self.faces = MorphableFaceEstimator(model)
        network = FaceMeshRegressor(model.sizes)
        if weights:
            load_checkpoint(weights, network)
        else:
            data = resources.files("cfr.model").joinpath("data", WEIGHTS).read_bytes()
            network.load_state_dict({name: value.float() for name, value in load_safetensors(data).items()})
        device = model.mean_shape.device
        self.network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.spread = geometry_spread(model.sizes).to(device)

    @torch.no_grad()
    def estimate(self, context: Tensor, landmarks5: Tensor) -> ShapePrior:
        """Shapes of a mini-batch, and how sure the network is of them.

        The crop is turned until the face is upright, as in training; the answer is turned back.

        Args:
            context: (B,3,320,320) float32 RGB 0..1, the crop with its margin.
            landmarks5: (B,5,2) crop px.
        """
        square = UprightSquare.of_crop(landmarks5.to(context))
        crop = square.cut(context, CROP_SIZE)
        rows, log_deviations = self.network.estimate(self.network.features(torch.cat([crop, crop.flip(3)])))
        straight, other = (from_regressed(each, self.faces.sizes) for each in rows.chunk(2))
        other = self.faces.mirrored(other)
        identity, expression, translation = (
            (getattr(straight, name) + getattr(other, name)) / 2 for name in ("identity", "expression", "translation")
        )
        rotation = _nearest_rotation(rotation_matrix(straight.pose) + rotation_matrix(other.pose))
        # x to the right and y up of the upright crop, in the camera of the crop.
        across, along = square.down.T
        zero, one = torch.zeros_like(along), torch.ones_like(along)
        turn = torch.stack([along, -across, zero, across, along, zero, zero, zero, one], 1).view(-1, 3, 3)
        deviation = self._mean_deviations(*log_deviations.chunk(2)) * self.spread
        return ShapePrior(identity, expression, turn @ rotation, (turn @ translation[..., None])[..., 0], deviation)

    def _mean_deviations(self, straight: Tensor, other: Tensor) -> Tensor:
        """Geometric means of log deviations (B,I+E+6) of pictures and mirrored ones."""
        expression = self.faces.model.expression_mirror + self.faces.sizes[0]
        other = other.clone()
        other[:, self.faces.sizes[0] : -6] = other[:, expression]
        return ((straight + other) / 2).exp()


def _nearest_rotation(matrices: Tensor) -> Tensor:
    """(B,3,3) rotations nearest to matrices."""
    u, _, vt = torch.linalg.svd(matrices)
    sign = torch.ones_like(matrices[:, 0])
    sign[:, 2] = torch.sign(torch.linalg.det(u @ vt))
    return u @ torch.diag_embed(sign) @ vt
