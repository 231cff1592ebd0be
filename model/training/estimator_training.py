"""Training of the 3D estimator: on renderings; then, as in CFR-GAN (section 3.1), on photos and from a teacher."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import mse_loss

from cfr.model import estimator_losses as losses
from cfr.model.camera import rotation_matrix
from cfr.model.checkpoints import load_checkpoint
from cfr.model.coefficients import Coefficients
from cfr.model.estimated_faces import EstimatedFaces, load_face_estimator
from cfr.model.losses import identity
from cfr.model.networks.coefficient_regressor import CoefficientRegressor
from cfr.model.networks.face_parsing import LABELS
from cfr.model.networks.facemesh_regressor import FaceMeshRegressor
from cfr.model.networks.identity_encoder import IdentityEncoder
from cfr.model.paper.reconstruction import from_regressed
from cfr.model.parsing_labels import load_face_parsing
from cfr.model.training.averaging import AveragedNetwork
from cfr.model.training.config import ConfigError
from cfr.model.training.estimator_config import EstimatorConfig
from cfr.model.training.occlusion_dataset import OcclusionBatch
from cfr.model.training.processes import Processes
from cfr.model.training.sample_grid import sample_grid
from cfr.model.training.task_parts import adamw, add_means, fixed_network, set_training_mode, wants_bfloat16

# Labels of the parsing that show what the face model has.
_FACE_LABELS = ("skin", "nose", "right eye", "left eye", "right brow", "left brow", "upper lip", "lower lip")

Regressor = CoefficientRegressor | FaceMeshRegressor
ExportRegressor = Callable[[Path, Regressor, int, dict[str, float]], None]
"""Writes the averaged regressor: folder, network, step, numbers of the last validation."""


@dataclass(frozen=True)
class Faces:
    """A batch on the device.

    Attributes:
        original, occluded: (B,3,224,224) float32 RGB 0..1.
        mask: (B,224,224) bool, where the photo shows the face.
        landmarks: (B,68,2) float32 crop px.
        coefficients: exact ones, in stage 0.
        chances: (B,2) 0..1, for random choices.
    """

    original: Tensor
    occluded: Tensor
    mask: Tensor
    landmarks: Tensor
    coefficients: Coefficients | None
    chances: Tensor


class EstimatorTraining:
    """The `engine.Task` of `cfr train-estimator`.

    Args:
        config: of the training.
        processes: this process and the others.
        export_regressor: see there.

    Raises:
        CheckpointError, FileNotFoundError: a file of weights is none or doesn't fit.
        ConfigError: the face model's file is none, or SciPy, which reads MATLAB files, is not installed.
    """

    def __init__(self, config: EstimatorConfig, processes: Processes, export_regressor: ExportRegressor):
        self.config, self.processes, self.export_regressor = config, processes, export_regressor
        device = processes.device
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        try:
            own = config.stage == 0 or config.network == "facemesh"
            self.estimator = load_face_estimator(config.face_model, device, own)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"face_model: {error}") from error
        sizes = self.estimator.sizes
        facemesh = config.network == "facemesh"
        regressor = (
            FaceMeshRegressor(sizes, config.width)
            if facemesh
            else CoefficientRegressor(sizes, config.width, config.depth)
        )
        if config.initial_regressor:
            load_checkpoint(config.initial_regressor, regressor)
        else:
            regressor.start_at_mean_face()
        self.regressor = regressor.to(device, memory_format=layout)
        self.teacher = copy.deepcopy(self.regressor).eval().requires_grad_(False) if config.stage == 2 else None
        self.parsing = load_face_parsing(config.parsing_weights).to(device) if config.parsing_weights else None
        self.identity = fixed_network(IdentityEncoder(), config.identity_weights, device)

        optimizer = adamw(self.regressor, config, device)
        self.networks = {"regressor": self.regressor}
        self.optimizers = {"regressor": optimizer}
        self.averaged = {"regressor": AveragedNetwork(self.regressor, config.ema_decay)}
        self._features = torch.compile(self.regressor.features) if config.compile else self.regressor.features
        self._half = wants_bfloat16(config, device)
        set_training_mode(self.regressor, config.freeze_batch_norm)

    def train_step(self, batches: Sequence[OcclusionBatch]) -> dict[str, Tensor]:
        """See `engine.Task`."""
        scalars: dict[str, Tensor] = {}
        terms_of = (self._exact_terms, self._fitting_terms, self._teaching_terms)[self.config.stage]
        (optimizer,) = self.optimizers.values()
        optimizer.zero_grad()
        for batch in batches:
            terms = terms_of(self._on_device(batch))
            loss = sum(weight * value for weight, value in terms.values())
            (loss / len(batches)).backward()
            values = {name: value for name, (_, value) in terms.items()}
            add_means(scalars, {"regressor": loss} | values, len(batches))
        self.processes.average_gradients(self.regressor.parameters())
        optimizer.step()
        return scalars

    def _exact_terms(self, faces: Faces) -> dict[str, tuple[float, Tensor]]:
        """Stage 0: weight and value of each loss that is on."""
        config = self.config
        covered, mirrored = (faces.chances < faces.chances.new_tensor([config.occluded_share, config.mirrored_share])).T
        shown = torch.where(covered[:, None, None, None], faces.occluded, faces.original)
        shown = torch.where(mirrored[:, None, None, None], shown.flip(3), shown)
        truth = _chosen(mirrored, self.estimator.mirrored(faces.coefficients), faces.coefficients)
        with self._autocast():
            regressed, log_deviations = self.regressor.estimate(self._features(shown))
        found = from_regressed(regressed.float(), self.estimator.sizes)
        log_deviations = None if log_deviations is None else log_deviations.float()
        points, true_points = self.estimator.landmarks_of(found), self.estimator.landmarks_of(truth)
        terms = {
            "coefficients": (
                config.coefficient_weight,
                losses.coefficient_likelihood(found, truth, log_deviations),
            ),
            "landmarks": (config.landmark_weight, losses.point_distances(points, true_points)),
        }
        return {name: (weight, value) for name, (weight, value) in terms.items() if weight}

    def _fitting_terms(self, faces: Faces) -> dict[str, tuple[float, Tensor]]:
        """Stage 1: weight and value of each loss that is on."""
        config = self.config
        found = self.estimator.faces(self._regress(faces.original)[1])
        numbers = found.coefficients
        prior = losses.coefficient_prior(numbers.identity, numbers.expression, numbers.albedo)
        terms = {
            "coefficients": (config.coefficient_weight, prior),
            "landmarks": (config.landmark_weight, losses.landmark_squares(found.landmarks, faces.landmarks)),
            "skin": (config.skin_weight, losses.skin_uniformity(found.albedo, self.estimator.skin)),
            "light": (config.light_weight, losses.white_light(numbers.light)),
        }
        if config.photometric_weight or self.identity:
            picture, covered = self.estimator.render(found)
            error = losses.photometric(picture, faces.original, faces.mask & covered)
            terms["photometric"] = (config.photometric_weight, self.processes.ratio(*error))
            if self.identity:
                terms["identity"] = (config.identity_weight, self._identity_loss(picture, covered, faces.original))
        return {name: (weight, value) for name, (weight, value) in terms.items() if weight}

    def _teaching_terms(self, faces: Faces) -> dict[str, tuple[float, Tensor]]:
        """Stage 2: the student sees the covered face, the teacher the same face without occluder."""
        config = self.config
        with torch.no_grad(), self._autocast():
            wanted_features = self.teacher.features(faces.original)
            wanted = self.teacher.coefficients(wanted_features).float()
        wanted_features = [each.float() for each in wanted_features]
        features, regressed = self._regress(faces.occluded)
        wanted_points = self.estimator.landmarks(wanted)
        points = self.estimator.landmarks(regressed)
        terms = {
            "coefficients": (config.coefficient_weight, mse_loss(regressed, wanted)),
            "landmarks": (config.landmark_weight, losses.landmark_distances(points, wanted_points)),
            "features": (
                config.feature_weight,
                losses.feature_matching(features, wanted_features),
            ),
        }
        return {name: (weight, value) for name, (weight, value) in terms.items() if weight}

    @torch.no_grad()
    def validate(self, batches: Iterator[OcclusionBatch]) -> dict[str, float]:
        """Normalised errors of the 68 points, of the averaged regressor on held-out faces.

        `landmarks_clean`, `landmarks_occluded`: against the shard's points. `drift`: of the covered face's
        estimate from the one of the clean face, the teacher's in stage 2. `teacher_...`: the teacher's. In stage 0
        `rotation_clean`, `rotation_occluded`, too: angles in degrees to the true rotation.
        """
        sums: dict[str, Tensor] = {}
        averaged = self.averaged["regressor"].network
        for batch in batches:
            faces = self._on_device(batch)
            clean, occluded = (self._regressed(averaged, each) for each in (faces.original, faces.occluded))
            rows = {"": (clean, occluded)}
            if self.teacher is not None:
                rows["teacher_"] = tuple(
                    self._regressed(self.teacher, each) for each in (faces.original, faces.occluded)
                )
            points = {prefix: tuple(self.estimator.landmarks(each) for each in pair) for prefix, pair in rows.items()}
            reference = points.get("teacher_", points[""])[0]
            for prefix, (on_clean, on_occluded) in points.items():
                scores = {
                    "landmarks_clean": losses.normalised_errors(on_clean, faces.landmarks),
                    "landmarks_occluded": losses.normalised_errors(on_occluded, faces.landmarks),
                    "drift": losses.normalised_errors(on_occluded, reference),
                }
                if faces.coefficients is not None:
                    scores |= self._rotation_errors(*rows[prefix], faces.coefficients)
                for name, value in scores.items():
                    part = torch.tensor([float(value.double().sum()), float(len(value))])
                    sums[prefix + name] = sums.get(prefix + name, 0) + part
        return self.processes.means(sums)

    @torch.no_grad()
    def samples(self, batch: OcclusionBatch) -> Image.Image:
        """Grid of faces and of the averaged regressor's renderings of them; see `engine.Task`."""
        faces = self._on_device(batch)
        network = self.averaged["regressor"].network
        columns = {"original": faces.original, "covered": faces.occluded}
        for name, pictures in (("estimate", faces.original), ("estimate, covered", faces.occluded)):
            columns[name], _ = self.estimator.render(self._faces_of(network, pictures))
        return sample_grid(columns)

    def export(self, folder: Path, step: int, numbers: dict[str, float]) -> None:
        """Write the averaged regressor."""
        self.export_regressor(folder, self.averaged["regressor"].network, step, numbers)

    def _regress(self, pictures: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features of the stages and coefficients (B,C) of the network that is trained."""
        with self._autocast():
            features = self._features(pictures)
            regressed = self.regressor.coefficients(features)
        return [each.float() for each in features], regressed.float()

    def _regressed(self, network: Regressor, pictures: Tensor) -> Tensor:
        with self._autocast():
            return network(pictures).float()

    def _faces_of(self, network: Regressor, pictures: Tensor) -> EstimatedFaces:
        return self.estimator.faces(self._regressed(network, pictures))

    def _rotation_errors(self, clean: Tensor, occluded: Tensor, truth: Coefficients) -> dict[str, Tensor]:
        """Angles (B,) of rows (B,C) to the truth, degrees."""
        true_rotation = rotation_matrix(truth.pose)
        angles = {}
        for name, row in (("rotation_clean", clean), ("rotation_occluded", occluded)):
            found = from_regressed(row, self.estimator.sizes)
            angles[name] = losses.turned_by(rotation_matrix(found.pose), true_rotation)
        return angles

    def _identity_loss(self, picture: Tensor, covered: Tensor, photo: Tensor) -> Tensor:
        """Of the rendering, in front of the photo's surroundings."""
        shown = torch.where(covered[:, None], picture.clamp(0, 1), photo)
        with self._autocast():
            return identity(self.identity, 2 * shown - 1, 2 * photo - 1).float()

    @torch.no_grad()
    def _on_device(self, batch: OcclusionBatch) -> Faces:
        device = self.processes.device
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        original, occluded = (
            each.to(device, non_blocking=True).float().contiguous(memory_format=layout) / 255
            for each in (batch.original, batch.occluded)
        )
        mask = batch.face_mask.to(device) > 127
        if self.parsing is not None and self.config.stage == 1:
            labels = self.parsing.labels(original)
            mask = torch.isin(labels, labels.new_tensor([LABELS.index(name) for name in _FACE_LABELS]))
        exact = None
        if self.config.stage == 0:
            exact = Coefficients.split(batch.coefficients.to(device), self.estimator.sizes)
        return Faces(original, occluded, mask, batch.landmarks.to(device), exact, batch.chances.to(device))

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self._half)


def _chosen(where: Tensor, ones: Coefficients, others: Coefficients) -> Coefficients:
    """Some faces of one mini-batch, the others of another; where: (B,) bool."""
    parts = {
        name: torch.where(where.view(-1, *[1] * (value.dim() - 1)), value, getattr(others, name))
        for name, value in vars(ones).items()
    }
    return Coefficients(**parts)
