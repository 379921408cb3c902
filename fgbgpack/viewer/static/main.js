// The page: puts its parts together, and shows what the address says.

import * as api from "./api.js";
import { controls, switchByKey } from "./controls.js";
import { byId, counted, el, takesKeys } from "./dom.js";
import { Filters, drawer } from "./filters.js";
import { Grid } from "./grid.js";
import { help } from "./help.js";
import { depthLegend } from "./legend.js";
import { SampleView } from "./sample.js";
import { Selection, selectionControls } from "./selection.js";
import * as state from "./state.js";
import { statistics } from "./statistics.js";
import { Tiles } from "./tiles.js";

const SORTS = {
  number: "Number", spread: "Evenly mixed", background: "Background", foreground: "Foreground", height: "Height of the object",
  visible: "Visible share", objects: "Number of objects", depth_min: "Least depth", depth_max: "Greatest depth",
};
const SIZES = { least: 48, most: 512, step: 24 };

async function start() {
  const { datasets, pair } = await api.datasets();
  const info = datasets[0];
  const tiles = new Tiles({ datasets, pair });
  const selection = new Selection();
  const filters = new Filters(byId("filters"), info);
  drawer(byId("filters"));
  controls(byId("tools"), info, pair, "grid");
  const grid = new Grid(byId("grid"), tiles, selection);
  const sample = new SampleView(byId("sample"), datasets, pair, info.path);
  const keys = help(byId("help"), byId("open-help"), { pair: Boolean(pair) });
  statistics(byId("statistics"), byId("open-statistics"), datasets);
  let found = info.samples;
  const showSelection = selectionControls(byId("selection"), selection, info.path, () => found);

  describe(datasets, pair);
  orderControls(info);
  themeControl(grid, filters);

  // --- what is found -------------------------------------------------------------------------------

  let searching = new AbortController();

  async function search({ place = 0 } = {}) {
    searching.abort();
    searching = new AbortController();
    const { signal } = searching;
    const query = state.query();
    const isAll = !state.isFiltered();
    notice("");
    try {
      if (isAll) show(info.samples, place);
      else status("Searching");
      if (isAll && !info.counted) return offerCounts();
      // Pictures come first: what is counted can wait for them.
      if (isAll) await new Promise((resolve) => setTimeout(resolve, 400));
      if (signal.aborted) return;
      const answer = await api.search(query, info.counted, (news) => {
        if (!isAll) status(`Searching: ${counted(news.found)} found in ${Math.floor(100 * news.done)} %`);
      }, signal);
      if (!isAll) show(answer.found, place);
      if (answer.counts) filters.show(answer.counts);
    } catch (error) {
      if (error.name === "AbortError") return;
      notice(error.message);
      status("");
    }
  }

  function show(count, place) {
    found = count;
    tiles.reset();
    grid.show(count, { place });
    status(count === info.samples ? `${counted(count)} samples` : `${counted(count)} of ${counted(info.samples)} samples`);
    if (!count) status("No sample is like that. Clear some filters.");
    showSelection();
  }

  /** Where counting takes long, it waits until it is asked for. */
  function offerCounts() {
    const root = byId("counting");
    const button = el("button", { type: "button", onclick: async () => {
      button.disabled = true;
      const answer = await api.search(state.query(), true, (news) => (button.textContent = `Counting: ${Math.floor(100 * news.done)} %`));
      filters.show(answer.counts);
      root.replaceChildren();
    } }, "Count what there is, and draw the map");
    root.replaceChildren(button);
  }

  // --- changes -------------------------------------------------------------------------------------

  state.listen((names) => {
    const has = (...some) => some.some((name) => names.has(name));
    if (has("i")) openFromAddress();
    if (has("base", "scale", "show")) showLegend();
    if (has(...state.FILTERS, "sort", "desc")) search();
    else if (has("size")) {
      tiles.reset();
      grid.layout();
    } else if (has("base", "over", "scale", "show")) {
      tiles.relayer();
      grid.redraw();
    }
  });

  async function showLegend() {
    const root = byId("legend");
    const isShown = state.get("base") === "depth" && info.depth && !(pair && state.get("show") === "difference");
    root.replaceChildren(...(isShown ? [await depthLegend(info, null)] : []));
  }

  function openFromAddress() {
    const number = state.get("i");
    if (number === "" && byId("sample").open) byId("sample").close();
    else if (/^\d+$/.test(number) && Number(number) < info.samples && Number(number) !== sample.number) sample.open(Number(number));
  }

  grid.onOpen = (place) => {
    const row = tiles.row(place);
    if (row) sample.open(row.i, place);
  };
  grid.onMove = (place) => state.set({ at: place }, { quietly: true });
  tiles.onRefused = (error) => notice(error.message);

  sample.onStep = async (place, number, by) => {
    if (place === null) {
      const next = number + by;
      return next >= 0 && next < info.samples ? { number: next, place: null } : null;
    }
    const next = place + by;
    if (next < 0 || next >= found) return null;
    const row = tiles.row(next) ?? (await api.json("rows", { from: next, count: 1 }, state.query())).rows[0];
    return { number: row.i, place: next };
  };
  sample.onClosed = (place) => {
    if (place !== null) grid.reveal(place);
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || takesKeys(event.target)) return;
    if (byId("help").open || byId("statistics").open || !keys.areOn()) return;
    if (switchByKey(event.key, info, pair)) event.preventDefault();
    else if (event.key === "?") keys.open();
    else if (byId("sample").open) return;
    else if (event.key === "/") {
      event.preventDefault();
      if (byId("open-filters").offsetParent) byId("open-filters").click();
      byId("text").focus();
    } else if (event.key === "+" || event.key === "-") resize(event.key === "+" ? 1 : -1);
  });

  function resize(by) {
    const size = Number(state.get("size")) + by * SIZES.step;
    state.set({ size: Math.max(SIZES.least, Math.min(SIZES.most, size)) });
  }

  showLegend();
  const at = Number(state.get("at"));
  await search({ place: Number.isSafeInteger(at) && at >= 0 ? at : 0 });
  openFromAddress();
}

