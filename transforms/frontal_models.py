"""The models of `cfr frontalize`: those of a default run, and the checkpoints that a user brings."""

from dataclasses import dataclass

from cfr.transforms.models import DefaultModels, file_digest, once


@dataclass(frozen=True)
class FrontalModels(DefaultModels):
    """Loaded once per process.

    Attributes:
        generator: "composite", or path of a CFRNet checkpoint.
        identity: path of an IR-SE-50 checkpoint, "" for none.
    """

    generator: str = "composite"
    identity: str = ""

    def frontalizer(self):
        """What turns faces, with `frontalize(faces, pose, template, size)`."""
        from cfr.model.frontalization.frontalizer import Frontalizer

        return once(
            f"frontalizer {self.generator}", self.torch_device(), lambda device: Frontalizer(device, self.generator)
        )

    def identity_encoder(self):
        """What tells who a face belongs to, with `similarity(...)`; None without a checkpoint."""
        if not self.identity:
            return None
        from cfr.model.frontalization.identity import IdentityComparison

        return once(
            f"identity encoder {self.identity}",
            self.torch_device(),
            lambda device: IdentityComparison(self.identity, device),
        )

    def active(self) -> list[dict[str, str]]:
        """As `DefaultModels.active`, with the user's checkpoints."""
        brought = [("generator", "CFRNet", self.generator), ("identity encoder", "IR-SE-50", self.identity)]
        return super().active() + [
            {"part": part, "name": name, "licence": "the user's own", "digest": file_digest(path)}
            for part, name, path in brought
            if path not in ("", "composite")
        ]
