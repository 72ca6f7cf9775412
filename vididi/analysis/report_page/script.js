"use strict";

/* Tables: a heading sorts by its column, numbers by their first number, what is empty last. */
function key(cell) {
  const text = cell ? cell.firstChild ? cell.firstChild.textContent.trim() : "" : "";
  const number = /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?(?![^\s%])/i.exec(text);
  return { text, number: number ? parseFloat(number[0]) : null };
}

function compare(one, other, sign) {
  if (!one.text || !other.text) return (one.text ? 0 : 1) - (other.text ? 0 : 1);
  if (one.number !== null && other.number !== null) return sign * (one.number - other.number);
  if ((one.number === null) !== (other.number === null)) return one.number === null ? 1 : -1;
  return sign * one.text.localeCompare(other.text, "en", { numeric: true });
}

function sortBy(heading) {
  const table = heading.closest("table"), column = heading.cellIndex;
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = Array.from(table.tBodies[0].rows, row => [key(row.cells[column]), row]);
  rows.sort((one, other) => compare(one[0], other[0], descending ? -1 : 1));
  table.tBodies[0].append(...rows.map(row => row[1]));
}

for (const button of document.querySelectorAll("table.sortable thead button"))
  button.addEventListener("click", () => sortBy(button.parentElement));

/* Pictures: a thumbnail opens as it is, in a dialog that Escape closes. */
const dialog = document.getElementById("enlarged");
for (const thumbnail of document.querySelectorAll(".thumbnail"))
  thumbnail.addEventListener("click", () => {
    const from = thumbnail.querySelector("img"), to = dialog.querySelector("img");
    to.src = from.src;
    to.alt = from.alt;
    dialog.showModal();
  });

/* Parallel coordinates. */
const SVG = "http://www.w3.org/2000/svg", HEIGHT = 330, TOP = 46, BOTTOM = 20, STEP = 130, SIDE = 70, LETTER = 6.5;

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function brief(value) {
  const text = typeof value === "number" ? String(+value.toPrecision(4)) : value;
  return text.length > 18 ? text.slice(0, 17) + "\u2026" : text;
}

/* Where values lie on an axis, from 0 below to 1 above, and its marks. */
function scaleOf(values) {
  const there = values.filter(value => value !== null);
  if (there.length && there.every(value => typeof value === "number")) {
    const low = Math.min(...there), high = Math.max(...there);
    const log = low > 0 && high / low >= 50, of = log ? Math.log : value => value;
    const at = value => high === low ? 0.5 : (of(value) - of(low)) / (of(high) - of(low));
    const distinct = [...new Set(there)].sort((a, b) => a - b);
    return { at, marks: distinct.length <= 8 ? distinct : [low, high] };
  }
  const distinct = [...new Set(there.map(String))].sort((a, b) => b.localeCompare(a, "en", { numeric: true }));
  const at = value => distinct.length < 2 ? 0.5 : distinct.indexOf(String(value)) / (distinct.length - 1);
  return { at, marks: distinct.length <= 20 ? distinct : [] };
}

/* From light to dark blue; the lightest has a contrast of 3 to 1 on white. */
function shade(share) {
  const from = [106, 141, 190], to = [8, 29, 88];
  return `rgb(${from.map((value, i) => Math.round(value + share * (to[i] - value))).join(",")})`;
}

function draw(data, metric, box) {
  const names = ["arm", ...data.axes, metric];
  const columns = [
    data.runs.map(run => run.arm),
    ...data.axes.map((_, i) => data.runs.map(run => run.values[i])),
    data.runs.map(run => run.metrics[metric]),
  ];
  const scales = columns.map(scaleOf);
  const left = Math.max(SIDE, 12 + LETTER * Math.max(0, ...scales[0].marks.map(mark => brief(mark).length)));
  const width = left + STEP * (names.length - 1) + SIDE, x = i => left + STEP * i;
  const y = share => HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
  const svg = element("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, role: "img",
    "aria-label": `${data.runs.length} runs by ${names.join(", ")}; the table of all runs says the same`,
  });
  box.style.minWidth = `${Math.min(width, 1200)}px`;
  svg.style.maxWidth = `${1.4 * width}px`;
  const last = names.length - 1, drawn = data.runs.map((run, row) => [columns[last][row], row]);
  drawn.sort((one, other) => (one[0] ?? -Infinity) - (other[0] ?? -Infinity));
  for (const [value, row] of drawn) {
    const points = columns.map((column, i) => column[row] === null ? null : [x(i), y(scales[i].at(column[row]))]);
    const path = points.filter(Boolean).map((point, i) => (i ? "L" : "M") + point.map(Math.round).join(" "));
    const colour = value === null ? "#767676" : shade(scales[last].at(value));
    const line = element("path", { d: path.join(" "), class: "line", stroke: colour });
    const about = `${data.runs[row].name}: ${names.map((name, i) => `${name} ${columns[i][row] ?? "none"}`).join(", ")}`;
    line.append(element("title", {}, about));
    line.addEventListener("pointerenter", () => { document.getElementById("chosen").textContent = about; });
    svg.append(line);
  }
  names.forEach((name, i) => {
    svg.append(element("line", { x1: x(i), x2: x(i), y1: TOP, y2: HEIGHT - BOTTOM, stroke: "#4d5560" }));
    const label = element("text", { x: x(i), y: i % 2 ? 30 : 14, "text-anchor": "middle", class: "name" }, brief(name));
    label.append(element("title", {}, name));
    svg.append(label);
    for (const mark of scales[i].marks) {
      const end = i === last;
      svg.append(element("text", {
        x: x(i) + (end ? 5 : -5), y: y(scales[i].at(mark)) + 4, "text-anchor": end ? "start" : "end",
        style: "paint-order:stroke;stroke:#fff;stroke-width:3px",
      }, brief(mark)));
    }
  });
  box.replaceChildren(svg);
}

const box = document.getElementById("coordinates"), choice = document.getElementById("metric");
if (box && choice) {
  const data = JSON.parse(document.getElementById("coordinates-data").textContent);
  const show = () => draw(data, choice.value, box);
  choice.addEventListener("change", show);
  show();
}
