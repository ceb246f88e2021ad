// From a raw sample to the model's input, byte for byte as the bundle's preprocess.py and as Pillow resizes.
//
// Numbers are JavaScript doubles; wherever the reference works in float32, Math.fround rounds after each operation.

/**
 * An array with its shape, rows first: an image is (height, width, channels).
 * @typedef {{data: ArrayLike<number>, shape: number[]}} Sample
 */

const PRECISION_BITS = 22; // Pillow's fixed point of resize coefficients for 8-bit pixels (Resample.c)

/** @type {Record<string, (sample: Sample, step: any) => Sample>} */
const OPS = {
  grayscale,
  center_crop: centerCrop,
  resize,
  to_float: toFloat,
  normalize,
  layout,
};

/**
 * The preprocessed sample. Throws where a step is unknown or can't take the sample.
 * @param {Sample} sample
 * @param {ReadonlyArray<any>} steps as in the bundle's manifest
 * @returns {Sample}
 */
export function preprocess(sample, steps) {
  return steps.reduce((values, step) => {
    const op = OPS[step.op];
    if (!op) throw new Error(`preprocess: unknown step '${step.op}'; this module is older than the bundle`);
    return op(values, step);
  }, sample);
}

/** An RGB image made gray as ITU-R 601 luma, with Pillow's rounding. */
function grayscale(image) {
  const [height, width, channels] = image.shape;
  if (channels === 1) return image;
  if (channels !== 3) throw new Error(`grayscale: needs 1 or 3 channels, got ${channels}`);
  const gray = new Uint8Array(height * width);
  for (let i = 0, from = 0; i < gray.length; i += 1, from += 3) {
    gray[i] = (image.data[from] * 19595 + image.data[from + 1] * 38470 + image.data[from + 2] * 7471 + 0x8000) >> 16;
  }
  return { data: gray, shape: [height, width, 1] };
}

/** The middle of an image; an odd margin leaves the extra pixel right and below. */
function centerCrop(image, { fraction, size }) {
  const [height, width, channels] = image.shape;
  const side = Math.max(1, roundHalfEven((fraction ?? 1.0) * Math.min(height, width)));
  const [cropHeight, cropWidth] = size == null ? [side, side] : pair(size);
  if (cropHeight > height || cropWidth > width) {
    throw new Error(`center_crop: can't cut ${cropHeight}x${cropWidth} from an image of ${height}x${width}`);
  }
  const top = Math.floor((height - cropHeight) / 2);
  const left = Math.floor((width - cropWidth) / 2);
  const data = emptyLike(image.data, cropHeight * cropWidth * channels);
  const row = cropWidth * channels;
  for (let y = 0; y < cropHeight; y += 1) {
    const from = ((top + y) * width + left) * channels;
    data.set(Array.isArray(image.data) ? image.data.slice(from, from + row) : image.data.subarray(from, from + row), y * row);
  }
  return { data, shape: [cropHeight, cropWidth, channels] };
}

/** An image scaled as Pillow's Image.resize does it: across first, then down, rounded to whole pixels in between. */
function resize(image, { size, filter = "bilinear", mode = "stretch" }) {
  const [height, width, channels] = image.shape;
  const [newHeight, newWidth] = resizedTo(height, width, size, mode);
  if (height === newHeight && width === newWidth) return image;
  if (filter === "nearest") return nearest(image, newHeight, newWidth);
  const { support, weight } = FILTERS[filter] ?? {};
  if (!weight) throw new Error(`resize: unknown filter '${filter}'`);
  let { data } = image;
  if (newWidth !== width) data = across(data, height, width, channels, windows(width, newWidth, support, weight));
  if (newHeight !== height) data = down(data, newWidth * channels, windows(height, newHeight, support, weight));
  return { data, shape: [newHeight, newWidth, channels] };
}

function resizedTo(height, width, size, mode) {
  if (mode === "stretch") return pair(size);
  const side = pair(size)[0];
  return height <= width ? [side, Math.floor((side * width) / height)] : [Math.floor((side * height) / width), side];
}

/** Each output pixel takes the input pixel under its middle (Pillow's ImagingScaleAffine). */
function nearest(image, newHeight, newWidth) {
  const [height, width, channels] = image.shape;
  const rows = nearestPlaces(height, newHeight);
  const columns = nearestPlaces(width, newWidth);
  const data = new Uint8Array(newHeight * newWidth * channels);
  let to = 0;
  for (const row of rows) {
    for (const column of columns) {
      const from = (row * width + column) * channels;
      for (let c = 0; c < channels; c += 1) data[to++] = image.data[from + c];
    }
  }
  return { data, shape: [newHeight, newWidth, channels] };
}

/** Summed up step by step, as Pillow does: a product would round differently. */
function nearestPlaces(size, newSize) {
  const step = size / newSize;
  const places = new Int32Array(newSize);
  let middle = step * 0.5;
  for (let i = 0; i < newSize; i += 1, middle += step) places[i] = Math.min(size - 1, Math.trunc(middle));
  return places;
}

const FILTERS = {
  bilinear: { support: 1.0, weight: (x) => Math.max(0.0, 1.0 - Math.abs(x)) },
  bicubic: { support: 2.0, weight: bicubic },
  lanczos: { support: 3.0, weight: (x) => (x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0) },
};

