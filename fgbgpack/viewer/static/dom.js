// Elements, made without any markup in strings: whatever a dataset calls its pictures is text.

/** Make an element: properties, attributes (aria-*, data-*, role, for), listeners (onclick), children. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (/^(aria-|data-|role$|for$)/.test(name)) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/** A whole number with separators. */
export const counted = (number) => Number(number).toLocaleString("en");

/** A number with as many digits as are worth reading. */
export function short(number) {
  if (number === null || number === undefined || !Number.isFinite(number)) return "none";
  const size = Math.abs(number);
  if (size >= 1000) return number.toFixed(0);
  if (size >= 10) return number.toFixed(1);
  return String(Number(number.toPrecision(3)));
}

/** Whether keys that are typed belong to an element, and are no shortcuts. */
export function takesKeys(element) {
  return element instanceof HTMLElement && element.matches("input:not([type=checkbox],[type=radio],[type=range]), select, textarea");
}

/** Call a function once the calls have stopped for so many milliseconds. */
export function calmly(call, milliseconds) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), milliseconds);
  };
}

/** Offer a file to be saved. */
export function offer(name, parts, kind) {
  const address = URL.createObjectURL(new Blob(parts, { type: kind }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
