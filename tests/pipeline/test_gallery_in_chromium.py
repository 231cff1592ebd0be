"""The gallery page as a browser shows it from the disk: headless Chromium runs a script against it and prints the page.

Without Chromium (`apt-get install chromium`, or CHROMIUM=/path) these tests are skipped.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cfr.pipeline.contact_sheet import PAIR_ROWS
from cfr.pipeline.gallery import GalleryWriter

COLUMNS = ["image_id", "face_index", "view_index", "yaw", "quality"]

# What a script notes is left in the body, and read from the page that Chromium prints.
HARNESS = """
<script>
"use strict";
const found = {};
const note = (name, value) => { found[name] = value; };
const press = key => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const set = (element, value, kind) => { element.value = value; element.dispatchEvent(new Event(kind)); };
const shownIds = () => [...document.querySelectorAll(".panel b")].map(each => each.textContent);
addEventListener("load", () => {
  try { SCRIPT } catch (error) { note("error", String(error)); }
  document.body.append(make("pre", JSON.stringify(found), { id: "found" }));
});
</script>
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium to open the page in (apt-get install chromium, or set CHROMIUM)")
    return path


def run_in(chromium: str, page: Path, script: str, tmp_path: Path, *flags: str) -> dict:
    """What a script notes that runs in the page once it is loaded."""
    # Beside the page, so that the pictures' paths hold.
    copy = page.with_name("with-script.html")
    copy.write_text(page.read_text("utf-8").replace("</body>", HARNESS.replace("SCRIPT", script) + "</body>"), "utf-8")
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", *flags, "--dump-dom"]
    done = subprocess.run([*command, copy.as_uri()], capture_output=True, text=True, timeout=500, check=False)
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert text, f"{done.returncode}: {done.stderr[-2000:]}"
    found = json.loads(text.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert "error" not in found, found["error"]
    return found


def written(place: Path, rows: int, pictures: bool = False, other=None) -> Path:
    """A gallery of rows with rising yaw and falling quality."""
    writer = GalleryWriter(PAIR_ROWS, place, ["first run", "second run"] if other else ["first run"])
    shown = {name: np.full((8, 8, 3), 90, np.uint8) for name, *_ in PAIR_ROWS.columns} if pictures else {}
    for row in range(rows):
        values = {
            "image_id": f"photo {row}",
            "face_index": 0,
            "view_index": 0,
            "yaw": row / 10,
            "quality": 1 - row / rows,
        }
        partner = other(values) if other else None
        writer.add(values, shown, partner and (partner, shown))
    return writer.finish("first run", f"{rows} rows", COLUMNS)


def test_a_hundred_thousand_rows(chromium, tmp_path):
    """Pages, keys, sorting and filtering on the largest page that is promised."""
    page = written(tmp_path / "gallery", 100_000)
    assert page.stat().st_size < 20e6
    script = """
      note("rows", document.querySelectorAll(".row").length);
      note("start", get("where").textContent);
      press("ArrowRight");
      note("second", shownIds()[0]);
      press("End");
      note("end", get("where").textContent);
      press("Home");
      note("home", get("where").textContent);
      set(get("key"), "quality", "change");
      note("sorted", shownIds().slice(0, 2));
      get("order").click();
      note("turned", shownIds().slice(0, 2));
      const value = document.querySelector(".value");
      set(value, "0.9999", "input");
      note("filtered", get("where").textContent);
    """
    found = run_in(chromium, page, script, tmp_path)
    assert found["rows"] == 50
    assert found["start"] == found["home"] == "1\u201350 of 100000"
    assert (found["second"], found["end"]) == ("photo 50", "99951\u2013100000 of 100000")
    assert found["sorted"] == ["photo 99999", "photo 99998"]
    assert found["turned"] == ["photo 0", "photo 1"]
    assert found["filtered"] == "1\u201311 of 11"


def test_keys_go_from_row_to_row_and_pictures_come_from_the_disk(chromium, tmp_path):
    page = written(tmp_path / "gällery 1", 120, pictures=True)
    script = """
      const top = () => Math.round(document.querySelectorAll(".row")[1].getBoundingClientRect().top);
      const far = top();
      press("j"); press("j");
      note("moved", far - top());
      press("k");
      note("back", scrollY > 0 && top() > 0);
      const pictures = [...document.querySelectorAll(".pictures img")];
      note("pictures", pictures.length);
      note("lazy", pictures.every(each => each.loading === "lazy"));
      note("first", pictures[0].complete && pictures[0].naturalWidth);
      const box = document.querySelector("#shown input");
      box.checked = false; box.dispatchEvent(new Event("change"));
      note("hidden", document.querySelector(".pictures").children.length);
    """
    found = run_in(chromium, page, script, tmp_path)
    # That they may be loaded late is all that can be seen here: to print a page, Chromium loads all pictures.
    assert found["pictures"] == 50 * 8 and found["lazy"]
    assert found["first"] == 8, "the first picture was not loaded from the disk"
    assert found["moved"] > 100 and found["back"]
    assert found["hidden"] == 7


def test_two_runs_side_by_side(chromium, tmp_path):
    def second(values: dict) -> dict | None:
        row = int(values["image_id"].split()[1])
        return None if row == 0 else values | {"quality": values["quality"] - 0.01 * row, "yaw": values["yaw"]}

    page = written(tmp_path / "gallery", 10, pictures=True, other=second)
    script = """
      const rows = [...document.querySelectorAll(".row")];
      note("names", [...rows[1].querySelectorAll(".run")].map(each => each.textContent));
      note("alone", [...rows[0].querySelectorAll(".run")].map(each => each.textContent));
      note("pictures", [rows[0], rows[1]].map(row => row.querySelectorAll("img").length));
      note("quality", rows[1].querySelector("dl").textContent);
      note("files", [...rows[1].querySelectorAll("img")].map(each => each.naturalWidth));
      note("keys", [...get("key").options].map(each => each.value));
      set(get("key"), "change of quality", "change");
      note("worse", shownIds());
    """
    found = run_in(chromium, page, script, tmp_path)
    assert found["names"] == ["first run", "second run"]
    assert found["alone"] == ["first run", "second run: no such row"]
    assert found["pictures"] == [8, 16] and set(found["files"]) == {8}
    assert "quality0.9 → 0.89" in found["quality"] and "yaw0.1" in found["quality"]
    assert found["keys"][-2:] == ["change of yaw", "change of quality"]
    assert found["worse"] == [f"photo {row}" for row in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]


def test_screenshot(chromium, tmp_path):
    """Chromium draws the page: a picture that is neither empty nor of one colour."""
    page = written(tmp_path / "gallery", 60, pictures=True)
    picture = tmp_path / "page.png"
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [chromium, *flags, profile, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=500, check=True)
    from PIL import Image

    with Image.open(picture) as shown:
        assert shown.size == (1400, 1000)
        assert np.asarray(shown.convert("L")).std() > 10
