// Samples that are selected, and how they leave the page: as a list of numbers.

import * as api from "./api.js";
import { counted, el, offer } from "./dom.js";
import * as state from "./state.js";

/** The most samples that are selected by hand; all that is found is listed by the server. */
const MOST = 1_000_000;

export class Selection {
  constructor() {
    this.chosen = new Set();
    this.listeners = new Set();
  }

  listen(listener) {
    this.listeners.add(listener);
  }

  has(sample) {
    return this.chosen.has(sample);
  }

  toggle(sample) {
    if (!this.chosen.delete(sample) && this.chosen.size < MOST) this.chosen.add(sample);
    this.#tell();
  }

  clear() {
    this.chosen.clear();
    this.#tell();
  }

  /** Select what is at some places of the present order. */
  async addPlaces(first, last) {
    const count = Math.min(MOST, last - first + 1);
    const numbers = await this.#numbers(first, count);
    for (const number of numbers) if (this.chosen.size < MOST) this.chosen.add(number);
    this.#tell();
  }

  async #numbers(from, count) {
    const body = await api.bytes("numbers", { form: "txt", from, count }, state.query());
    return new TextDecoder().decode(body).trim().split("\n").map(Number);
  }

  /** The numbers, in ascending order. */
  get sorted() {
    return Float64Array.from(this.chosen).sort();
  }

  #tell() {
    for (const listener of this.listeners) listener();
  }
}

/** A file of NumPy with whole numbers of 64 bits. */
function npy(numbers) {
  const shape = `{'descr': '<i8', 'fortran_order': False, 'shape': (${numbers.length},), }`;
  const padded = shape.padEnd(64 * Math.ceil((shape.length + 11) / 64) - 11) + "\n";
  const head = new Uint8Array(10 + padded.length);
  head.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, padded.length & 255, padded.length >> 8]);
  head.set(new TextEncoder().encode(padded), 10);
  return [head, BigInt64Array.from(numbers, BigInt).buffer];
}

/** The controls below the grid: what is selected, and what is found. */
export function selectionControls(root, selection, path, found) {
  const render = () => {
    const size = selection.chosen.size;
    const python = `samples = numpy.load("samples.npy"); batch = fgbgpack.open_dataset(${JSON.stringify(path)}).read(samples)`;
    root.replaceChildren(
      el("span", { className: "count" }, size ? `${counted(size)} selected` : "None selected"),
      ...(size
        ? [
            el("button", { type: "button", onclick: () => offer("samples.npy", npy(selection.sorted)) }, "Save .npy"),
            el("button", { type: "button", onclick: () => offer("samples.txt", [selection.sorted.join("\n"), "\n"]) }, "Save .txt"),
            el("button", { type: "button", onclick: () => selection.clear() }, "Clear"),
          ]
        : []),
      el("span", { className: "count wide-only" }, `All ${counted(found())} found:`),
      ...["npy", "txt"].map((form) =>
        el("a", { className: "button", href: api.address("numbers", { form }, state.query()), download: `samples.${form}` }, `Save .${form}`),
      ),
      copyButton("Copy Python", python),
      copyButton("Copy split command", `fgbgpack split ${shellWord(path)} chosen good=samples.npy`),
    );
  };
  selection.listen(render);
  return render;
}

/** A word of a command line. */
const shellWord = (text) => (/^[\w./:@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** A button that copies a text. */
export function copyButton(label, text) {
  const button = el("button", { type: "button", title: text }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}
