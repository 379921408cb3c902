// What a dataset keeps of its statistics: nothing is counted for the page.

import * as api from "./api.js";
import { counted, el, short } from "./dom.js";
import { code, facts } from "./sample.js";

/** Categories that are listed. */
const LISTED = 24;

/** Fill the dialog each time that it is opened: statistics may have been stored in the meantime. */
export function statistics(dialog, opener, datasets) {
  const body = el("div", { className: "counted" });
  dialog.replaceChildren(
    el("div", { className: "sample-head" }, el("h2", { id: "statistics-title" }, "Statistics"),
      el("button", { type: "button", onclick: () => dialog.close() }, "Close")), body);
  opener.addEventListener("click", async () => {
    body.replaceChildren();
    dialog.showModal();
    try {
      const all = await Promise.all(datasets.map((_, d) => api.json("statistics", { d })));
      body.replaceChildren(...all.flatMap((one, d) => [
        ...(all.length > 1 ? [el("h2", {}, datasets[d].path)] : []), ...said(one, datasets[d]),
      ]));
    } catch (error) {
      body.replaceChildren(el("p", { className: "notice" }, error.message));
    }
  });
}

function said({ stats, command }, info) {
  if (!stats) {
    return [el("p", {}, "None are stored in the dataset. This command counts every pixel once, and stores them:"), code(command)];
  }
  const { whole, counts, sizes } = stats;
  const { image, mask, depth } = whole;
  const four = (values) => values.map((value) => value.toFixed(4));
  const objects = counts ? sum(counts.foregrounds) : 0;
  const charts = [
    chart("Foreground of a sample", `${percent(mask.share)} of all pixels; ${counted(mask.empty)} samples have none`, filled(mask.histogram), percent, "samples"),
    depth ? chart("Depth of pixels", depthNote(depth), depth.histogram, short, "pixels") : null,
    sizes ? chart("Heights of objects", `${spread(sizes.height)} pixels; widths ${spread(sizes.width)}`, sizes.heights, pixels, "objects") : null,
    sizes?.visible ? chart("Seen of each object", `${counted(sizes.hidden)} of ${counted(sizes.objects + sizes.hidden)} are hidden`, sizes.visible, percent, "objects") : null,
    counts && counts.objects.length > 2 ? chart("Objects of a sample", "how many", { least: 0, greatest: counts.objects.length - 1, counts: counts.objects }, short, "samples") : null,
  ];
  return [
    facts([
      ["Samples", `${counted(whole.samples)} of ${stats.width}x${stats.height}, every pixel of them counted`],
      ["Mean", `${four(image.mean).join(" ")} (red, green, blue; white is 1)`],
      ["Std", four(image.std).join(" ")],
      ["Depth", info.depth && !depth ? "none is filled" : null],
      ["Backgrounds", counts ? each(counts.backgrounds, "samples") : null],
      ["Foregrounds", counts ? each(counts.foregrounds, "objects") : null],
      ["Mirrored", objects ? `${percent(counts.mirrored / objects)} of ${counted(objects)} objects` : null],
      ["Categories", counts && Object.keys(counts.categories).length > 1 ? categories(counts.categories) : null],
      ["Twice there", twice(stats)],
    ]),
    code(`Normalize(mean=[${four(image.mean).join(", ")}], std=[${four(image.std).join(", ")}])`),
    el("div", { className: "charts" }, places(stats), ...charts),
    ...(Object.keys(stats.parts).length ? [parts(stats)] : []),
  ];
}

// --- words ---------------------------------------------------------------------------------------------

const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
const pixels = (value) => counted(Math.round(value));
const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;

function each(numbers, of) {
  const [least, most] = numbers.reduce(([low, high], one) => [Math.min(low, one), Math.max(high, one)], [Infinity, 0]);
  return `${counted(numbers.length)}, each in ${least === most ? counted(most) : `${counted(least)} to ${counted(most)}`} ${of}`;
}

function spread([least, lower, , upper, greatest]) {
  return least === greatest ? `all ${counted(least)}` : `${counted(least)} to ${counted(greatest)}, half of them ${counted(lower)} to ${counted(upper)}`;
}

function depthNote(depth) {
  const what = (depth.quantity ?? "unknown quantity").replace("_", " ");
  const unknown = depth.unknown ? `; ${percent(depth.unknown / (depth.known + depth.unknown))} of the pixels have none` : "";
  return `${what}${depth.unit ? ` in ${depth.unit}` : ""}: ${short(depth.least)} to ${short(depth.greatest)}, mean ${short(depth.mean)}, std ${short(depth.std)}${unknown}`;
}

