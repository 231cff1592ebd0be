"""Stages on their own: bisection, reading, choosing faces, coders."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stand_in_models as stand_in
from apache_beam import coders
from stand_in_models import StandInModels, write_photos

from cfr.pipeline.manifests import Layout
from cfr.pipeline.work_units import find_inputs, plan_units, read_footer
from cfr.transforms.align_faces import AlignFaces, choose_faces
from cfr.transforms.batches import BatchCoder, FaceBatch, ImageBatch, UnitRecord
from cfr.transforms.fit_faces import FitFaces
from cfr.transforms.read_images import ReadImages, read_photos
from cfr.transforms.stage import PairSettings, StageContext, UnitError


def aligned(tmp_path, kinds: list[int], faces: str = "best") -> tuple[StageContext, FaceBatch]:
    """The faces of a shard with photos of these kinds, as one unit."""
    write_photos(tmp_path / "a.parquet", kinds)
    context = StageContext(Layout(str(tmp_path / "out")), "h", PairSettings(faces=faces), StandInModels())
    (unit,) = plan_units([read_footer(*found) for found in find_inputs([str(tmp_path / "a.parquet")])], 1000)
    (images,) = ReadImages(context).process(unit)
    stage = AlignFaces(context)
    stage.setup()
    (batch,) = stage.process(images)
    return context, batch


class CountingFit(FitFaces):
    """Counts the mini-batches and their sizes."""

    def load(self):
        super().load()
        self.sizes = []

    def compute(self, batch, items):
        self.sizes.append(len(items))
        return super().compute(batch, items)


@pytest.mark.parametrize("bad", [[3], [0], [7, 8], [2, 3, 12], list(range(8))])
def test_bisection_costs_only_the_bad_items_and_keeps_the_slots(tmp_path, bad):
    count = 13
    kinds = [stand_in.FIT_RAISES if number in bad else stand_in.GOOD for number in range(count)]
    context, batch = aligned(tmp_path, kinds)
    fit = CountingFit(context)
    fit.setup()
    (fitted,) = fit.process(batch)
    good = [number for number in range(count) if number not in bad]
    assert fitted.faces.row.tolist() == good
    np.testing.assert_allclose(fitted.fit_error * 1000, np.array(good) % 8, atol=1e-4)  # the stand-in writes its slot
    assert [failure.image_id for failure in fitted.record.failures] == [batch.record.image_ids[n] for n in bad]
    assert {failure.reason for failure in fitted.record.failures} == {"fit_faces_error"}
    assert set(fit.sizes) == {8}
    assert fitted.record.seconds["fit_faces"] > 0


def test_out_of_memory_is_no_items_fault(tmp_path, monkeypatch):
    context, batch = aligned(tmp_path, [stand_in.GOOD] * 3)
    fit = FitFaces(context)
    fit.setup()
    monkeypatch.setattr(fit.fitter, "fit", lambda *arguments: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        list(fit.process(batch))


def test_a_unit_without_faces_goes_through(tmp_path):
    context, batch = aligned(tmp_path, [stand_in.NO_FACE])
    assert len(batch) == 0
    fit = FitFaces(context)
    fit.setup()
    (fitted,) = fit.process(batch)
    assert len(fitted) == 0
    assert fitted.guidance.shape == (0, 224, 224, 3)


@pytest.mark.parametrize(("row_group_size", "first", "rows"), [(4, 0, 10), (4, 3, 6), (100, 17, 13), (1, 5, 1)])
def test_a_row_range_is_read_across_row_groups(tmp_path, row_group_size, first, rows):
    kinds = [stand_in.GOOD] * 30
    write_photos(tmp_path / "a.parquet", kinds, row_group_size=row_group_size)
    (file,) = [read_footer(*found) for found in find_inputs([str(tmp_path / "a.parquet")])]
    (unit,) = [unit for unit in plan_units([file], 1) if unit.first_row == first]
    unit = type(unit)(unit.unit_id, unit.path, first, rows, unit.input_identity)
    expected = [stand_in.photo(stand_in.GOOD, number) for number in range(first, first + rows)]
    assert list(read_photos(unit, "image")) == expected


def test_fewer_rows_than_planned_is_an_error(tmp_path):
    write_photos(tmp_path / "a.parquet", [stand_in.GOOD] * 3)
    (file,) = [read_footer(*found) for found in find_inputs([str(tmp_path / "a.parquet")])]
    (unit,) = plan_units([file], 8)
    unit = type(unit)(unit.unit_id, unit.path, 0, 8, unit.input_identity)
    with pytest.raises(UnitError, match="5 rows less"):
        list(read_photos(unit, "image"))


def test_a_file_that_changed_after_the_plan_is_a_failed_unit(tmp_path):
    context, batch = aligned(tmp_path, [stand_in.GOOD] * 2)
    write_photos(tmp_path / "a.parquet", [stand_in.GOOD] * 2, label=[1, 2])
    assert list(ReadImages(context).process(batch.record.unit)) == []
    assert list((tmp_path / "out" / "_progress").glob("failed-*"))


def test_plain_binary_and_hugging_face_images(tmp_path):
    picture = stand_in.photo(stand_in.GOOD)
    pq.write_table(pa.table({"image_id": [7], "image": [picture]}), tmp_path / "b.parquet")
    (file,) = [read_footer(*found) for found in find_inputs([str(tmp_path / "b.parquet")])]
    assert list(read_photos(plan_units([file], 8)[0], "image")) == [picture]


def test_choosing_faces():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 30, 20], [0, 0, 20, 20]], dtype=np.float32)
    assert choose_faces(boxes, "best").tolist() == [0]
    assert choose_faces(boxes, "largest").tolist() == [1]
    assert choose_faces(boxes, "all").tolist() == [0, 1, 2]


def test_batches_have_a_coder_that_does_not_pickle_pixels_to_count_them(tmp_path, monkeypatch):
    _, batch = aligned(tmp_path, [stand_in.GOOD] * 3)
    assert isinstance(coders.registry.get_coder(FaceBatch), BatchCoder)
    coder = BatchCoder()
    encoded = coder.encode(batch)
    decoded = coder.decode(encoded)
    np.testing.assert_array_equal(decoded.context, batch.context)
    assert decoded.record == batch.record
    monkeypatch.setattr(pickle, "dumps", lambda *arguments, **keywords: pytest.fail("pickled"))
    assert coder.estimate_size(batch) == pytest.approx(len(encoded), rel=0.1)
    assert coder.estimate_size(ImageBatch(UnitRecord(batch.record.unit, ("a",)), np.arange(3))) < 1000
