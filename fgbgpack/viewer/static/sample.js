// One sample large: its layers, the values under the cursor, what was drawn, and of what.

import * as api from "./api.js";
import { controls } from "./controls.js";
import { counted, el, short } from "./dom.js";
import { depthLegend, differenceLegend } from "./legend.js";
import { copyButton } from "./selection.js";
import * as state from "./state.js";
import { drawBoxes } from "./tiles.js";

/** A pixel is drawn so many times as large at most; room between pictures, and for what is above and below. */
const LARGEST_FACTOR = 16;
const BETWEEN = 10;
const BESIDES = 270;

export class SampleView {
  constructor(dialog, info, pair, path) {
    Object.assign(this, { dialog, info: info[0], datasets: info, pair, path, place: null, number: null });
    this.blocks = new Map();
    this.onStep = async () => null;
    this.title = el("h2", { id: "sample-title", tabIndex: -1 });
    this.tools = el("div", { className: "tools" });
    this.figures = el("div", { className: "figures" });
    this.readout = el("p", { className: "readout", role: "status" });
    this.legend = el("div", { className: "legend" });
    this.facts = el("div", { className: "facts" });
    const button = (text, title, onclick) => el("button", { type: "button", title, "aria-label": title, onclick }, text);
    dialog.replaceChildren(
      el("div", { className: "sample-head" },
        button("‹", "Previous sample (left arrow)", () => this.step(-1)), this.title,
        button("›", "Next sample (right arrow)", () => this.step(1)),
        button("Close", "Close (Escape)", () => this.dialog.close())),
      this.tools,
      el("div", { className: "sample-body" },
        el("div", { className: "pictures" }, this.figures, this.readout, this.legend), this.facts),
    );
    controls(this.tools, this.info, pair, "sample");
    dialog.addEventListener("close", () => {
      this.abort?.abort();
      this.number = null;
      state.set({ i: null });
      this.onClosed?.(this.place);
    });
    dialog.addEventListener("keydown", (event) => this.#key(event));
    state.listen((names) => {
      if (this.dialog.open && ["base", "over", "scale"].some((name) => names.has(name))) this.#draw();
    });
    new ResizeObserver(() => this.dialog.open && this.#paint()).observe(this.figures);
  }

  /** Show a sample; ``place`` is where it is among those found, if that is known. */
  async open(number, place = null) {
    if (this.number === number && this.dialog.open) return;
    this.number = number;
    this.place = place;
    this.blocks.clear();
    this.title.textContent = `Sample ${counted(number)}`;
    if (!this.dialog.open) {
      this.dialog.showModal();
      this.title.focus();
    }
    this.abort?.abort();
    this.abort = new AbortController();
    state.set({ i: number });
    try {
      const facts = await api.json("sample", { i: number }, null, this.abort.signal);
      if (this.number !== number) return;
      this.sample = facts;
      this.#tell();
      await this.#draw();
    } catch (error) {
      if (error.name !== "AbortError") this.facts.replaceChildren(el("p", { className: "notice" }, error.message));
    }
  }

  async step(by) {
    const next = await this.onStep(this.place, this.number, by);
    if (next) await this.open(next.number, next.place);
  }

  #key(event) {
    if (event.target.closest("input, select, table")) return;
    const canvas = event.target.closest("canvas");
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    const [x, y] = steps[event.key];
    if (canvas) this.#point((this.at?.[0] ?? 0) + x * (event.shiftKey ? 10 : 1), (this.at?.[1] ?? 0) + y * (event.shiftKey ? 10 : 1), true);
    else if (x) this.step(x);
    else return;
    event.preventDefault();
  }

  // --- pictures -------------------------------------------------------------------------------------

  /** What is drawn: the dataset, or both and what differs. */
  get #views() {
    if (!this.pair) return [{ d: 0, title: "" }];
    const of = this.pair.layers.includes(state.get("base")) ? state.get("base") : null;
    const both = [{ d: 0, title: "First" }, { d: 1, title: "Second" }];
    return of && this.number < this.pair.samples ? [...both, { d: 0, of, title: "Second minus first" }] : both;
  }

