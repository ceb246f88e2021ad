// For browsers.

import * as ort from "onnxruntime-web/wasm";
import { create } from "./model.js";

export { INFO } from "./info.js";
export { Model } from "./model.js";
export { VerificationError } from "./verify.js";

/**
 * The model, ready to predict.
 * @param {string | URL} url of the folder `assets`, by default the one beside this file
 * @param {object} sessionOptions of ONNX Runtime
 */
export async function load(url = new URL("./assets/", import.meta.url), sessionOptions = {}) {
  return create(readerOf(url), ort, sessionOptions);
}

/** Reads files under a URL. */
export function readerOf(url) {
  const folder = new URL(String(url).replace(/\/?$/, "/"), globalThis.location?.href);
  return async (name) => {
    const answer = await fetch(new URL(name, folder));
    if (!answer.ok) throw new Error(`${answer.url}: ${answer.status} ${answer.statusText}`);
    return new Uint8Array(await answer.arrayBuffer());
  };
}
