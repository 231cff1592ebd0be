"""The models of `cfr frontalize`: those of a default run, and the checkpoints that a user brings."""

from dataclasses import dataclass

from cfr.model.frontalization import dlib_weights
from cfr.transforms.models import DefaultModels, file_digest, once


@dataclass(frozen=True)
class FrontalModels(DefaultModels):
    """Loaded once per process.

    Attributes:
        generator: "composite", or path of a CFRNet checkpoint.
        identity: "dlib" for the recogniser of the extra `identity`, path of an IR-SE-50 checkpoint, "" for none.
    """

    generator: str = "composite"
    identity: str = ""

    def frontalizer(self):
        """What turns faces, with `frontalize(faces, pose, template, size)`."""
        from cfr.model.frontalization.frontalizer import Frontalizer

        return once(
            f"frontalizer {self.generator} {self.face_model}",
            self.torch_device(),
            lambda device: Frontalizer(device, self.generator, self._model(device)),
        )

    def identity_encoder(self):
        """What tells who a face belongs to, with `similarity(...)`; None if nobody asked."""
        if not self.identity:
            return None
        from cfr.model.frontalization.identity import load_comparison

        return once(
            f"identity encoder {self.identity}",
            self.torch_device(),
            lambda device: load_comparison(self.identity, device),
        )

    def active(self) -> list[dict[str, str]]:
        """As `DefaultModels.active`, with the user's checkpoints and an optional recogniser."""
        own = "the user's own"
        brought = [("generator", "CFRNet", own, "" if self.generator == "composite" else self.generator)]
        if self.identity == dlib_weights.DLIB:
            weights = str(dlib_weights.weights_path())
            brought.append(("identity encoder", "dlib's ResNet-29", dlib_weights.LICENCE, weights))
        else:
            brought.append(("identity encoder", "IR-SE-50", own, self.identity))
        return super().active() + [
            {"part": part, "name": name, "licence": licence, "digest": file_digest(path)}
            for part, name, licence, path in brought
            if path
        ]
