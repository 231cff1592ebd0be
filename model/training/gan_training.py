"""Training of CFRNet against the two-scale critic (CFR-GAN, WACV 2022, section 3): networks, losses, step."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from cfr.model import losses
from cfr.model.checkpoints import load_checkpoint
from cfr.model.lpips import load_lpips
from cfr.model.networks.cfrnet import CFRNet
from cfr.model.networks.discriminator import TwoScaleDiscriminator
from cfr.model.networks.identity_encoder import IdentityEncoder
from cfr.model.networks.perceptual import ResNet50Slices, VGG19Slices
from cfr.model.training.augmentation import FACE_LEVEL
from cfr.model.training.averaging import AveragedNetwork
from cfr.model.training.gan_config import TrainConfig
from cfr.model.training.pair_dataset import PairBatch
from cfr.model.training.pair_metrics import mask_overlap, region_scores
from cfr.model.training.processes import Processes
from cfr.model.training.realism import RealismScores
from cfr.model.training.sample_grid import sample_grid
from cfr.model.training.task_parts import adamw, add_means, fixed_network, set_training_mode, wants_bfloat16

_PERCEPTUAL = {"resnet": ResNet50Slices, "vgg": VGG19Slices}

ExportGenerator = Callable[[Path, CFRNet, int, dict[str, float]], None]
"""Writes the averaged generator: folder, network, step, numbers of the last validation."""


@dataclass(frozen=True)
class Pairs:
    """A batch on the device.

    Attributes:
        target, rotated, guidance: (B,3,S,S) float32 RGB in -1..1.
        mask: (B,1,S,S) float32, 1 = not to be taken from `rotated`.
        face: (B,1,S,S) float32 0 or 1: where the guidance or the mask is.
    """

    target: Tensor
    rotated: Tensor
    guidance: Tensor
    mask: Tensor
    face: Tensor

    @classmethod
    def on(cls, device: torch.device, batch: PairBatch, channels_last: bool) -> "Pairs":
        """Copy a batch to a device."""
        layout = torch.channels_last if channels_last else torch.contiguous_format

        def moved(values: Tensor) -> Tensor:
            return values.to(device, non_blocking=True).float().contiguous(memory_format=layout)

        target, rotated, guidance = (moved(each) / 127.5 - 1 for each in (batch.target, batch.rotated, batch.guidance))
        mask = moved(batch.occlusion_mask) / 255
        face = (guidance.mean(1, keepdim=True) > 2 * FACE_LEVEL - 1) | (mask > 0.5)
        return cls(target, rotated, guidance, mask, face.float())


class GanTraining:
    """The `engine.Task` of `cfr train`.

    Args:
        config: of the training.
        processes: this process and the others.
        export_generator: see there.

    Raises:
        CheckpointError, FileNotFoundError: a file of weights is none or doesn't fit.
    """

    def __init__(self, config: TrainConfig, processes: Processes, export_generator: ExportGenerator):
        self.config, self.processes, self.export_generator = config, processes, export_generator
        device = processes.device
        layout = torch.channels_last if config.channels_last else torch.contiguous_format

        self.generator = CFRNet(config.width, config.residual_blocks, config.blended)
        if config.initial_generator:
            load_checkpoint(config.initial_generator, self.generator)
        if config.sync_batch_norm and processes.world_size > 1 and device.type == "cuda":
            self.generator = nn.SyncBatchNorm.convert_sync_batchnorm(self.generator)
        self.generator.to(device, memory_format=layout)
        self.critic = TwoScaleDiscriminator(config.critic_width).to(device, memory_format=layout)
        self.perceptual = fixed_network(_PERCEPTUAL[config.perceptual](), config.perceptual_weights, device)
        self.identity = fixed_network(IdentityEncoder(), config.identity_weights, device)

        self.realism = RealismScores(self.perceptual) if config.distances else None
        self.lpips = load_lpips(config.lpips_weights).to(device) if config.lpips_weights else None

        self.generator_optimizer = adamw(self.generator, config, device)
        self.critic_optimizer = adamw(self.critic, config, device)
        self.networks = {"generator": self.generator, "critic": self.critic}
        self.optimizers = {"generator": self.generator_optimizer, "critic": self.critic_optimizer}
        self.averaged = {"generator": AveragedNetwork(self.generator, config.ema_decay)}
        self._run_generator = torch.compile(self.generator) if config.compile else self.generator
        self._half = wants_bfloat16(config, device)
        self._set_modes()

    def train_step(self, batches: Sequence[PairBatch]) -> dict[str, Tensor]:
        """The critic's step, then the generator's; see `engine.Task`."""
        pairs = [Pairs.on(self.processes.device, batch, self.config.channels_last) for batch in batches]
        scalars: dict[str, Tensor] = {}

        # The generator does not depend on the critic's step, so one pass serves both. With several pieces that would
        # keep all their graphs at once; then the pictures are made again below.
        with torch.set_grad_enabled(len(pairs) == 1):
            outputs = [self._generate(pair) for pair in pairs]

        self.critic_optimizer.zero_grad()
        for pair, (image, _) in zip(pairs, outputs, strict=True):
            loss = self._critic_loss(pair.target, image.detach())
            (loss / len(pairs)).backward()
            add_means(scalars, {"critic": loss}, len(pairs))
        self.processes.average_gradients(self.critic.parameters())
        self.critic_optimizer.step()

        self.generator_optimizer.zero_grad()
        self.critic.requires_grad_(False)
        for pair, output in zip(pairs, outputs, strict=True):
            terms = self._generator_terms(pair, *(output if len(pairs) == 1 else self._generate(pair)))
            loss = sum(weight * value for weight, value in terms.values())
            (loss / len(pairs)).backward()
            add_means(scalars, {"generator": loss} | {name: value for name, (_, value) in terms.items()}, len(pairs))
        self.critic.requires_grad_(True)
        self.processes.average_gradients(self.generator.parameters())
        self.generator_optimizer.step()
        return scalars

    def _critic_loss(self, target: Tensor, image: Tensor) -> Tensor:
        # The penalty differentiates twice and takes a sixth power: in float32 always.
        real = target.detach().requires_grad_()
        real_scores = torch.cat(self.critic(real), 1)
        with self._autocast():
            fake_scores = torch.cat(self.critic(image), 1)
        return losses.wgan_div_critic(real_scores, fake_scores.float(), real)

    def _generator_terms(self, pair: Pairs, image: Tensor, mask: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each loss of the generator that is on."""
        config = self.config
        terms: dict[str, tuple[float, Tensor]] = {}
        if config.adversarial_weight:
            with self._autocast():
                scores = torch.cat(self.critic(image), 1)
            terms["adversarial"] = config.adversarial_weight, losses.adversarial(scores.float())
        if config.mask_weight:
            terms["mask"] = config.mask_weight, losses.occlusion_mask(mask, pair.mask)
        for name, weight, region in (
            ("reconstruction", config.reconstruction_weight, mask),
            ("face", config.face_weight, pair.face),
            ("hole", config.hole_weight, pair.mask),
        ):
            if weight:
                terms[name] = weight, self.processes.ratio(*losses.masked_error(image, pair.target, region))
        if self.perceptual and config.perceptual_weight:
            with self._autocast():
                value = losses.perceptual(self.perceptual, image, pair.target)
            terms["perceptual"] = config.perceptual_weight, value.float()
        if self.identity and config.identity_weight:
            with self._autocast():
                value = losses.identity(self.identity, image, pair.target)
            terms["identity"] = config.identity_weight, value.float()
        return terms

    @torch.no_grad()
    def validate(self, batches: Iterator[PairBatch]) -> dict[str, float]:
        """Scores of the averaged generator on held-out pairs, and of plain pasting beside it.

        `inside`: where the pair's mask is; `outside`: the rest of the face. `paste` shows the guidance inside and
        `rotated` outside. Means over the pictures in which the region is large enough. With `distances` also
        those of whole pictures, with `lpips_weights` the LPIPS of faces, the photo around them.
        """
        sums: dict[str, Tensor] = {}
        if self.realism:
            self.realism.reset()
        for batch in batches:
            pair = Pairs.on(self.processes.device, batch, self.config.channels_last)
            image, mask = self._averaged_output(pair)
            target, hole = pair.target / 2 + 0.5, pair.mask > 0.5
            paste = torch.where(hole, pair.guidance, pair.rotated) / 2 + 0.5
            regions = {"inside": hole, "outside": (pair.face > 0.5) & ~hole}
            scores = {"mask_iou": mask_overlap(mask > 0.5, hole)}
            if self.realism:
                self.realism.update(image, target)
            for prefix, picture in (("", image), ("paste_", paste)):
                for where, region in regions.items():
                    found = region_scores(picture, target, region)
                    scores |= {f"{prefix}{name}_{where}": value for name, value in found.items()}
                if self.lpips:
                    face = torch.where(pair.face > 0.5, picture * 2 - 1, pair.target)
                    scores[f"{prefix}lpips"] = self.lpips(face, pair.target)
            for name, value in scores.items():
                known = value[~value.isnan()].double().cpu()
                sums[name] = sums.get(name, 0) + torch.tensor([float(known.sum()), float(len(known))])
        return self.processes.means(sums) | (self.realism.compute() if self.realism else {})

    @torch.no_grad()
    def samples(self, batch: PairBatch) -> Image.Image:
        """Grid of the averaged generator's output; see `engine.Task`."""
        pair = Pairs.on(self.processes.device, batch, self.config.channels_last)
        image, mask = self._averaged_output(pair)
        rotated, guidance, target = (each / 2 + 0.5 for each in (pair.rotated, pair.guidance, pair.target))
        inputs = {"rotated": rotated, "guidance": guidance}
        return sample_grid(inputs | {"output": image, "mask": mask, "mask of the pair": pair.mask, "target": target})

    def export(self, folder: Path, step: int, numbers: dict[str, float]) -> None:
        """Write the averaged generator."""
        self.export_generator(folder, self.averaged["generator"].network, step, numbers)

    def _generate(self, pair: Pairs) -> tuple[Tensor, Tensor]:
        with self._autocast():
            image, mask = self._run_generator(pair.rotated, pair.guidance)
        return image.float(), mask.float()

    def _averaged_output(self, pair: Pairs) -> tuple[Tensor, Tensor]:
        """Picture and mask of the averaged generator, both in 0..1."""
        with self._autocast():
            image, mask = self.averaged["generator"].network(pair.rotated, pair.guidance)
        return image.float() / 2 + 0.5, mask.float()

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self._half)

    def _set_modes(self) -> None:
        for network in self.networks.values():
            set_training_mode(network, self.config.freeze_batch_norm)
