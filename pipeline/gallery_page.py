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
.runs { display: grid; gap: 8px; align-content: start; }
.run { font-size: 12px; font-weight: 600; overflow-wrap: anywhere; }
.current { outline: 2px solid var(--rule); outline-offset: 6px; }
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
const CHANGE = "change of ";
const state = { key: data.sort || "", descending: data.descending, filters: [], page: 0, hidden: new Set() };
const get = id => document.getElementById(id);
const make = (tag, text, attributes) => Object.assign(document.createElement(tag), attributes,
  text === undefined ? {} : { textContent: text });
const compared = data.runs.length > 1;
const all = Uint32Array.from({ length: data.count }, (_, row) => row);
const missing = value => value === null || value === undefined;
const stored = (row, name, run = 0) => (data.values[run][name] || [])[row];
const isNumber = name => (data.values[0][name] || []).some(value => typeof value === "number");
const numbers = new Set(data.columns.filter(isNumber));
// What can be sorted and filtered by: the columns, and of two runs by how much the second differs from the first.
const keys = [...data.columns, ...compared ? data.columns.filter(name => numbers.has(name)).map(n => CHANGE + n) : []];
function valueOf(row, key) {
  if (!key.startsWith(CHANGE)) return stored(row, key);
  const [a, b] = [0, 1].map(run => stored(row, key.slice(CHANGE.length), run));
  return missing(a) || missing(b) ? null : b - a;
}
const show = value => missing(value) ? "" :
  typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(4).replace(/\\.?0+$/, "") : String(value);

function passes(row, filter) {
  if (filter.value === "") return true;
  const value = valueOf(row, filter.column);
  if (missing(value)) return false;
  if (filter.sign === "contains") return String(value).toLowerCase().includes(filter.value.toLowerCase());
  const [left, right] = typeof value === "number" ? [value, Number(filter.value)] : [String(value), filter.value];
  const signs = { "=": left === right, "\\u2260": left !== right, "\\u2265": left >= right, "\\u2264": left <= right };
  return signs[filter.sign];
}

function chosenRows() {
  const filters = state.filters.filter(filter => filter.value !== "");
  const rows = filters.length ? all.filter(row => filters.every(filter => passes(row, filter))) : all;
  if (!state.key) return rows;
  const sign = state.descending ? -1 : 1;
  const values = new Map();
  rows.forEach(row => values.set(row, valueOf(row, state.key)));
  return Array.from(rows).sort((a, b) => {
    const [x, y] = [values.get(a), values.get(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y) || a - b;
    return (x < y ? -sign : x > y ? sign : 0) || a - b;
  });
}

function drawPanel(row) {
  const panel = make("div", undefined, { className: "panel" });
  const index = data.index + "_index";
  panel.append(make("b", stored(row, "image_id")),
    make("div", `face ${stored(row, "face_index")}, ${data.index} ${stored(row, index)}`, { className: "faint" }));
  const list = make("dl");
  const done = new Set(["image_id", "pair_id", "frontal_id", "occlusion_id", "face_index", "view_index", "pose_index",
    "copy_index"]);
  const both = (label, text, title) => {
    const texts = data.runs.map((_, run) => text(run));
    const value = compared && texts[1] && texts[0] !== texts[1] ? texts.join(" \\u2192 ") : texts[0];
    if (value) list.append(make("dt", label, { title }), make("dd", value));
  };
  for (const [label, ...names] of [["pose", "yaw", "pitch", "roll"], ["view", "view_yaw", "view_pitch", "view_roll"]]) {
    if (!names.every(name => typeof stored(row, name) === "number")) continue;
    const angle = (name, run) => (Math.round(stored(row, name, run)) + 0) + "\\u00b0";
    both(label, run => missing(stored(row, names[0], run)) ? "" : names.map(name => angle(name, run)).join("  "),
      names.join(", "));
    names.forEach(name => done.add(name));
  }
  for (const name of data.columns) if (!done.has(name)) both(name, run => show(stored(row, name, run)), name);
  panel.append(list);
  return panel;
}

function drawPictures(row, run) {
  const pictures = make("div", undefined, { className: "pictures" });
  data.pictures.forEach((picture, bit) => {
    if (state.hidden.has(picture.name)) return;
    const figure = make("figure");
    if (data.shown[run][row] >> bit & 1) {
      const name = `${String(row).padStart(6, "0")}-${run ? "other_" : ""}${picture.name}.${picture.suffix}`;
      const file = `${data.folder}/${name}`;
      const link = make("a", undefined, { href: file, target: "_blank" });
      link.append(make("img", undefined, { src: file, loading: "lazy", alt: picture.heading }));
      figure.append(link);
    } else figure.append(make("div", "not available", { className: "hollow" }));
    figure.append(make("figcaption", picture.heading));
    pictures.append(figure);
  });
  return pictures;
}

function drawRow(row) {
  const line = make("div", undefined, { className: "row" });
  const runs = make("div", undefined, { className: "runs" });
  data.runs.forEach((name, run) => {
    const there = !run || !missing(stored(row, "image_id", run));
    if (compared) runs.append(make("div", there ? name : `${name}: no such row`, { className: "run" }));
    if (there) runs.append(drawPictures(row, run));
  });
  line.append(drawPanel(row), runs);
  return line;
}

function draw() {
  const rows = chosenRows();
  const pages = Math.max(1, Math.ceil(rows.length / PER_PAGE));
  state.page = Math.min(state.page, pages - 1);
  const first = state.page * PER_PAGE;
  get("rows").replaceChildren(...Array.from(rows.slice(first, first + PER_PAGE), drawRow));
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
  const filter = { column: numbers.has("quality") ? "quality" : data.columns[0], sign: "\\u2265", value: "" };
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
  box.append(select(keys, filter.column, value => { filter.column = value; }),
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
keys.forEach(name => get("key").append(make("option", name, { value: name })));
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
