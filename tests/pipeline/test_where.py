"""The filter language of `cfr view --where`."""

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

from cfr.pipeline.errors import UserError
from cfr.pipeline.where import comparable_columns, parse_where

TABLE = pa.table(
    {
        "yaw": pa.array([-60.0, -10.0, 0.0, 0.1, 35.0, None], pa.float32()),
        "face_index": pa.array([0, 1, 2, 0, 1, 2], pa.int32()),
        "image_id": ["a/1.jpg", "it's", 'say "x"', "b", "c", None],
        "apply": [True, False, True, False, None, True],
        "odd name": [1, 2, 3, 4, 5, 6],
        "box": [[1.0]] * 6,
    }
)


def rows(where: str) -> list[int]:
    table = TABLE.append_column("row", pa.array(range(len(TABLE))))
    return table.filter(parse_where(where, TABLE.schema))["row"].to_pylist()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("yaw > 30", [4]),
        ("yaw>-10.5 and yaw<=0", [1, 2]),
        ("30 < yaw", [4]),
        ("-10 <= yaw < 30", [1, 2, 3]),
        ("abs(yaw) >= 35", [0, 4]),
        ("yaw = 0.1", [3]),  # the float32 0.1, as a reader means it
        ("yaw in (0.1, 35)", [3, 4]),
        ("not yaw > 0", [0, 1, 2]),  # the missing value is in neither half
        ("yaw is null", [5]),
        ("yaw IS NOT NULL and face_index == 0", [0, 3]),
        ("face_index in (0, 2.5, 99999999999, 1e3)", [0, 3]),
        ("face_index in [1,2] AND apply", [2, 5]),
        ("face_index not in (0, 1)", [2, 5]),
        ("face_index < 1.5", [0, 1, 3, 4]),
        ("image_id = 'it''s'", [1]),
        ('image_id = "it\'s"', [1]),
        ("image_id = 'say \"x\"'", [2]),
        ("image_id in ('b', 'c')", [3, 4]),
        ("image_id >= 'b' and image_id < 'c'", [3]),
        ("apply", [0, 2, 5]),
        ("not apply", [1, 3]),
        ("not not apply = true", [0, 2, 5]),
        ("apply <> false", [0, 2, 5]),
        ("`odd name` > 5", [5]),
        # `and` binds tighter than `or`, `not` tighter than both
        ("yaw = 0 or yaw > 0 and face_index = 0", [2, 3]),
        ("(yaw = 0 or yaw > 0) and face_index = 0", [3]),
        ("not face_index = 0 and yaw > 0", [4]),
        ("yaw\n> 30", [4]),
        ("face_index in ()", []),
    ],
)
def test_filter_keeps_the_rows_that_it_names(where, expected):
    assert rows(where) == expected


@pytest.mark.parametrize(
    ("where", "message", "caret"),
    [
        ("", "empty", None),
        ("yaw > ", "found the end", 6),
        ("yaww > 3", "did you mean `yaw`?", 0),
        ("image_id = cat", "text goes between quotes", 11),
        ("yaw > 'x'", "holds numbers and cannot be compared with a text", 6),
        ("3 < image_id", "holds texts and cannot be compared with a number", 0),
        ("box > 3", "cannot be compared", 0),
        ("yaw", "expected a comparison", 3),
        ("yaw > 3 yaw", "expected `and`, `or` or the end", 8),
        ("(yaw > 3", "never closed", 0),
        ("image_id = 'x", "quote is never closed", 11),
        ("yaw > 3; import os", "cannot read ';'", 7),
        ("__import__('os').system('x')", "cannot read '.'", 16),
        ("__import__('os')", "unknown column `__import__`", 0),
        ("yaw in 3", "expected a list", 7),
        ("yaw in (3 4)", "expected `,`", 10),
        ("yaw in (face_index)", "constants, not columns", 8),
        ("1 < 2", "two constants", 0),
        ("apply > true", "booleans have no order", 6),
        ("yaw = null", "is null", 6),
        ("yaw not 3", "expected `in`", 8),
        ("abs(image_id) > 3", "takes a column of numbers", 4),
        ("yaw > 30px", "cannot read '3'", 6),
        ("(" * 5000, "nested", 50),
        ("yaw > 1 or " * 5000 + "yaw > 2", "more than 500 comparisons", None),
    ],
)
def test_a_wrong_filter_is_explained_at_its_place(where, message, caret):
    with pytest.raises(UserError) as caught:
        parse_where(where, TABLE.schema)
    assert message in str(caught.value)
    if caret is not None:
        shown, pointer = caught.value.detail.splitlines()[:2]
        assert pointer == " " * (2 + caret) + "^"
        assert shown[2 : 2 + 40] == where[:100].replace("\n", " ")[:40]


def test_the_caret_stays_on_screen_in_a_long_filter():
    where = "yaw > 1 and " * 20 + "yoww > 2"
    with pytest.raises(UserError) as caught:
        parse_where(where, TABLE.schema)
    shown, pointer = caught.value.detail.splitlines()[:2]
    assert len(shown) < 120
    assert shown[pointer.index("^") :].startswith("yoww")


def test_an_unknown_column_lists_what_can_be_compared():
    with pytest.raises(UserError) as caught:
        parse_where("size > 3", TABLE.schema)
    assert caught.value.detail.endswith("known columns: yaw, face_index, image_id, apply, odd name")
    assert "box" not in comparable_columns(TABLE.schema)


WORDS = ["yaw", "face_index", "image_id", "apply", "`odd name`", "and", "or", "not", "in", "is", "null", "true", "abs"]
PIECES = [*WORDS, "(", ")", "[", "]", ",", "<", "<=", "==", "!=", "3", "-1.5e3", "'x'", '"', "$", "é", "1e999"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join))
def test_any_text_filters_or_is_a_user_error(where):
    try:
        expression = parse_where(where, TABLE.schema)
    except UserError:
        return
    assert TABLE.filter(expression).num_rows <= TABLE.num_rows
