// What the page does, and its keys.

import { el } from "./dom.js";

const KEYS = [
  ["Arrow keys, Page Up, Page Down, Home, End", "go from sample to sample"],
  ["Enter", "open a sample; arrow keys then go to the next, and on its picture read values"],
  ["Space, Shift with arrow keys or click", "select samples"],
  ["1 2 3 4", "image, mask, depth, background"],
  ["o a n b", "outline, area, instances, boxes on and off"],
  ["s", "depth in colours of one scale for all, or each sample its own"],
  ["+ -", "larger and smaller tiles"],
  ["/", "search in names"],
  ["? Escape", "this help; close what is open"],
];
const COMPARING = ["c", "first dataset, second, difference"];

/** Fill the dialog; what opens it, and says whether single keys are switched on. */
export function help(dialog, opener, { pair }) {
  const switched = el("input", { type: "checkbox", checked: localStorage.getItem("keys") !== "off" });
  switched.addEventListener("change", () => localStorage.setItem("keys", switched.checked ? "on" : "off"));
  dialog.replaceChildren(
    el("div", { className: "sample-head" }, el("h2", { id: "help-title" }, "Keys"),
      el("button", { type: "button", onclick: () => dialog.close() }, "Close")),
    el("dl", { className: "keys" }, ...[...KEYS, ...(pair ? [COMPARING] : [])].flatMap(([key, what]) => [el("dt", {}, key), el("dd", {}, what)])),
    el("label", { className: "inline" }, switched, "Single keys are shortcuts"),
    el("p", { className: "faint" }, "The address of the page holds all of the view: filters, order, layers, place. Nothing leaves this machine, and the dataset is not changed."),
  );
  const open = () => dialog.showModal();
  opener.addEventListener("click", open);
  return { open, areOn: () => switched.checked };
}
