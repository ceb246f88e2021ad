// From the model's output to scores and labels, byte for byte as the bundle's postprocess.py.

/**
 * @typedef {{index: number, label: string | null, score: number}} Answer
 * @typedef {{scores: Float32Array, top: Answer[] | null}} Result `top` is null where no step asks for the best answers
 */

/**
 * @param {ArrayLike<number>} output one sample's values or codes
 * @param {ReadonlyArray<any>} steps as in the bundle's manifest
 * @param {{scale: number | null, zeroPoint: number}} tensor
 * @param {ReadonlyArray<string> | null} labels
 * @param {number} length of the last axis
 * @returns {Result}
 */
export function postprocess(output, steps, tensor, labels, length) {
  let scores = Float32Array.from(output);
  let top = null;
  for (const step of steps) {
    if (step.op === "dequantize") scores = dequantize(output, tensor);
    else if (step.op === "softmax") scores = eachRow(scores, length, softmax);
    else if (step.op === "sigmoid") scores = scores.map(sigmoid);
    else if (step.op === "top_k") top = topK(scores, step, labels);
    else throw new Error(`postprocess: unknown step '${step.op}'; this module is older than the bundle`);
  }
  return { scores, top };
}

/** Real values from codes, in float32; float outputs stay as they are. */
export function dequantize(output, { scale, zeroPoint }) {
  if (scale == null) return Float32Array.from(output);
  const step = Math.fround(scale);
  return Float32Array.from(output, (code) => step * (code - zeroPoint));
}

function eachRow(values, length, apply) {
  const out = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += length) {
    out.set(apply(values.subarray(start, start + length)), start);
  }
  return out;
}

function softmax(row) {
  let highest = row[0];
  for (const value of row) highest = Math.max(highest, value);
  const powers = Float64Array.from(row, (value) => exp(value - highest));
  let total = 0.0;
  for (const power of powers) total += power;
  return Float32Array.from(powers, (power) => power / total);
}

function sigmoid(x) {
  if (x >= 0) return 1.0 / (1.0 + exp(-x));
  const power = exp(x);
  return power / (1.0 + power);
}

// 1/k! for k = 13 … 0
const TAYLOR = [6227020800, 479001600, 39916800, 3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2, 1, 1].map((f) => 1.0 / f);
const BITS = new DataView(new ArrayBuffer(8));

/** e to the power of x ≤ 0, of the same bits on every machine: Math.exp may differ in the last one. */
function exp(x) {
  if (x < -708.0) return 0.0;
  const n = Math.floor(x * 1.4426950408889634 + 0.5);
  const rest = x - n * 6.93147180369123816490e-1 - n * 1.90821492927058770002e-10;
  let power = TAYLOR[0];
  for (let k = 1; k < TAYLOR.length; k += 1) power = power * rest + TAYLOR[k];
  BITS.setUint32(0, (n + 1023) << 20); // two to the power of n
  return power * BITS.getFloat64(0);
}

/** The largest scores, ties to the lower index. */
function topK(scores, { k = 5, threshold = 0.0 }, labels) {
  const ranked = scores.map((score) => (Number.isNaN(score) ? -Infinity : score));
  const order = Array.from(scores.keys()).sort((a, b) => (ranked[a] === ranked[b] ? a - b : ranked[b] - ranked[a]));
  const best = order.slice(0, k).filter((index) => scores[index] >= threshold);
  return best.map((index) => ({ index, label: labels?.[index] ?? null, score: scores[index] }));
}