function describe(datasets, pair) {
  const [first, second] = datasets;
  document.title = `${first.path} - fgbgpack view`;
  byId("title").textContent = second ? `${first.path} and ${second.path}` : first.path;
  const kinds = [
    `${counted(first.samples)} samples of ${first.width}x${first.height}`,
    first.virtual ? "virtual" : null,
    first.imported ? "imported" : null,
    first.complete ? null : "not complete",
    pair ? (pair.same_recipe ? "same recipe" : "different recipes") : null,
  ];
  byId("about").textContent = kinds.filter(Boolean).join(", ");
  // Both are cut where there is no room.
  for (const id of ["title", "about"]) byId(id).title = byId(id).textContent;
  if (pair?.problem) notice(pair.problem);
}

function orderControls(info) {
  const select = byId("sort");
  select.replaceChildren(...info.sorts.map((name) => el("option", { value: name }, SORTS[name])));
  select.addEventListener("change", () => state.set({ sort: select.value === "number" ? null : select.value }));
  const direction = byId("direction");
  direction.addEventListener("click", () => state.set({ desc: state.get("desc") ? null : "1" }));
  const size = byId("size");
  size.addEventListener("input", () => state.set({ size: size.value }));
  const refresh = () => {
    select.value = state.get("sort") || "number";
    direction.setAttribute("aria-pressed", state.get("desc") === "1");
    size.value = state.get("size");
  };
  state.listen(refresh);
  refresh();
}

/** Light or dark, or as the system says; browsers remember which. */
function themeControl(grid, filters) {
  const root = document.documentElement;
  const names = ["system", "light", "dark"];
  const apply = (name) => {
    root.dataset.theme = name;
    byId("theme").textContent = `Theme: ${name}`;
    filters.refresh();
    grid.redraw();
  };
  byId("theme").addEventListener("click", () => {
    const next = names[(names.indexOf(root.dataset.theme) + 1) % names.length];
    localStorage.setItem("theme", next);
    apply(next);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => filters.refresh());
  const kept = localStorage.getItem("theme");
  apply(names.includes(kept) ? kept : "system");
}

function status(text) {
  byId("status").textContent = text;
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

start().catch((error) => notice(`The page could not be set up: ${error.message}`));
