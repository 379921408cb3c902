// What is drawn of samples: the switches above the grid, and the same beside one sample.

import { el } from "./dom.js";
import * as state from "./state.js";

export const BASES = [["image", "Image", "1"], ["mask", "Mask", "2"], ["depth", "Depth", "3"], ["background", "Background", "4"]];
export const OVERLAYS = [["outline", "Outline", "o"], ["area", "Area", "a"], ["instances", "Instances", "n"], ["boxes", "Boxes", "b"]];
const SHOWN = [["a", "First"], ["b", "Second"], ["difference", "Difference"]];

/** A row of switches of which one is on: radio buttons that look like one control. */
function segments(label, group, choices, name) {
  const inputs = choices.map(([value, text, key]) => {
    const input = el("input", { type: "radio", name: group, value, onchange: () => state.set({ [name]: value }) });
    return [input, el("label", { className: "segment", title: key ? `Key ${key}` : undefined }, input, el("span", {}, text))];
  });
  const root = el("div", { className: "segments", role: "radiogroup", "aria-label": label }, ...inputs.map(([, one]) => one));
  const refresh = () => inputs.forEach(([input]) => (input.checked = input.value === state.get(name)));
  return [root, refresh];
}

/** The switches; ``group`` tells those of the grid from those of one sample. */
export function controls(root, info, pair, group) {
  const layers = new Set([...info.layers, "boxes"]);
  const refreshers = [];
  const add = ([made, refresh]) => {
    root.append(made);
    refreshers.push(refresh);
  };
  root.replaceChildren();
  if (pair && group === "grid") add(segments("Which dataset", `${group}-show`, SHOWN, "show"));
  add(segments("Picture", `${group}-base`, BASES.filter(([name]) => layers.has(name)), "base"));
  const overlays = el("div", { className: "segments", role: "group", "aria-label": "Laid over it" });
  for (const [name, text, key] of OVERLAYS.filter(([one]) => layers.has(one))) {
    const button = el("button", { type: "button", className: "segment", title: `Key ${key}`, onclick: () => state.toggle("over", name) }, text);
    overlays.append(button);
    refreshers.push(() => button.setAttribute("aria-pressed", state.list("over").includes(name)));
  }
  root.append(overlays);
  if (layers.has("depth")) {
    const own = el("input", { type: "checkbox", onchange: () => state.set({ scale: own.checked ? "own" : "one" }) });
    root.append(el("label", { className: "inline", title: "Key s: colours of depth span each sample, or all of them" }, own, "Depth of each on its own scale"));
    refreshers.push(() => (own.checked = state.get("scale") === "own"));
  }
  const refresh = () => refreshers.forEach((one) => one());
  state.listen(refresh);
  refresh();
}

/** What a key switches; whether it was one of these. */
export function switchByKey(key, info, pair) {
  const base = BASES.find(([name, , one]) => one === key && info.layers.includes(name));
  const over = OVERLAYS.find(([name, , one]) => one === key && [...info.layers, "boxes"].includes(name));
  if (base) state.set({ base: base[0] });
  else if (over) state.toggle("over", over[0]);
  else if (key === "s" && info.depth) state.set({ scale: state.get("scale") === "own" ? "one" : "own" });
  else if (key === "c" && pair) {
    const at = SHOWN.findIndex(([name]) => name === state.get("show"));
    state.set({ show: SHOWN[(at + 1) % SHOWN.length][0] });
  } else return false;
  return true;
}
