// What is asked of the server.

let run = "";

/** An answer that is a refusal, with the server's reason. */
export class Refused extends Error {}

/** The address of something: its path, its parameters, those of a query before them. */
export function address(path, parameters = {}, query = null) {
  const all = new URLSearchParams(query ?? "");
  for (const [name, value] of Object.entries(parameters)) all.set(name, value);
  if (run) all.set("run", run);
  return `/api/${path}?${all}`;
}

async function answer(path, parameters, query, signal) {
  const response = await fetch(address(path, parameters, query), { signal });
  if (response.ok) return response;
  let reason = response.statusText;
  try {
    reason = (await response.json()).error;
  } catch {
    // The reason is then the status alone.
  }
  throw new Refused(reason);
}

/** JSON of the server. */
export async function json(path, parameters = {}, query = null, signal = undefined) {
  return (await answer(path, parameters, query, signal)).json();
}

/** A picture of the server, decoded. */
export async function picture(path, parameters = {}, query = null, signal = undefined) {
  const blob = await (await answer(path, parameters, query, signal)).blob();
  return createImageBitmap(blob);
}

/** Bytes of the server. */
export async function bytes(path, parameters = {}, query = null, signal = undefined) {
  return (await answer(path, parameters, query, signal)).arrayBuffer();
}

/** What the datasets say of themselves; comes before everything else. */
export async function datasets() {
  const found = await json("datasets");
  run = found.run;
  return found;
}

/** Search, and tell how far it is, until it is over or given up; the last answer. */
export async function search(query, counts, onProgress, signal) {
  for (;;) {
    const found = await json("search", { counts: counts ? 1 : 0 }, query, signal);
    if (found.done >= 1 && (!counts || found.counts)) return found;
    onProgress(found);
  }
}
