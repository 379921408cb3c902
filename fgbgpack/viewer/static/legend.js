// What colours mean: those of depth, and those of differences.

import * as api from "./api.js";
import { counted, el, short } from "./dom.js";
import * as state from "./state.js";

/** A bar of colours with the values of its ends, and a text. */
function bar(of, low, high, text) {
  return el("div", { className: "scale" }, el("span", {}, low),
    el("img", { src: api.address("colours", { of }), alt: "", className: "ramp" }), el("span", {}, high), el("span", { className: "faint" }, text));
}

/** The colours of depth: of one sample, or where that is null of all. */
export async function depthLegend(info, number, signal) {
  const own = state.get("scale") === "own";
  if (own && number === null) return el("span", { className: "faint" }, "far dark, near bright, each on its own");
  const { limits, larger_is_nearer: nearer } = await api.json("scale", own ? { i: number } : {}, null, signal);
  if (!limits) return el("span", { className: "faint" }, "Depth is not filled.");
  const ends = limits.map((one) => `${short(one)}${info.depth.unit ? ` ${info.depth.unit}` : ""}`);
  const [far, near] = nearer ? ends : ends.toReversed();
  const what = (info.depth.quantity ?? "unknown quantity").replace("_", " ");
  return bar("depth", `far ${far}`, `near ${near}`, number === null ? "" : `${what}, ${own ? "of this sample" : "of all samples"}`);
}

/** The colours of what differs in one sample, with how much that is. */
export async function differenceLegend(number, of, signal) {
  const said = await api.json("difference", { i: number, of, scale: state.get("scale") }, null, signal);
  const fit = said.fit ? ` Brought to the first with ${short(said.fit[0])} times plus ${short(said.fit[1])}, as the two have no common measure.` : "";
  const text = `${counted(said.pixels)} of ${counted(said.of)} pixels differ, by ${short(said.mean)} on average and ${short(said.largest)} at most.${fit}`;
  return bar("difference", short(-said.limit), short(said.limit), text);
}