function categories(all) {
  const named = Object.entries(all).sort(([a, many], [b, more]) => more - many || (a < b ? -1 : 1));
  const rest = named.length > LISTED ? ` and ${counted(named.length - LISTED)} more` : "";
  return named.slice(0, LISTED).map(([name, many]) => `${name || "none"} ${counted(many)}`).join(", ") + rest;
}

function twice(stats) {
  const known = [["backgrounds", stats.same_backgrounds], ["foregrounds", stats.same_foregrounds], ["samples", stats.same_samples]];
  if (known.every(([, many]) => many === null)) return null;
  const found = known.filter(([, many]) => many).map(([name, many]) => `${counted(many)} ${name}`);
  return (found.join(", ") || "nothing") + (stats.same_samples === null ? "; samples are too many to be compared" : "");
}

// --- pictures ------------------------------------------------------------------------------------------

/** A histogram without the empty bins at its upper end. */
function filled({ least, greatest, counts }) {
  const last = Math.max(1, counts.findLastIndex((count) => count > 0) + 1);
  return { least, greatest: least + ((greatest - least) * last) / counts.length, counts: counts.slice(0, last) };
}

/** A histogram with the values of its ends; its highest bar is named. */
function chart(title, note, { least, greatest, counts }, say, of) {
  const most = Math.max(1, ...counts);
  const label = `${title}, ${say(least)} to ${say(greatest)}: ${note}; at most ${counted(most)} ${of} in one of ${counts.length} bars`;
  const bars = el("div", { className: "chart", role: "img", "aria-label": label }, ...counts.map((count) => {
    const bar = el("span", { title: `${counted(count)} ${of}` });
    bar.style.height = count ? `max(1px, ${(100 * count) / most}%)` : "0";
    return bar;
  }));
  return el("section", {}, el("h3", {}, title), el("p", { className: "note" }, note), bars,
    el("div", { className: "axis", "aria-hidden": "true" }, el("span", {}, say(least)), el("span", {}, `up to ${counted(most)} ${of}`), el("span", {}, say(greatest))));
}

/** Where in the picture foregrounds are: the more samples have one there, the stronger the colour. */
function places({ places: cells, whole, width, height }) {
  const [rows, columns] = [cells.length, cells[0].length];
  // Parts of the picture differ by a row or a column of pixels.
  const side = (k, n, pixels) => Math.floor(((k + 1) * pixels) / n) - Math.floor((k * pixels) / n);
  const often = cells.map((row, y) => row.map((count, x) => count / (side(y, rows, height) * side(x, columns, width) * Math.max(1, whole.samples))));
  const most = Math.max(0, ...often.map((row) => Math.max(...row)));
  const note = `of at most ${percent(most)} of the samples`;
  const canvas = el("canvas", { className: "places", width: columns, height: rows, role: "img", "aria-label": `Where foregrounds are: ${note}` });
  canvas.style.aspectRatio = `${width} / ${height}`;
  const section = el("section", {}, el("h3", {}, "Where foregrounds are"), el("p", { className: "note" }, note), canvas);
  // Colours are known once it is in the page.
  requestAnimationFrame(() => {
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(canvas).color;
    often.forEach((row, y) => row.forEach((share, x) => {
      context.globalAlpha = most ? share / most : 0;
      context.fillRect(x, y, 1, 1);
    }));
  });
  return section;
}

/** A line for each part of the split, and what each two of them share. */
function parts(stats) {
  const three = (values) => values.map((value) => value.toFixed(3)).join(" ");
  const heads = ["Part", "Samples", "Mean", "Std", "Foreground"];
  const rows = Object.entries(stats.parts).map(([name, part]) => el("tr", {}, el("th", { scope: "row" }, name),
    ...[counted(part.samples), three(part.image.mean), three(part.image.std), percent(part.mask.share)].map((text) => el("td", {}, text))));
  // Each two parts are there in both orders, and share the same.
  const names = Object.keys(stats.parts);
  const pairs = stats.shared.filter(({ parts: [first, second] }) => names.indexOf(first) < names.indexOf(second));
  const shared = pairs.map((one) => {
    const known = [["backgrounds", one.backgrounds], ["foregrounds", one.foregrounds], ["samples", one.samples]].filter(([, many]) => many !== null);
    return el("li", {}, `${one.parts.join(" and ")} share: ${known.map(([name, many]) => `${counted(many)} ${name}`).join(", ") || "not known"}`);
  });
  return el("section", {}, el("h3", {}, `Split ${stats.split.name}`),
    el("div", { className: "scrolls", tabIndex: 0, role: "region", "aria-label": "Parts" },
      el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, ...rows))),
    el("ul", { className: "sources faint" }, ...shared));
}
