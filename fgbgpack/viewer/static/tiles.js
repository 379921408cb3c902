// Tiles of samples: fetched in blocks as sheets, kept, and drawn on the canvases of cells.

import * as api from "./api.js";
import * as state from "./state.js";

/** Pixels of the sheets of a block, and the most samples in it. */
const BLOCK_PIXELS = 800_000;
const MOST_SAMPLES = 48;
/** Blocks that are kept, and requests that run at a time. */
const KEPT = 60;
const AT_ONCE = 4;
const BOX = "#ffffff";
const BOX_SHADOW = "rgba(0, 0, 0, 0.65)";

/** The layers, lowest first, that are drawn now, as [name of the layer, number of the dataset]. */
export function layersNow(datasets, pair) {
  const show = pair ? state.get("show") : "a";
  const base = state.get("base");
  if (show === "difference") {
    const of = pair.layers.includes(base) ? base : "image";
    return [{ layer: "difference", of, d: 0 }];
  }
  const d = show === "b" ? 1 : 0;
  const there = datasets[d].layers;
  const over = state.list("over").filter((name) => there.includes(name));
  return [there.includes(base) ? base : "image", ...over].map((layer) => ({ layer, d }));
}

export class Tiles {
  constructor(info) {
    this.datasets = info.datasets;
    this.pair = info.pair;
    this.blocks = new Map();
    this.waiting = [];
    this.running = 0;
    this.onLoaded = () => {};
    this.onRefused = () => {};
    this.reset();
  }

  /** Begin anew: other samples, another order, or other tiles are shown. */
  reset() {
    for (const block of this.blocks.values()) block.abort.abort();
    this.blocks.clear();
    this.waiting = [];
    const { width, height } = this.datasets[0];
    const cell = Number(state.get("size")) * Math.min(2, window.devicePixelRatio || 1);
    this.cell = [64, 128, 256, 512].find((size) => size >= cell) ?? 512;
    const scale = Math.min(1, this.cell / Math.max(width, height));
    const pixels = Math.round(width * scale) * Math.round(height * scale);
    this.size = Math.max(8, Math.min(MOST_SAMPLES, 8 * Math.floor(BLOCK_PIXELS / pixels / 8)));
    this.query = state.query();
    this.layers = layersNow(this.datasets, this.pair);
    this.boxes = state.list("over").includes("boxes");
  }

  /** Other layers of the same samples: what is known of them stays. */
  relayer() {
    this.layers = layersNow(this.datasets, this.pair);
    const boxes = state.list("over").includes("boxes");
    if (boxes && !this.boxes && this.datasets[0].imported) return this.reset();
    this.boxes = boxes;
    return undefined;
  }

  /** Ask for what the places from first to last need; what nobody needs any more is given up. */
  want(first, last) {
    const from = Math.floor(first / this.size);
    const to = Math.floor(last / this.size);
    this.waiting = [];
    for (let number = from; number <= to; number += 1) this.#ask(number);
    for (const [number, block] of this.blocks) {
      if ((number < from - 1 || number > to + 1) && block.loading.size) {
        block.abort.abort();
        this.blocks.delete(number);
      }
    }
    this.#next();
  }

  /** What is known of the sample at a place, if it is there by now. */
  row(place) {
    const block = this.blocks.get(Math.floor(place / this.size));
    return block?.rows?.[place % this.size];
  }

  /** Draw the sample at a place; whether all of it is there. */
  draw(place, canvas) {
    const context = canvas.getContext("2d");
    const block = this.blocks.get(Math.floor(place / this.size));
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!block) return false;
    const within = place % this.size;
    let whole = true;
    for (const layer of this.layers) {
      const sheet = block.sheets.get(key(layer));
      if (!sheet) {
        whole = false;
        continue;
      }
      const columns = Math.min(this.datasets[0].sheet_columns, block.count);
      const [w, h] = [sheet.width / columns, sheet.height / Math.ceil(block.count / columns)];
      context.imageSmoothingEnabled = canvas.width < 3 * w;
      context.imageSmoothingQuality = "high";
      const [left, top] = [(within % columns) * w, Math.floor(within / columns) * h];
      context.drawImage(sheet, left, top, w, h, 0, 0, canvas.width, canvas.height);
    }
    const row = block.rows?.[within];
    if (this.boxes && row) drawBoxes(context, row.objects ?? [], canvas.width / this.datasets[0].width);
    return whole && Boolean(block.rows);
  }

  #ask(number) {
    let block = this.blocks.get(number);
    if (!block) {
      block = { number, abort: new AbortController(), rows: null, count: 0, sheets: new Map(), loading: new Set() };
      this.blocks.set(number, block);
    }
    // What was used last is kept longest.
    this.blocks.delete(number);
    this.blocks.set(number, block);
    for (const layer of this.layers) {
      const name = key(layer);
      if (!block.sheets.has(name) && !block.loading.has(name)) this.waiting.push({ block, name, layer });
    }
    if (!block.rows && !block.loading.has("rows")) this.waiting.push({ block, name: "rows" });
    while (this.blocks.size > KEPT) {
      const [oldest, dropped] = this.blocks.entries().next().value;
      dropped.abort.abort();
      this.blocks.delete(oldest);
    }
  }

  #next() {
    while (this.running < AT_ONCE && this.waiting.length) {
      const task = this.waiting.shift();
      if (task.block.loading.has(task.name)) continue;
      task.block.loading.add(task.name);
      this.running += 1;
      this.#load(task).finally(() => {
        this.running -= 1;
        task.block.loading.delete(task.name);
        this.#next();
      });
    }
  }

  async #load({ block, name, layer }) {
    const { signal } = block.abort;
    const place = { from: block.number * this.size, count: this.size };
    try {
      if (name === "rows") {
        const { rows } = await api.json("rows", { ...place, boxes: this.boxes ? 1 : 0 }, this.query, signal);
        block.rows = rows;
        block.count = rows.length;
      } else {
        const how = { ...place, ...layer, by: 0, cell: this.cell };
        if (layer.layer === "depth") how.scale = state.get("scale");
        const sheet = await api.picture("sheet", how, this.query, signal);
        block.sheets.set(name, sheet);
        if (!block.rows) block.count = Math.max(block.count, this.#countOf(sheet));
      }
      if (this.blocks.get(block.number) === block) this.onLoaded(block.number * this.size, this.size);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.onRefused(error);
    }
  }

  /** How many tiles a sheet has at most: the last row may be shorter. */
  #countOf(sheet) {
    const { width, height, sheet_columns: most } = this.datasets[0];
    const scale = Math.min(1, this.cell / Math.max(width, height));
    const columns = Math.round(sheet.width / Math.max(1, Math.round(width * scale)));
    const rows = Math.round(sheet.height / Math.max(1, Math.round(height * scale)));
    return columns < most ? columns : columns * rows;
  }
}

/** The name of a layer among those of a block. */
function key(layer) {
  const scale = layer.layer === "depth" ? state.get("scale") : "";
  return `${layer.d}${layer.layer}${layer.of ?? ""}${scale}`;
}

/** Draw the boxes of what is seen of objects, in a picture that is so many times as large as a sample. */
export function drawBoxes(context, objects, scale) {
  for (const { box } of objects) {
    const [top, left, bottom, right] = box.map((edge) => Math.round(edge * scale));
    if (bottom <= top) continue;
    for (const [colour, width] of [[BOX_SHADOW, 3], [BOX, 1]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(left + 0.5, top + 0.5, right - left - 1, bottom - top - 1);
    }
  }
}
