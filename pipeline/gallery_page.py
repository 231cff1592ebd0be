"""The gallery's page: HTML, CSS and plain JavaScript without anything from outside, so that it opens from a disk."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>
:root { --ink: #181b21; --faint: #6b7280; --rule: #e1e4e9; --paper: #fff; --field: #f4f5f7; --size: 168px; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --faint: #9aa1ac; --rule: #33373f; --paper: #16181d; --field: #22252c; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 14px/1.45 system-ui, sans-serif; }
header, main, footer { padding: 0 24px; }
h1 { font-size: 20px; font-weight: 600; margin: 20px 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 16px; font-weight: 600; margin: 32px 0 8px; }
.faint { color: var(--faint); }
.tools { position: sticky; top: 0; z-index: 1; background: var(--paper); border-bottom: 1px solid var(--rule);
  display: flex; flex-wrap: wrap; gap: 8px 18px; align-items: center; padding: 10px 24px; }
.tools > div { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
input, select, button { font: inherit; color: inherit; background: var(--field); border: 1px solid var(--rule);
  border-radius: 5px; padding: 3px 7px; }
input[type=range], input[type=checkbox] { padding: 0; }
button { cursor: pointer; }
button:disabled { opacity: .4; cursor: default; }
.value { width: 7em; }
.row { display: flex; gap: 14px; padding: 12px 0; border-bottom: 1px solid var(--rule); }
.panel { flex: 0 0 220px; overflow-wrap: anywhere; }
.panel b { font-weight: 600; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 10px; margin: 4px 0 0; font-size: 13px;
  font-variant-numeric: tabular-nums; }
dt { color: var(--faint); }
dd { margin: 0; white-space: pre-wrap; }
.pictures { display: flex; flex-wrap: wrap; gap: 8px; }
figure { margin: 0; width: var(--size); }
figure img, figure .hollow { width: var(--size); height: var(--size); display: block; background: var(--field); }
figure .hollow { display: grid; place-items: center; color: var(--faint); }
figcaption { font-size: 12px; color: var(--faint); }
table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; padding: 3px 14px 3px 0; border-bottom: 1px solid var(--rule); vertical-align: top;
  overflow-wrap: anywhere; }
th { font-weight: 600; }
footer { height: 40px; }
</style>
</head>
<body>
<header><h1>@TITLE@</h1><div class="faint">@NOTE@</div></header>
<div class="tools">
  <div><label>Sort by <select id="key"></select></label><button id="order"></button></div>
  <div id="filters"></div>
  <div><button id="add">Add filter</button></div>
  <div id="shown"></div>
  <div><label>Size <input id="size" type="range" min="80" max="336" step="8" value="168"></label></div>
  <div title="Keys: left and right arrow, Home, End; j and k from row to row">
    <button id="back">&larr;</button><span id="where"></span><button id="forth">&rarr;</button></div>
</div>
<main><div id="rows"></div><section id="failures"></section></main>
<footer></footer>
<script type="application/json" id="data">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const PER_PAGE = 50;
const state = { key: data.sort || "", descending: data.descending, filters: [], page: 0, hidden: new Set() };
const get = id => document.getElementById(id);
const make = (tag, text, attributes) => Object.assign(document.createElement(tag), attributes,
  text === undefined ? {} : { textContent: text });
const numeric = name => data.rows.some(row => typeof row.values[name] === "number");
const show = value => value === null || value === undefined ? "" :
  typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(4).replace(/\\.?0+$/, "") : String(value);

function passes(row, filter) {
  if (filter.value === "") return true;
  const value = row.values[filter.column];
  if (value === null || value === undefined) return false;
  if (filter.sign === "contains") return String(value).toLowerCase().includes(filter.value.toLowerCase());
  const [left, right] = typeof value === "number" ? [value, Number(filter.value)] : [String(value), filter.value];
  const signs = { "=": left === right, "\\u2260": left !== right, "\\u2265": left >= right, "\\u2264": left <= right };
  return signs[filter.sign];
}

function chosenRows() {
  const rows = data.rows.filter(row => state.filters.every(filter => passes(row, filter)));
  if (!state.key) return rows;
  const sign = state.descending ? -1 : 1;
  const missing = value => value === null || value === undefined;
  return rows.sort((a, b) => {
    const [x, y] = [a.values[state.key], b.values[state.key]];
    if (missing(x) || missing(y)) return missing(x) - missing(y) || a.number - b.number;
    return (x < y ? -sign : x > y ? sign : 0) || a.number - b.number;
  });
}

function drawRow(row) {
  const line = make("div", undefined, { className: "row" });
  const panel = make("div", undefined, { className: "panel" });
  panel.append(make("b", row.values.image_id),
    make("div", `face ${row.values.face_index}, ${data.index} ${row.values[data.index + "_index"]}`,
      { className: "faint" }));
  const list = make("dl");
  const done = new Set(["image_id", "pair_id", "frontal_id", "face_index", "view_index", "pose_index"]);
  for (const [label, ...names] of [["pose", "yaw", "pitch", "roll"], ["view", "view_yaw", "view_pitch", "view_roll"]]) {
    if (!names.every(name => typeof row.values[name] === "number")) continue;
    list.append(make("dt", label, { title: names.join(", ") }),
      make("dd", names.map(name => (Math.round(row.values[name]) + 0) + "\\u00b0").join("  ")));
    names.forEach(name => done.add(name));
  }
  for (const name of data.columns) {
    if (done.has(name) || row.values[name] === null) continue;
    list.append(make("dt", name), make("dd", show(row.values[name])));
  }
  panel.append(list);
  const pictures = make("div", undefined, { className: "pictures" });
  for (const picture of data.pictures) {
    if (state.hidden.has(picture.name)) continue;
    const figure = make("figure");
    const file = row.files[picture.name];
    if (file) {
      const link = make("a", undefined, { href: file, target: "_blank" });
      link.append(make("img", undefined, { src: file, loading: "lazy", alt: picture.heading }));
      figure.append(link);
    } else figure.append(make("div", "not available", { className: "hollow" }));
    figure.append(make("figcaption", picture.heading));
    pictures.append(figure);
  }
  line.append(panel, pictures);
  return line;
}

function draw() {
  const rows = chosenRows();
  const pages = Math.max(1, Math.ceil(rows.length / PER_PAGE));
  state.page = Math.min(state.page, pages - 1);
  const first = state.page * PER_PAGE;
  get("rows").replaceChildren(...rows.slice(first, first + PER_PAGE).map(drawRow));
  get("where").textContent = rows.length
    ? `${first + 1}\\u2013${Math.min(rows.length, first + PER_PAGE)} of ${rows.length}` : "no row passes the filters";
  get("back").disabled = state.page === 0;
  get("forth").disabled = state.page >= pages - 1;
  get("order").textContent = state.descending ? "descending" : "ascending";
  get("order").disabled = !state.key;
}

function select(options, value, onchange) {
  const element = make("select");
  for (const option of options) element.append(make("option", option));
  element.value = value;
  element.addEventListener("change", () => { onchange(element.value); state.page = 0; draw(); });
  return element;
}

function addFilter() {
  const filter = { column: numeric("quality") ? "quality" : data.columns[0], sign: "\\u2265", value: "" };
  state.filters.push(filter);
  const box = make("div");
  const input = make("input", undefined, { className: "value", placeholder: "value" });
  input.addEventListener("input", () => { filter.value = input.value.trim(); state.page = 0; draw(); });
  const remove = make("button", "\\u00d7", { title: "Remove this filter" });
  remove.addEventListener("click", () => {
    state.filters = state.filters.filter(other => other !== filter);
    box.remove();
    draw();
  });
  box.append(select(data.columns, filter.column, value => { filter.column = value; }),
    select(["\\u2265", "\\u2264", "=", "\\u2260", "contains"], filter.sign, value => { filter.sign = value; }),
    input, remove);
  get("filters").append(box);
}

function drawFailures() {
  const failures = data.failures;
  if (!failures.total) return;
  const table = (headings, lines) => {
    const element = make("table"), head = make("tr");
    headings.forEach(heading => head.append(make("th", heading)));
    element.append(head);
    for (const line of lines) {
      const row = make("tr");
      line.forEach(cell => row.append(make("td", show(cell))));
      element.append(row);
    }
    return element;
  };
  get("failures").append(
    make("h2", `Without a result: ${failures.total}`), table(["reason", "count"], failures.reasons),
    make("h2", failures.rows.length < failures.total ? `The first ${failures.rows.length}` : "Each of them"),
    table(["photo", "face", "stage", "reason", "message"], failures.rows));
}

get("key").append(make("option", "the given order", { value: "" }));
data.columns.forEach(name => get("key").append(make("option", name, { value: name })));
get("key").value = state.key;
get("key").addEventListener("change", () => { state.key = get("key").value; state.page = 0; draw(); });
get("order").addEventListener("click", () => { state.descending = !state.descending; draw(); });
get("add").addEventListener("click", addFilter);
get("back").addEventListener("click", () => { state.page -= 1; draw(); scrollTo(0, 0); });
get("forth").addEventListener("click", () => { state.page += 1; draw(); scrollTo(0, 0); });
// Keys: left and right turn pages, j and k go from row to row, Home and End to the first and last page.
function move(page) {
  state.page = Math.max(0, page);
  draw();
  scrollTo(0, 0);
}
function toRow(step) {
  const top = document.querySelector(".tools").offsetHeight + 4;
  const lines = [...document.querySelectorAll(".row")];
  const tops = lines.map(line => line.getBoundingClientRect().top - top);
  const next = step > 0 ? tops.findIndex(y => y > 2) : tops.findLastIndex(y => y < -2);
  if (next >= 0) scrollBy(0, tops[next]);
  else if (step > 0 && !get("forth").disabled) move(state.page + 1);
}
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const keys = { ArrowLeft: () => move(state.page - 1), ArrowRight: () => move(state.page + 1), Home: () => move(0),
    End: () => move(Infinity), j: () => toRow(1), k: () => toRow(-1) };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});
get("size").addEventListener("input", () =>
  document.documentElement.style.setProperty("--size", get("size").value + "px"));
for (const picture of data.pictures) {
  const label = make("label"), box = make("input", undefined, { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    state.hidden[box.checked ? "delete" : "add"](picture.name);
    draw();
  });
  label.append(box, " " + picture.heading);
  get("shown").append(label);
}
addFilter();
draw();
drawFailures();
</script>
</body>
</html>
"""
