// Reads arrays of a Zarr dataset with zarrita and writes the bytes of each to a file of its own.
//
//   node read.mjs DATASET OUT ARRAY...
//
// What is known of the arrays goes to the standard output, as JSON.

import { writeFile } from "node:fs/promises";
import path from "node:path";

import { Float16Array } from "@petamoriken/float16";
import FileSystemStore from "@zarrita/storage/fs";
import * as zarr from "zarrita";

// Node has had numbers of 16 bits of its own since version 24. Zarrita takes them from here and has none itself.
globalThis.Float16Array ??= Float16Array;

const [dataset, out, ...names] = process.argv.slice(2);
const root = zarr.root(new FileSystemStore(dataset));
const group = await zarr.open.v3(root, { kind: "group" });

const arrays = {};
for (const name of names) {
  const array = await zarr.open.v3(root.resolve(name), { kind: "array" });
  const { data, shape } = await zarr.get(array);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  await writeFile(path.join(out, name.replaceAll("/", ".")), bytes);
  const { dtype, dimensionNames: dimensions, attrs: attributes } = array;
  arrays[name] = { dtype, shape, dimensions, attributes };
}
console.log(JSON.stringify({ attributes: group.attrs, arrays }));