function bicubic(value) {
  const x = Math.abs(value);
  const a = -0.5;
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

function sinc(x) {
  if (x === 0.0) return 1.0;
  const angle = x * Math.PI;
  return Math.sin(angle) / angle;
}

/** For each output pixel, which input pixels it takes and with which fixed-point weights (Pillow's precompute_coeffs). */
function windows(size, newSize, filterSupport, weight) {
  const scale = size / newSize;
  const filterScale = Math.max(scale, 1.0);
  const support = filterSupport * filterScale;
  const inverse = 1.0 / filterScale;
  return Array.from({ length: newSize }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(size, Math.trunc(center + support + 0.5));
    const weights = new Float64Array(end - first);
    let total = 0.0;
    for (let k = 0; k < weights.length; k += 1) {
      weights[k] = weight((k + first - center + 0.5) * inverse);
      total += weights[k];
    }
    return { first, weights: Int32Array.from(weights, (w) => toFixedPoint(total !== 0.0 ? w / total : w)) };
  });
}

function toFixedPoint(weight) {
  return Math.trunc(weight * (1 << PRECISION_BITS) + (weight < 0 ? -0.5 : 0.5));
}

function across(data, height, width, channels, taps) {
  const out = new Uint8ClampedArray(height * taps.length * channels);
  let to = 0;
  for (let y = 0; y < height; y += 1) {
    for (const { first, weights } of taps) {
      const start = (y * width + first) * channels;
      for (let c = 0; c < channels; c += 1) {
        let sum = 1 << (PRECISION_BITS - 1);
        for (let k = 0, from = start + c; k < weights.length; k += 1, from += channels) {
          sum = (sum + Math.imul(data[from], weights[k])) | 0;
        }
        out[to++] = sum >> PRECISION_BITS; // saturated by the array
      }
    }
  }
  return out;
}

function down(data, rowLength, taps) {
  const out = new Uint8ClampedArray(taps.length * rowLength);
  let to = 0;
  for (const { first, weights } of taps) {
    for (let x = 0; x < rowLength; x += 1) {
      let sum = 1 << (PRECISION_BITS - 1);
      for (let k = 0, from = first * rowLength + x; k < weights.length; k += 1, from += rowLength) {
        sum = (sum + Math.imul(data[from], weights[k])) | 0;
      }
      out[to++] = sum >> PRECISION_BITS;
    }
  }
  return out;
}

/** float32, divided by `divide`. */
function toFloat(values, { divide = 1.0 }) {
  const by = Math.fround(divide);
  return { data: Float32Array.from(values.data, (value) => Math.fround(value) / by), shape: values.shape };
}

/** (x - mean) / std in float32, one mean and std for all or for each channel (the last axis). */
function normalize(values, { mean, std }) {
  const channels = values.shape[values.shape.length - 1];
  const means = perChannel("mean", mean, channels);
  const stds = perChannel("std", std, channels);
  const data = Float32Array.from(values.data, (value, i) => {
    const c = i % channels;
    return Math.fround(Math.fround(value) - means[c]) / stds[c];
  });
  return { data, shape: values.shape };
}

function perChannel(name, given, channels) {
  if (!Array.isArray(given) || given.length === 1) return new Float32Array(channels).fill(given);
  if (given.length !== channels) throw new Error(`normalize: '${name}' has ${given.length} values for ${channels} channels`);
  return Float32Array.from(given);
}

/** The axes in the wanted order: "CHW" puts the channels first. */
function layout(image, { to }) {
  return to === "CHW" ? channelsFirst(image) : image;
}

/** @param {Sample} image (height, width, channels) */
export function channelsFirst(image) {
  const [height, width, channels] = image.shape;
  const data = emptyLike(image.data, image.data.length);
  for (let i = 0; i < height * width; i += 1) {
    for (let c = 0; c < channels; c += 1) data[c * height * width + i] = image.data[i * channels + c];
  }
  return { data, shape: [channels, height, width] };
}

/** @param {Sample} image (channels, height, width) */
export function channelsLast(image) {
  const [channels, height, width] = image.shape;
  const data = emptyLike(image.data, image.data.length);
  for (let i = 0; i < height * width; i += 1) {
    for (let c = 0; c < channels; c += 1) data[i * channels + c] = image.data[c * height * width + i];
  }
  return { data, shape: [height, width, channels] };
}

/**
 * The codes of real values, halves rounded away from zero, saturated at the ends of the type; or float32 as it is.
 * @param {ArrayLike<number>} values
 * @param {{dtype: string, scale: number | null, zeroPoint: number}} tensor
 */
export function quantize(values, { dtype, scale, zeroPoint }) {
  if (scale == null) return new ARRAYS[dtype](values);
  const step = Math.fround(scale);
  const [low, high] = LIMITS[dtype];
  const codes = new ARRAYS[dtype](values.length);
  for (let i = 0; i < values.length; i += 1) {
    const real = Math.fround(values[i]);
    if (Number.isNaN(real)) throw new Error("the sample holds NaN, which no integer code stands for");
    codes[i] = Math.min(high, Math.max(low, roundHalfAway(Math.fround(real / step)) + zeroPoint));
  }
  return codes;
}

export const ARRAYS = { int8: Int8Array, uint8: Uint8Array, int16: Int16Array, int32: Int32Array, float32: Float32Array };
const LIMITS = { int8: [-128, 127], uint8: [0, 255], int16: [-32768, 32767], int32: [-2147483648, 2147483647] };

function roundHalfAway(value) {
  const whole = Math.trunc(value);
  return Math.abs(value - whole) >= 0.5 ? whole + Math.sign(value) : whole;
}

function roundHalfEven(value) {
  const down = Math.floor(value);
  const rest = value - down;
  if (rest !== 0.5) return rest < 0.5 ? down : down + 1;
  return down % 2 === 0 ? down : down + 1;
}

function pair(size) {
  return Array.isArray(size) ? size : [size, size];
}

function emptyLike(data, length) {
  return new (Array.isArray(data) ? Float64Array : data.constructor)(length);
}
