"""What the graphs of all jobs have in common: how they are laid out, the units, the way to aligned faces.

What a job does with aligned faces is its `FaceTransform`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import apache_beam as beam

from cfr.pipeline.work_units import UnitRuns
from cfr.transforms.align_faces import AlignFaces
from cfr.transforms.batches import FaceBatch, ImageBatch, WorkUnit
from cfr.transforms.read_images import ReadImages
from cfr.transforms.stage import StageContext


@dataclass(frozen=True)
class GraphOptions:
    """How the graph is laid out; nothing here changes the output.

    Attributes:
        split_stages: shuffle the small crops once, so that detection and fitting can run on different machines.
        accelerator: Beam's resource hint, e.g. "type:nvidia-l4;count:1;install-nvidia-driver", or "".
        min_ram: Beam's resource hint, e.g. "8GB", or "".
    """

    split_stages: bool = False
    accelerator: str = ""
    min_ram: str = ""

    def after_units(self, transform: beam.PTransform) -> beam.PTransform:
        """Everything after the shuffle of the units, with its hints.

        Resource hints are set on all stages between two shuffles at once: on some of them they would break the fusion.
        """
        return transform if self.split_stages else self._hinted(transform)

    def after_faces(self, faces: beam.PCollection, label: str, transform: beam.PTransform) -> beam.PCollection:
        """What follows detection; with split stages after a shuffle of the crops, and only there with its hints."""
        if not self.split_stages:
            return faces | label >> transform
        return faces | "ReshuffleFaces" >> beam.Reshuffle() | label >> self._hinted(transform)

    def _hinted(self, transform: beam.PTransform) -> beam.PTransform:
        hints = {name: value for name, value in vars(self).items() if name != "split_stages" and value}
        return transform.with_resource_hints(**hints) if hints else transform


class WorkUnits(beam.PTransform):
    """The plan as a collection of WorkUnit: references only, pixels are never shuffled."""

    def __init__(self, packed: Sequence[UnitRuns]):
        super().__init__()
        self._packed = list(packed)

    def expand(self, begin):
        """See the class."""
        return (
            begin
            | "Files" >> beam.Create(self._packed, reshuffle=False)
            | "Units" >> beam.FlatMap(UnitRuns.units).with_output_types(WorkUnit)
        )


class FindFaces(beam.PTransform):
    """Units to aligned faces."""

    def __init__(self, context: StageContext):
        super().__init__()
        self._context = context

    def expand(self, units):
        """See the class."""
        return (
            units
            | "ReadImages" >> beam.ParDo(ReadImages(self._context)).with_output_types(ImageBatch)
            | "AlignFaces" >> beam.ParDo(AlignFaces(self._context)).with_output_types(FaceBatch)
        )


class FaceTransform(beam.PTransform):
    """A job's own part: aligned faces to committed shards; what leaves is one small manifest row per unit."""

    def __init__(self, context: StageContext):
        super().__init__()
        self.context = context


class MakeShards(beam.PTransform):
    """Everything after the shuffle of the units."""

    def __init__(self, context: StageContext, options: GraphOptions, face_transform: type[FaceTransform]):
        super().__init__()
        self._context, self._options, self._face_transform = context, options, face_transform

    def expand(self, units):
        """See the class."""
        faces = units | "FindFaces" >> FindFaces(self._context)
        label, transform = self._face_transform.__name__, self._face_transform(self._context)
        return self._options.after_faces(faces, label, transform)


def build_graph(
    pipeline: beam.Pipeline,
    packed: Sequence[UnitRuns],
    context: StageContext,
    options: GraphOptions,
    face_transform: type[FaceTransform],
) -> beam.PCollection:
    """The whole job: units, a shuffle of them, faces, shards."""
    units = pipeline | "WorkUnits" >> WorkUnits(packed) | "Reshuffle" >> beam.Reshuffle()
    return units | "MakeShards" >> options.after_units(MakeShards(context, options, face_transform))
