// The map of placements: how many objects have their middle where, and a region drawn on it.

import { counted, el } from "./dom.js";
import * as state from "./state.js";

const WIDTH = 256;

export class PlacementMap {
  constructor(info) {
    this.info = info;
    this.counts = null;
    this.canvas = el("canvas", { className: "map", width: WIDTH, height: Math.max(32, Math.round((WIDTH * info.height) / info.width)), role: "img" });
    this.edges = ["left", "top", "right", "bottom"].map((name, k) => {
      const most = k % 2 ? info.height : info.width;
      const input = el("input", { type: "number", min: 0, max: most, "aria-label": `Region, ${name} in pixels`, placeholder: k < 2 ? "0" : String(most) });
      input.addEventListener("change", () => this.#typed());
      return input;
    });
    this.clear = el("button", { type: "button", onclick: () => state.set({ region: null }) }, "Clear");
    this.note = el("p", { className: "faint" });
    this.root = el("div", { className: "placed" }, this.canvas, this.note,
      el("div", { className: "edges" }, ...this.edges.map((input, k) => el("label", {}, ["x", "y", "x to", "y to"][k], input)), this.clear));
    this.canvas.addEventListener("pointerdown", (event) => this.#drag(event));
  }

  /** Counts by rows of cells; null while they are not known. */
  show(counts) {
    this.counts = counts;
    const region = this.region;
    this.edges.forEach((input, k) => {
      if (document.activeElement !== input) input.value = region ? Math.round(region[k]) : "";
    });
    this.clear.disabled = !region;
    this.#draw(region);
  }

  get region() {
    const edges = state.get("region").split(",").map(Number);
    return edges.length === 4 && edges.every(Number.isFinite) ? edges : null;
  }

  #draw(region) {
    const { canvas, counts, info } = this;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    context.clearRect(0, 0, canvas.width, canvas.height);
    let total = 0;
    if (counts?.length) {
      const most = Math.max(1, ...counts.map((row) => Math.max(...row)));
      const cell = Math.ceil(Math.max(info.width, info.height) / 64);
      // A pixel for each cell, and then all of them larger: cells neither overlap nor leave gaps.
      const cells = new OffscreenCanvas(counts[0].length, counts.length);
      const drawn = cells.getContext("2d");
      drawn.fillStyle = style.color;
      counts.forEach((row, y) => row.forEach((count, x) => {
        total += count;
        drawn.globalAlpha = count ? 0.12 + 0.88 * Math.sqrt(count / most) : 0;
        drawn.fillRect(x, y, 1, 1);
      }));
      const [w, h] = [(cells.width * cell * canvas.width) / info.width, (cells.height * cell * canvas.height) / info.height];
      context.imageSmoothingEnabled = false;
      context.drawImage(cells, 0, 0, w, h);
    }
    this.note.textContent = `${counts ? `Where the middle of ${counted(total)} objects is. ` : ""}Drag over the map to choose a region.`;
    canvas.setAttribute("aria-label", `Map of placements of ${counted(total)} objects${region ? `; chosen: x ${Math.round(region[0])} to ${Math.round(region[2])}, y ${Math.round(region[1])} to ${Math.round(region[3])}` : ""}`);
    if (region) {
      const [left, top, right, bottom] = region.map((edge, k) => (k % 2 ? (edge * canvas.height) / info.height : (edge * canvas.width) / info.width));
      context.strokeStyle = style.caretColor;
      context.lineWidth = 2;
      context.strokeRect(left, top, right - left, bottom - top);
    }
  }

  #typed() {
    if (this.edges.every((input) => input.value === "")) return state.set({ region: null });
    const ends = [0, 0, this.info.width, this.info.height];
    const edges = this.edges.map((input, k) => (input.value === "" ? ends[k] : Number(input.value)));
    return this.#choose(edges);
  }

  #choose([x0, y0, x1, y1]) {
    const { width, height } = this.info;
    const within = (value, most) => Math.max(0, Math.min(most, Math.round(value)));
    const [left, right] = [x0, x1].map((x) => within(x, width)).sort((a, b) => a - b);
    const [top, bottom] = [y0, y1].map((y) => within(y, height)).sort((a, b) => a - b);
    state.set({ region: right > left && bottom > top ? [left, top, right, bottom].join(",") : null });
  }

  #drag(event) {
    const { canvas, info } = this;
    const at = ({ clientX, clientY }) => {
      const box = canvas.getBoundingClientRect();
      return [((clientX - box.left) / box.width) * info.width, ((clientY - box.top) / box.height) * info.height];
    };
    const start = at(event);
    let end = start;
    canvas.setPointerCapture(event.pointerId);
    event.preventDefault();
    const move = (moved) => {
      end = at(moved);
      const [left, right] = [start[0], end[0]].sort((a, b) => a - b);
      const [top, bottom] = [start[1], end[1]].sort((a, b) => a - b);
      this.#draw([left, top, right, bottom]);
    };
    const stop = () => {
      canvas.removeEventListener("pointermove", move);
      this.#choose([...start, ...end]);
    };
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerup", stop, { once: true });
  }
}