  async #draw() {
    const { number } = this;
    const { signal } = this.abort;
    const base = state.get("base");
    const scale = state.get("scale");
    const drawn = this.#views.map(async (view) => {
      const there = this.datasets[view.d].layers;
      const layers = view.of
        ? [{ layer: "difference", of: view.of }]
        : [there.includes(base) ? base : "image", ...state.list("over").filter((name) => there.includes(name))].map((layer) => ({ layer }));
      const planes = await Promise.all(layers.map((layer) => api.picture("plane", { i: number, d: view.d, scale, ...layer }, null, signal)));
      return { ...view, planes };
    });
    try {
      this.views = await Promise.all(drawn);
    } catch (error) {
      if (error.name !== "AbortError") this.figures.replaceChildren(el("p", { className: "notice" }, error.message));
      return;
    }
    if (this.number !== number) return;
    this.figures.replaceChildren(...this.views.map((view) => this.#figure(view)));
    this.#paint();
    await this.#explainColours();
  }

  #figure(view) {
    const { width, height } = this.info;
    const canvas = el("canvas", { tabIndex: 0, role: "img", "aria-label": `Sample ${counted(this.number)}${view.title ? `, ${view.title.toLowerCase()}` : ""}, ${width} by ${height} pixels. Arrow keys read values.` });
    const cross = el("div", { className: "cross", hidden: true });
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      this.#point(Math.floor(((event.clientX - box.left) / box.width) * width), Math.floor(((event.clientY - box.top) / box.height) * height));
    });
    Object.assign(view, { canvas, cross });
    return el("figure", {}, view.title ? el("figcaption", {}, view.title) : null, el("div", { className: "frame" }, canvas, cross));
  }

  /** Every pixel a square, as large as there is room for. */
  #paint() {
    const { width, height } = this.info;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const many = this.views?.length > 1 && this.figures.clientWidth > 700 ? this.views.length : 1;
    const room = this.figures.clientWidth / many - BETWEEN;
    const tall = Math.max(240, window.innerHeight - BESIDES);
    const shown = Math.max(1, Math.min(room, (tall * width) / height, LARGEST_FACTOR * width));
    for (const { canvas, planes, of } of this.views ?? []) {
      canvas.width = Math.floor(shown * ratio);
      canvas.height = Math.round((canvas.width * height) / width);
      canvas.style.width = `${Math.floor(shown)}px`;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      for (const plane of planes) context.drawImage(plane, 0, 0, canvas.width, canvas.height);
      if (!of && state.list("over").includes("boxes")) drawBoxes(context, this.sample?.objects ?? [], canvas.width / width);
    }
    this.#markPoint();
  }

  // --- values ---------------------------------------------------------------------------------------

  async #point(x, y, aloud = false) {
    const { width, height } = this.info;
    this.at = [Math.max(0, Math.min(width - 1, x)), Math.max(0, Math.min(height - 1, y))];
    this.#markPoint();
    const [number, at] = [this.number, this.at];
    const all = await Promise.all(this.datasets.map((_, d) => (d && number >= this.datasets[d].samples ? null : this.#valuesAt(d, ...at))));
    if (this.number !== number || this.at !== at) return;
    const texts = all.filter((one) => one).map((one, d) => (all.length > 1 ? `${["first", "second"][d]}: ${one}` : one));
    this.readout.setAttribute("aria-live", aloud ? "polite" : "off");
    this.readout.textContent = `x ${at[0]}, y ${at[1]}   ${texts.join("   ")}`;
  }

  #markPoint() {
    for (const { cross } of this.views ?? []) {
      cross.hidden = !this.at;
      if (!this.at) continue;
      const { width, height } = this.info;
      Object.assign(cross.style, {
        left: `${(100 * this.at[0]) / width}%`, top: `${(100 * this.at[1]) / height}%`,
        width: `${100 / width}%`, height: `${100 / height}%`,
      });
    }
  }

  /** The values of a pixel in words; they are read in blocks. */
  async #valuesAt(d, x, y) {
    const info = this.datasets[d];
    const { block, width, height, fields } = info;
    const [row, column] = [Math.floor(y / block), Math.floor(x / block)];
    const key = `${d} ${row} ${column}`;
    if (!this.blocks.has(key)) this.blocks.set(key, api.bytes("values", { d, i: this.number, row, column }));
    let data;
    try {
      data = await this.blocks.get(key);
    } catch (error) {
      this.blocks.delete(key);
      return error.message;
    }
    const [h, w] = [Math.min(block, height - row * block), Math.min(block, width - column * block)];
    const at = (y % block) * w + (x % block);
    const view = new DataView(data);
    let start = 0;
    const found = {};
    for (const [name, size] of [["depth", 4], ["image", 3], ["mask", 1], ["instance", 1]]) {
      if (!fields.includes(name)) continue;
      if (name === "depth") found.depth = view.getFloat32(start + 4 * at, true);
      else if (name === "image") found.image = [0, 1, 2].map((k) => view.getUint8(start + 3 * at + k));
      else found[name] = view.getUint8(start + at);
      start += size * h * w;
    }
    const depth = found.depth === undefined ? "" : `   depth ${Number.isFinite(found.depth) ? Number(found.depth.toPrecision(5)) : "not filled"}${info.depth.unit ? ` ${info.depth.unit}` : ""}`;
    const instance = found.instance === undefined ? "" : `   object ${found.instance || "none"}`;
    return `RGB ${found.image.join(" ")}   mask ${found.mask}${instance}${depth}`;
  }

  async #explainColours() {
    const { signal } = this.abort;
    const of = this.#views.find((view) => view.of)?.of;
    try {
      const bars = await Promise.all([
        state.get("base") === "depth" && this.info.depth ? depthLegend(this.info, this.number, signal) : null,
        of ? differenceLegend(this.number, of, signal) : null,
      ]);
      this.legend.replaceChildren(...bars.filter(Boolean));
    } catch (error) {
      if (error.name !== "AbortError") this.legend.replaceChildren(el("p", { className: "notice" }, error.message));
    }
  }

  // --- facts ----------------------------------------------------------------------------------------

  #tell() {
    const { sample, info } = this;
    const depth = sample.depth ? `${short(sample.depth[0])} to ${short(sample.depth[1])}${info.depth.unit ? ` ${info.depth.unit}` : ""}` : "none";
    const objects = sample.objects ?? [];
    const pictures = sample.background ? [sample.background, ...objects.map((one) => one.foreground)] : sample.picture ? [sample.picture] : [];
    this.facts.replaceChildren(
      facts([["Name", sample.name], ["Background", sample.background?.name], ["Replica", sample.replica], ["Depth", depth],
        ["Objects", info.objects ? String(objects.length) : null]]),
      ...(!info.objects || !objects.length ? [] : [el("h3", {}, info.imported ? "Objects" : "Objects, far to near"), this.#table(objects)]),
      ...(pictures.length ? [el("h3", {}, "Sources"), sources(pictures)] : []),
      el("h3", {}, "Read it"),
      code(sample.python), code(sample.command),
    );
  }

  #table(objects) {
    const rows = [
      ["Foreground", (one) => one.foreground?.name], ["Category", (one) => one.category || null], ["Mirrored", (one) => (one.flip < 0 ? null : one.flip ? "yes" : "no")],
      ["Left, top", (one) => (one.x === undefined ? null : `${one.x}, ${one.y}`)], ["Height", (one) => one.height], ["Width", (one) => one.width],
      ["Turned", (one) => (one.rotation ? `${one.rotation}°` : null)], ["Seen", (one) => (one.visible === null ? null : `${Math.round(100 * one.visible)} %`)], ["Box", (one) => one.box.join(", ")], ["Edges", (one) => (this.info.scenes ? one.blend : null)],
      ["Light", (one) => one.gain?.map((value) => value.toFixed(2)).join(" ")], ["Shadow", (one) => one.shadow],
    ].filter(([, value]) => objects.some((one) => value(one) !== null && value(one) !== undefined));
    return el("div", { className: "scrolls", tabIndex: 0, role: "region", "aria-label": "Objects" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ""), ...objects.map((one) => el("th", { scope: "col" }, String(one.k + 1))))),
      el("tbody", {}, ...rows.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), ...objects.map((one) => el("td", {}, String(value(one) ?? ""))))))));
  }
}

/** Names with what they are; those that are not known are left out. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined);
  return el("dl", {}, ...known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
}

/** Each source once, with what is known of whose it is. */
function sources(all) {
  const distinct = [...new Map(all.map((one) => [one.name + one.sha256, one])).values()];
  return el("ul", { className: "sources" }, ...distinct.map((one) => el("li", {},
    el("span", one.sha256 ? { title: `SHA-256 ${one.sha256}` } : {}, one.name),
    el("span", { className: "faint" }, ` ${[one.license ?? "no licence stated", one.author].filter(Boolean).join(", ")} `),
    /^https?:\/\//.test(one.url ?? "") ? el("a", { href: one.url, rel: "noreferrer noopener", target: "_blank" }, "origin") : null)));
}

/** A line of Python or of the shell, to copy. */
export function code(text) {
  return el("div", { className: "code" }, el("code", {}, text), copyButton("Copy", text));
}
