// The model behind a typed call: preprocessing, inference, postprocessing.

import { INFO } from "./info.js";
import { postprocess } from "./postprocess.js";
import { channelsLast, preprocess, quantize } from "./preprocess.js";
import { checkDigest, checkSignature } from "./verify.js";

export class Model {
  #session;
  #ort;

  /** Not for you: call `load`. */
  constructor(session, ort) {
    this.#session = session;
    this.#ort = ort;
  }

  /** Name, version, tensors, labels and digests, as the bundle's manifest has them. */
  get info() {
    return INFO;
  }

  /**
   * The answer for one raw sample: an ImageData, an image {data, shape: [height, width, channels]}, or an array of
   * numbers. Throws where the sample doesn't fit the model.
   */
  async predict(sample) {
    const [output] = await this.run([this.encode(sample)]);
    const [tensor] = INFO.outputs;
    const { scores, top } = postprocess(output, INFO.postprocess, tensor, INFO.labels, tensor.shape[tensor.shape.length - 1]);
    return top ? { ...(top[0] ?? { index: -1, label: null, score: 0 }), top, scores } : { scores };
  }

  /** The model's input for a raw sample: preprocessed, turned to the tensor's layout, quantized. */
  encode(sample) {
    const [tensor] = INFO.inputs;
    const preprocessed = preprocess(asSample(sample), INFO.preprocess);
    const values = INFO.isTurned ? channelsLast(preprocessed) : preprocessed;
    const expected = tensor.shape.slice(1);
    if (values.data.length !== expected.reduce((a, b) => a * b, 1)) {
      throw new Error(`the sample becomes [${values.shape}] and the model takes [${expected}]`);
    }
    return quantize(values.data, tensor);
  }

  /**
   * The model's outputs for inputs that are encoded already, in the order of the manifest.
   * @param {ReadonlyArray<ArrayLike<number>>} inputs
   * @returns {Promise<ArrayLike<number>[]>}
   */
  async run(inputs) {
    const feeds = {};
    INFO.inputs.forEach((tensor, i) => {
      feeds[this.#session.inputNames[i]] = new this.#ort.Tensor(tensor.dtype, inputs[i], tensor.shape);
    });
    const outputs = await this.#session.run(feeds);
    return this.#session.outputNames.map((name) => outputs[name].data);
  }

  /** Frees the memory of the model. */
  async release() {
    await this.#session.release();
  }
}

/**
 * The model, after its files are proved to be the right ones.
 * @param {(name: string) => Promise<Uint8Array>} read a file of the assets
 * @param {any} ort ONNX Runtime's module
 * @param {object} sessionOptions ONNX Runtime's own; by default one thread of WebAssembly
 */
export async function create(read, ort, sessionOptions = {}) {
  if (INFO.trustedKeys.length > 0) {
    const manifest = await read("manifest.json");
    await checkDigest("manifest.json", manifest, INFO.manifestSha256);
    await checkSignature(manifest, await read("signatures.json"), INFO.trustedKeys);
  }
  const data = await read(INFO.model.path);
  await checkDigest(INFO.model.path, data, INFO.model.sha256);
  const session = await ort.InferenceSession.create(data, { executionProviders: ["wasm"], ...sessionOptions });
  return new Model(session, ort);
}

/** A raw sample of any accepted kind with its shape. */
export function asSample(sample) {
  if (sample?.shape && sample.data) return withChannels(sample);
  if (sample?.width && sample.height && sample.data && INFO.takes === "image") return fromImageData(sample);
  const length = INFO.rawShape.reduce((a, b) => a * b, 1);
  if (sample?.length === length && INFO.takes === "values") return { data: sample, shape: INFO.rawShape };
  throw new Error(
    INFO.takes === "image" ? "give an ImageData, or {data, shape: [height, width, channels]}" : `give ${length} numbers`,
  );
}

/** A gray image (height, width) gets its axis of channels. */
function withChannels(sample) {
  if (INFO.takes !== "image") return sample;
  const shape = sample.shape.length === 2 ? [...sample.shape, 1] : sample.shape;
  if (shape.length !== 3 || !INFO.channels.includes(shape[2])) {
    throw new Error(`the image has the shape [${sample.shape}], and the model takes ${INFO.channels.join(" or ")} channels`);
  }
  return { data: sample.data, shape };
}

/** Alpha is left out; a model of gray images gets them gray, rounded as Pillow does. */
function fromImageData({ data, width, height }) {
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4) {
    for (let c = 0; c < 3; c += 1) rgb[to++] = data[from + c];
  }
  const image = { data: rgb, shape: [height, width, 3] };
  return INFO.channels.includes(3) ? image : preprocess(image, [{ op: "grayscale" }]);
}
