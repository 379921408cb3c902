// The grid: cells for what is in sight, and none for the rest, whether that is a hundred samples or a billion.

import { counted, el } from "./dom.js";
import * as state from "./state.js";

/** The most pixels that browsers can surely make an element high; beyond them a scroll bar stands for more. */
const MOST_HEIGHT = 8_000_000;
/** So many pixels at both ends are scrolled one by one, whatever the height. */
const END = 400_000;
const GAP = 6;
const CAPTION = 20;
const BESIDE = 1;

export class Grid {
  constructor(root, tiles, selection) {
    this.root = root;
    this.tiles = tiles;
    this.selection = selection;
    this.spacer = root.querySelector(".grid-height");
    this.view = root.querySelector(".grid-view");
    this.rows = new Map();
    this.count = 0;
    this.active = 0;
    this.top = 0;
    this.last = 0;
    this.onOpen = () => {};
    this.onMove = () => {};
    root.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    root.addEventListener("keydown", (event) => this.#key(event));
    root.addEventListener("click", (event) => this.#click(event));
    root.addEventListener("focusin", (event) => this.#focused(event));
    new ResizeObserver(() => this.layout()).observe(root);
    tiles.onLoaded = (first, count) => this.#loaded(first, count);
    selection.listen(() => this.#mark());
  }

  /** So many samples are there to be shown, from the place in the address on. */
  show(count, { place = 0 } = {}) {
    this.count = count;
    this.active = Math.max(0, Math.min(count - 1, place));
    this.#clear();
    this.layout({ place: this.active });
  }

  /** The same samples with other pictures. */
  redraw() {
    this.#clear();
    this.#render();
  }

  /** Find out how many fit, and where they are. */
  layout({ place = null } = {}) {
    const { width, height } = this.tiles.datasets[0];
    const keep = place ?? this.first;
    const size = Number(state.get("size"));
    const inner = this.root.clientWidth - 2 * GAP;
    if (inner <= 0) return;
    const scale = Math.min(size / width, size / height);
    const least = Math.max(24, Math.round(width * scale));
    this.columns = Math.max(1, Math.floor((inner + GAP) / (least + GAP)));
    // What is left over makes tiles a little larger, so that rows are full.
    this.cellWidth = Math.floor((inner + GAP) / this.columns) - GAP;
    this.cellHeight = Math.max(16, Math.round((this.cellWidth * height) / width));
    this.pitch = this.cellHeight + CAPTION + GAP;
    this.rowCount = Math.ceil(this.count / this.columns);
    this.total = this.rowCount * this.pitch + GAP;
    this.sight = this.root.clientHeight;
    this.height = Math.min(this.total, MOST_HEIGHT);
    this.spacer.style.height = `${this.height}px`;
    this.view.style.height = `${this.sight}px`;
    this.root.setAttribute("aria-rowcount", this.rowCount);
    this.root.setAttribute("aria-colcount", this.columns);
    this.#clear();
    this.#goTo(Math.floor(keep / this.columns) * this.pitch);
  }

  /** The place of the first sample in sight. */
  get first() {
    return Math.min(Math.max(0, this.count - 1), Math.round(this.top / (this.pitch || 1)) * (this.columns || 1));
  }

  /** Bring a place into sight, and make it the one that keys go on from. */
  reveal(place, { focus = true } = {}) {
    this.active = Math.max(0, Math.min(this.count - 1, place));
    const top = Math.floor(this.active / this.columns) * this.pitch;
    if (top < this.top) this.#goTo(top);
    else if (top + this.pitch + GAP > this.top + this.sight) this.#goTo(top + this.pitch + GAP - this.sight);
    else this.#render();
    if (focus) this.#cell(this.active)?.focus({ preventScroll: true });
  }

  // --- where it is ----------------------------------------------------------------------------------

  /** The most that it can be scrolled by, of all samples and of the element. */
  get #most() {
    return [Math.max(0, this.total - this.sight), Math.max(0, this.height - this.sight)];
  }

  /** How far the element is scrolled where the samples are at ``top``: the same at both ends, less between. */
  #toBar(top) {
    const [most, bar] = this.#most;
    if (most === bar || top <= END) return top;
    if (top >= most - END) return bar - (most - top);
    return END + ((top - END) * (bar - 2 * END)) / (most - 2 * END);
  }

  #fromBar(at) {
    const [most, bar] = this.#most;
    if (most === bar || at <= END) return at;
    if (at >= bar - END) return most - (bar - at);
    return END + ((at - END) * (most - 2 * END)) / (bar - 2 * END);
  }

  #goTo(top) {
    this.top = Math.max(0, Math.min(this.#most[0], top));
    this.root.scrollTop = this.#toBar(this.top);
    this.last = this.root.scrollTop;
    this.#render();
    this.#moved();
  }

  #scrolled() {
    const at = this.root.scrollTop;
    if (at === this.last) return;
    const moved = at - this.last;
    const exact = this.#fromBar(at);
    const isAtEnd = at <= END || at >= this.#most[1] - END;
    // A wheel or a finger moves samples by pixels; the scroll bar itself goes anywhere.
    this.top = isAtEnd || Math.abs(moved) > 2 * this.sight ? exact : this.top + moved;
    this.top = Math.max(0, Math.min(this.#most[0], this.top));
    this.last = at;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.#render());
    this.#moved();
  }

  /** Once it rests, the scroll bar shows where it is, and the address holds it. */
  #moved() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      // The event of a scroll comes after it: what is not known of yet must not be taken back.
      if (this.root.scrollTop !== this.last) return;
      const at = this.#toBar(this.top);
      if (Math.abs(at - this.root.scrollTop) > 1) {
        this.root.scrollTop = at;
        this.last = this.root.scrollTop;
      }
      this.onMove(this.first);
    }, 250);
  }

