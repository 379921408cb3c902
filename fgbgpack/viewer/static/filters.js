// The panel of filters: what there is, how much of it is found, and what is chosen.

import { byId, calmly, counted, el, short } from "./dom.js";
import { PlacementMap } from "./map.js";
import * as state from "./state.js";

/** Choices that are listed; others are found by typing. */
const LISTED = 60;

export class Filters {
  constructor(root, info) {
    this.root = root;
    this.info = info;
    this.parts = [];
    this.counts = null;
    this.#build();
    state.listen(() => this.refresh());
    this.refresh();
  }

  /** How much there is of what, as the server has counted it; null while that is not known. */
  show(counts) {
    this.counts = counts;
    this.refresh();
  }

  refresh() {
    for (const part of this.parts) part();
    this.clear.disabled = !state.isFiltered();
  }

  #build() {
    const { info } = this;
    this.clear = el("button", { type: "button", onclick: () => state.clearFilters() }, "Clear all");
    this.close = el("button", { type: "button", className: "only-narrow", id: "close-filters" }, "Close");
    this.root.replaceChildren(
      el("div", { className: "filters-head" }, el("h2", {}, "Filters"), this.clear, this.close),
      this.#text(),
      el("div", { id: "counting" }),
      this.#map(),
      ...this.#choices("bg", "Background", info.backgrounds, "background"),
      ...this.#choices("fg", "Foreground", info.foregrounds, "foreground"),
      ...(info.categories.some((name) => name) ? this.#choices("cat", "Category", info.categories, "category") : []),
      ...(info.blends.length ? this.#choices("blend", "Edges", info.blends, "blend", (_, name) => name) : []),
      ...(info.imported ? [] : [this.#mirrored()]),
      ...(Object.keys(info.splits).length ? [this.#split()] : []),
      this.#range("height", "Height of the object", "pixels", 1, "height", [0, info.height]),
      ...(info.shares ? [this.#range("visible", "Visible share", "%", 0.01, "visible", [0, 1])] : []),
      ...(info.most_objects > 1 ? [this.#range("objects", "Number of objects", "", 1, null, [0, info.most_objects])] : []),
      ...(info.depth ? [
        this.#range("depth_min", "Least depth", info.depth.unit ?? "relative", 1),
        this.#range("depth_max", "Greatest depth", info.depth.unit ?? "relative", 1),
      ] : []),
    );
  }

  #group(title, name, children, open = true) {
    const summary = el("summary", {}, title);
    const names = [name].flat();
    const inUse = names.some((one) => state.get(one) !== "");
    const group = el("details", { className: "filter", open: open || inUse }, summary, ...children);
    this.parts.push(() => summary.classList.toggle("in-use", names.some((one) => state.get(one) !== "")));
    return group;
  }

  #text() {
    const input = el("input", {
      type: "search", id: "text", maxLength: 200, autocomplete: "off", spellcheck: false,
      placeholder: this.info.imported ? "Names" : "Names of pictures, categories",
      "aria-label": "Words in names",
    });
    input.addEventListener("input", calmly(() => state.set({ text: input.value.trim() }), 250));
    this.parts.push(() => {
      if (document.activeElement !== input) input.value = state.get("text");
    });
    return input;
  }

  /** A list to choose some of: each with how much there is of it. */
  #choices(name, title, labels, counted_as, value = (number) => String(number)) {
    if (!labels.length) return [];
    const box = el("ul", { className: "choices" });
    const sought = el("input", { type: "search", placeholder: `Find one of ${counted(labels.length)}`, "aria-label": `Find in ${title}` });
    const more = el("p", { className: "faint" });
    const render = () => {
      const chosen = new Set(state.list(name));
      const counts = this.counts?.[counted_as];
      const words = sought.value.toLowerCase();
      const most = Math.max(1, ...(counts ?? [1]));
      const all = labels
        .map((label, number) => ({ label: label || "(none)", number, count: counts?.[number] ?? null, key: value(number, label) }))
        .filter((one) => one.label.toLowerCase().includes(words) || chosen.has(one.key));
      const listed = all.slice(0, LISTED);
      more.textContent = all.length > listed.length ? `and ${counted(all.length - listed.length)} more` : "";
      const focused = document.activeElement?.dataset?.choice;
      box.replaceChildren(
        ...listed.map((one) => {
          const tick = el("input", {
            type: "checkbox", checked: chosen.has(one.key), "data-choice": `${name} ${one.key}`,
            onchange: () => state.toggle(name, one.key),
          });
          const meter = el("span", { className: "meter", "aria-hidden": "true" });
          meter.style.width = one.count === null ? "0" : `${(100 * one.count) / most}%`;
          const label = el("label", { title: one.label }, meter, tick, el("span", { className: "label" }, one.label),
            el("span", { className: "count" }, one.count === null ? "" : counted(one.count)));
          return el("li", {}, label);
        }),
      );
      if (focused) box.querySelector(`[data-choice="${CSS.escape(focused)}"]`)?.focus();
    };
    sought.addEventListener("input", render);
    this.parts.push(render);
    return [this.#group(title, name, [...(labels.length > 12 ? [sought] : []), box, more], labels.length <= 40)];
  }

  #mirrored() {
    const select = el("select", { "aria-label": "Mirrored", onchange: () => state.set({ flip: select.value }) },
      el("option", { value: "" }, "Either"), el("option", { value: "yes" }, "Mirrored"), el("option", { value: "no" }, "Not mirrored"));
    this.parts.push(() => {
      select.value = state.get("flip");
      const [no, yes] = this.counts?.flip ?? [];
      if (yes !== undefined) {
        select.options[1].textContent = `Mirrored (${counted(yes)})`;
        select.options[2].textContent = `Not mirrored (${counted(no)})`;
      }
    });
    return this.#group("Mirrored", "flip", [select]);
  }

  #split() {
    const select = el("select", { "aria-label": "Split", onchange: () => {
      const [split, part] = select.value ? JSON.parse(select.value) : [null, null];
      state.set({ split, part });
    } }, el("option", { value: "" }, "All"));
    for (const [name, parts] of Object.entries(this.info.splits)) {
      select.append(el("optgroup", { label: name },
        ...[...parts, ""].map((part) => el("option", { value: JSON.stringify([name, part]) }, part ? `${name}: ${part}` : `${name}: in no part`))));
    }
    this.parts.push(() => {
      select.value = state.get("split") ? JSON.stringify([state.get("split"), state.get("part")]) : "";
    });
    return this.#group("Split", "split", [select]);
  }

  /** From and to, with a picture of what there is between. */
  #range(name, title, unit, step, counted_as = null, ends = null) {
    const percent = unit === "%" ? 100 : 1;
    const make = (which) => {
      const input = el("input", { type: "number", step: unit === "pixels" || unit === "" || unit === "%" ? 1 : "any", "aria-label": `${title}, ${which}${unit ? ` in ${unit === "%" ? "percent" : unit}` : ""}` });
      input.addEventListener("change", () => apply());
      return input;
    };
    const [low, high] = [make("least"), make("greatest")];
    const apply = () => {
      const [from, to] = [low, high].map((input) => (input.value === "" ? "" : String(Number(input.value) / percent)));
      if (from !== "" && to !== "" && Number(from) > Number(to)) {
        high.setCustomValidity("This is less than the least.");
        high.reportValidity();
        return;
      }
      high.setCustomValidity("");
      state.set({ [name]: from === "" && to === "" ? null : `${from}:${to}` });
    };
    const bars = counted_as ? el("canvas", { className: "bars", width: 240, height: 36, "aria-hidden": "true" }) : null;
    this.parts.push(() => {
      const [from, to] = state.get(name).split(":");
      const shown = (text) => (text ? String(Number((Number(text) * percent).toPrecision(6))) : "");
      if (document.activeElement !== low) low.value = shown(from);
      if (document.activeElement !== high) high.value = shown(to);
      if (ends) {
        low.placeholder = String(ends[0] * percent);
        high.placeholder = String(ends[1] * percent);
      } else {
        const depth = this.counts?.depth;
        low.placeholder = depth ? short(depth[0]) : "any";
        high.placeholder = depth ? short(depth[1]) : "any";
      }
      if (bars) drawBars(bars, this.counts?.[counted_as] ?? [], ends, from, to);
    });
    return this.#group(title, name, [bars, el("div", { className: "range" }, low, el("span", {}, "to"), high, el("span", { className: "unit" }, unit))], name === "height");
  }

  #map() {
    const map = new PlacementMap(this.info);
    this.parts.push(() => map.show(this.counts?.placed ?? null));
    return this.#group("Map of placements", "region", [map.root]);
  }
}

/** Bars of a histogram; what is chosen is in the colour of choices. */
function drawBars(canvas, counts, ends, from, to) {
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const most = Math.max(1, ...counts);
  const wide = canvas.width / Math.max(1, counts.length);
  counts.forEach((count, k) => {
    const [low, high] = [k, k + 1].map((edge) => ends[0] + (edge * (ends[1] - ends[0])) / counts.length);
    const isIn = (!from || high > Number(from)) && (!to || low <= Number(to));
    context.fillStyle = isIn ? style.color : style.caretColor;
    const height = count ? Math.max(1, (count / most) * canvas.height) : 0;
    context.fillRect(k * wide, canvas.height - height, wide - 1, height);
  });
}

/** The panel on narrow screens: it lies over the grid, and is closed with Escape. */
export function drawer(panel) {
  const opener = byId("open-filters");
  const show = (open) => {
    panel.classList.toggle("open", open);
    opener.setAttribute("aria-expanded", open);
    (open ? panel : opener).focus();
  };
  opener.addEventListener("click", () => show(!panel.classList.contains("open")));
  panel.querySelector("#close-filters").addEventListener("click", () => show(false));
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panel.classList.contains("open")) show(false);
  });
}
