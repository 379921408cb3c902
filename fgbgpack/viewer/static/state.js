// What the page shows, kept in the address: a link is a view.

/** Which samples, and in which order: the server knows these by the same names. */
export const FILTERS = [
  "bg", "fg", "cat", "blend", "flip", "split", "part", "height", "visible", "objects",
  "depth_min", "depth_max", "region", "text",
];
const ORDER = ["sort", "desc"];
/** How they are drawn, and which one is open. */
const VIEW = { base: "image", over: "", scale: "one", size: "144", show: "a", at: "0", i: "" };

const listeners = new Set();
let values = new Map();

/** The value of a name; what it is by default where it is not in the address. */
export const get = (name) => values.get(name) ?? VIEW[name] ?? "";

/** The values of a list, such as the numbers of backgrounds. */
export const list = (name) => (get(name) ? get(name).split(",") : []);

/** Change some values, and tell those that listen which ones; null is the default. */
export function set(changes, { quietly = false } = {}) {
  const changed = Object.keys(changes).filter((name) => String(changes[name] ?? "") !== (values.get(name) ?? ""));
  for (const name of changed) {
    const value = String(changes[name] ?? "");
    if (value === "" || value === VIEW[name]) values.delete(name);
    else values.set(name, value);
  }
  write();
  if (changed.length && !quietly) tell(changed);
}

/** Switch one value of a list on or off. */
export function toggle(name, value) {
  const now = list(name);
  const next = now.includes(value) ? now.filter((one) => one !== value) : [...now, value];
  set({ [name]: next.join(",") });
}

/** Be told of changes: a function that takes the set of the names that changed. */
export const listen = (listener) => listeners.add(listener);

/** The parameters that say which samples, and in which order. */
export function query({ ordered = true } = {}) {
  const names = ordered ? [...FILTERS, ...ORDER] : FILTERS;
  return new URLSearchParams(names.filter((name) => values.has(name)).map((name) => [name, values.get(name)]));
}

/** Whether anything is filtered. */
export const isFiltered = () => FILTERS.some((name) => values.has(name));

/** Leave out all filters. */
export const clearFilters = () => set(Object.fromEntries(FILTERS.map((name) => [name, null])));

function tell(changed) {
  const names = new Set(changed);
  for (const listener of listeners) listener(names);
}

function read() {
  const known = new Set([...FILTERS, ...ORDER, ...Object.keys(VIEW)]);
  const found = new URLSearchParams(location.hash.slice(1));
  return new Map([...found].filter(([name, value]) => known.has(name) && value));
}

function write() {
  const text = new URLSearchParams([...values]).toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  history.replaceState(null, "", text ? `#${text}` : location.pathname);
}

window.addEventListener("hashchange", () => {
  const before = values;
  values = read();
  const names = new Set([...before.keys(), ...values.keys()]);
  tell([...names].filter((name) => before.get(name) !== values.get(name)));
});
values = read();
