// The proof that this integration is right: the bundle's golden samples, and the raw samples they were made of.

import { INFO } from "./info.js";
import { checkDigest } from "./verify.js";

const NPY = { "|i1": Int8Array, "|u1": Uint8Array, "<i2": Int16Array, "<i4": Int32Array, "<f4": Float32Array };

/**
 * Runs every golden sample.
 * @param {import("./model.js").Model} model
 * @param {(name: string) => Promise<Uint8Array>} read
 * @returns {Promise<{passed: boolean, samples: number, preprocessed: number, largestSteps: number, message: string}>}
 *   `preprocessed`: how many raw samples became the golden inputs, byte for byte; `largestSteps`: difference of outputs
 */
export async function checkGolden(model, read) {
  const arrays = async (names) => Promise.all(names.map((name) => readNpy(read, name)));
  const inputs = await arrays(INFO.golden.inputs);
  const outputs = await arrays(INFO.golden.outputs);
  let largestSteps = 0;
  for (let i = 0; i < INFO.golden.samples; i += 1) {
    const found = await model.run(inputs.map((array) => row(array, i)));
    found.forEach((values, j) => {
      largestSteps = Math.max(largestSteps, steps(values, row(outputs[j], i), INFO.outputs[j], j, outputs[j]));
    });
  }
  const wrong = await wrongRaw(model, read, inputs[0]);
  const passed = largestSteps <= INFO.golden.toleranceSteps && wrong.length === 0;
  const preprocessed = INFO.golden.rawSamples - wrong.length;
  const message = [
    `${passed ? "PASS" : "FAIL"}: ${INFO.golden.samples} samples, outputs differ by at most ${largestSteps} steps`,
    `(allowed: ${INFO.golden.toleranceSteps}); ${preprocessed} of ${INFO.golden.rawSamples} raw samples become the golden input`,
  ].join(" ");
  return { passed, samples: INFO.golden.samples, preprocessed, largestSteps, message };
}

async function wrongRaw(model, read, input) {
  if (!INFO.golden.raw) return [];
  const raw = await readNpy(read, INFO.golden.raw);
  return Array.from({ length: INFO.golden.rawSamples }, (_, i) => i).filter((i) => {
    const encoded = model.encode({ data: row(raw, i), shape: raw.shape.slice(1) });
    const expected = row(input, i);
    return !expected.every((value, k) => Object.is(value, encoded[k]));
  });
}

function steps(found, expected, tensor, index, all) {
  const isInteger = tensor.dtype !== "float32";
  const step = isInteger ? 1 : (INFO.golden.outputSteps?.[index] ?? range(all.data) / 255);
  let largest = 0;
  for (let k = 0; k < expected.length; k += 1) {
    const difference = Math.abs(found[k] - expected[k]);
    if (Number.isNaN(difference)) return Infinity;
    if (difference > 0) largest = Math.max(largest, difference / step);
  }
  return largest;
}

function range(values) {
  return values.reduce((high, x) => Math.max(high, x), 0) - values.reduce((low, x) => Math.min(low, x), 0);
}

function row({ data, shape }, i) {
  const length = data.length / shape[0];
  return data.slice(i * length, (i + 1) * length);
}

/** The array of a .npy file of version 1.0 in C order. */
export async function readNpy(read, name) {
  const bytes = await read(name);
  await checkDigest(name, bytes, INFO.golden.sha256[name]);
  const headerEnd = 10 + new DataView(bytes.buffer, bytes.byteOffset).getUint16(8, true);
  const header = new TextDecoder("latin1").decode(bytes.subarray(10, headerEnd));
  const [, descr, shape] = /'descr': '([^']+)', 'fortran_order': False, 'shape': \(([0-9, ]*)\)/.exec(header) ?? [];
  const ArrayType = NPY[descr];
  if (!ArrayType) throw new Error(`${name}: not an array of numbers that this module reads (${header.trim()})`);
  const content = bytes.slice(headerEnd);
  return { data: new ArrayType(content.buffer), shape: shape.split(",").filter((s) => s.trim()).map(Number) };
}
