// For Node.js: the same model, read from the disk.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import path from "node:path";
import * as ort from "onnxruntime-web";
import { create } from "./model.js";

export { INFO } from "./info.js";
export { Model } from "./model.js";
export { VerificationError } from "./verify.js";

const ASSETS = fileURLToPath(new URL("./assets/", import.meta.url));

/**
 * The model, ready to predict.
 * @param {string} folder by default the folder `assets` beside this file
 * @param {object} sessionOptions of ONNX Runtime
 */
export async function load(folder = ASSETS, sessionOptions = {}) {
  return create(readerOf(folder), ort, sessionOptions);
}

/** Reads files of a folder. */
export function readerOf(folder = ASSETS) {
  return async (name) => new Uint8Array(await readFile(path.join(folder, name)));
}