  // --- cells ----------------------------------------------------------------------------------------

  #clear() {
    const hadFocus = this.view.contains(document.activeElement);
    this.view.replaceChildren();
    this.rows.clear();
    this.returnFocus = hadFocus;
  }

  #render() {
    if (!this.columns || !this.count) return;
    const first = Math.max(0, Math.floor(this.top / this.pitch) - BESIDE);
    const last = Math.min(this.rowCount - 1, Math.floor((this.top + this.sight) / this.pitch) + BESIDE);
    const hadFocus = this.returnFocus || this.view.contains(document.activeElement);
    this.returnFocus = false;
    for (const [number, row] of this.rows) {
      if (number < first || number > last) {
        row.remove();
        this.rows.delete(number);
      }
    }
    this.tiles.want(first * this.columns, Math.min(this.count, (last + 1) * this.columns) - 1);
    for (let number = first; number <= last; number += 1) {
      let row = this.rows.get(number);
      if (!row) {
        row = this.#row(number);
        this.rows.set(number, row);
        const after = [...this.rows.entries()].filter(([other]) => other > number).sort((a, b) => a[0] - b[0])[0];
        this.view.insertBefore(row, after ? after[1] : null);
        for (const cell of row.children) this.#fill(cell);
      }
      row.style.transform = `translateY(${number * this.pitch + GAP - this.top}px)`;
    }
    this.#keepTabStop(first, last);
    if (hadFocus && !this.view.contains(document.activeElement)) {
      (this.#cell(this.active) ?? this.root).focus({ preventScroll: true });
    }
  }

  /** One cell can be reached by Tab: the active one, or the first in sight. */
  #keepTabStop(first, last) {
    const row = Math.floor(this.active / this.columns);
    const stop = row >= first && row <= last ? this.active : Math.min(this.count - 1, (first + BESIDE) * this.columns);
    for (const cell of this.view.querySelectorAll("[tabindex='0']")) cell.tabIndex = -1;
    const cell = this.#cell(stop);
    if (cell) cell.tabIndex = 0;
    this.root.tabIndex = cell ? -1 : 0;
  }

  #row(number) {
    const row = el("div", { role: "row", className: "row", "aria-rowindex": number + 1 });
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    for (let column = 0; column < this.columns; column += 1) {
      const place = number * this.columns + column;
      if (place >= this.count) break;
      const canvas = el("canvas", {
        width: Math.round(this.cellWidth * ratio),
        height: Math.round(this.cellHeight * ratio),
        "aria-hidden": "true",
      });
      canvas.style.width = `${this.cellWidth}px`;
      canvas.style.height = `${this.cellHeight}px`;
      const cell = el(
        "div",
        { role: "gridcell", className: "cell", tabIndex: -1, "aria-colindex": column + 1, "data-place": place },
        canvas,
        el("span", { className: "caption" }),
        el("span", { className: "tick", "aria-hidden": "true", title: "Select (Space)" }),
      );
      cell.style.width = `${this.cellWidth}px`;
      cell.style.left = `${GAP + column * (this.cellWidth + GAP)}px`;
      row.append(cell);
    }
    return row;
  }

  #fill(cell) {
    const place = Number(cell.dataset.place);
    const isWhole = this.tiles.draw(place, cell.firstChild);
    cell.classList.toggle("loading", !isWhole);
    const row = this.tiles.row(place);
    if (!row) {
      cell.setAttribute("aria-label", `Place ${counted(place + 1)}, loading`);
      return;
    }
    cell.dataset.sample = row.i;
    const names = this.#names(row);
    cell.children[1].textContent = row.name ?? counted(row.i);
    cell.title = names;
    cell.setAttribute("aria-label", `Sample ${counted(row.i)}${names ? `: ${names}` : ""}`);
    cell.setAttribute("aria-selected", this.selection.has(row.i));
  }

  #names(row) {
    const { backgrounds, foregrounds } = this.tiles.datasets[0];
    if (row.name) return row.name;
    const on = (row.objects ?? []).map((one) => `${foregrounds[one.fg]}${one.flip ? " (mirrored)" : ""}`);
    return `${on.length ? on.join(", ") : "nothing"} on ${backgrounds[row.bg]}`;
  }

  #loaded(first, count) {
    for (const row of this.rows.values()) {
      for (const cell of row.children) {
        const place = Number(cell.dataset.place);
        if (place >= first && place < first + count) this.#fill(cell);
      }
    }
  }

  #mark() {
    for (const cell of this.view.querySelectorAll("[data-sample]")) {
      cell.setAttribute("aria-selected", this.selection.has(Number(cell.dataset.sample)));
    }
  }

  #cell(place) {
    return this.view.querySelector(`[data-place="${place}"]`);
  }

  // --- keys and clicks ------------------------------------------------------------------------------

  #focused(event) {
    const cell = event.target.closest("[data-place]");
    if (cell) this.active = Number(cell.dataset.place);
  }

  #click(event) {
    const cell = event.target.closest("[data-place]");
    if (!cell) return;
    const place = Number(cell.dataset.place);
    const before = this.anchor ?? place;
    this.active = place;
    this.#keepTabStop(0, Infinity);
    if (event.shiftKey) this.#selectTo(before, place);
    else if (event.ctrlKey || event.metaKey || event.target.classList.contains("tick")) this.#select(place);
    else this.onOpen(place);
  }

  #select(place) {
    const row = this.tiles.row(place);
    this.anchor = place;
    if (row) this.selection.toggle(row.i);
  }

  #selectTo(from, to) {
    const [first, last] = from < to ? [from, to] : [to, from];
    this.selection.addPlaces(first, last);
  }

  #key(event) {
    if (event.target.closest("[data-place]") === null && event.target !== this.root) return;
    const page = Math.max(1, Math.floor(this.sight / this.pitch)) * this.columns;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns,
      PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity,
    };
    if (event.key in steps && !event.altKey) {
      const step = steps[event.key];
      const before = this.active;
      const next = Math.max(0, Math.min(this.count - 1, before + step));
      // Up and down keep the column.
      const stays = Math.abs(step) >= this.columns && Number.isFinite(step) && (before + step < 0 || before + step >= this.count);
      this.reveal(stays && event.key.startsWith("Arrow") ? before : next);
      if (event.shiftKey) this.#selectTo(this.anchor ?? before, this.active);
      else this.anchor = this.active;
    } else if (event.key === "Enter") this.onOpen(this.active);
    else if (event.key === " ") this.#select(this.active);
    else return;
    event.preventDefault();
  }
}
