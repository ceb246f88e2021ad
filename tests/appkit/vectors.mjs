// Runs test vectors through the kit's steps: node vectors.mjs FOLDER_OF_THE_KIT < cases > answers, both JSON.
import path from "node:path";
import { pathToFileURL } from "node:url";

const from = (name) => import(pathToFileURL(path.join(process.argv[2], name)));
const { ARRAYS, preprocess, quantize } = await from("preprocess.js");
const { postprocess } = await from("postprocess.js");

const decode = ({ dtype, shape, data }) => {
  const bytes = Uint8Array.from(Buffer.from(data, "base64"));
  return { data: new ARRAYS[dtype](bytes.buffer), shape };
};
const encode = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { pre, post } = JSON.parse(Buffer.concat(chunks));
const answers = {
  pre: pre.map((one) => {
    const { data, shape } = preprocess(decode(one.input), one.steps);
    const grid = one.grid && { dtype: one.grid.dtype, scale: one.grid.scale, zeroPoint: one.grid.zero_point };
    return { shape, output: encode(data), codes: grid ? encode(quantize(data, grid)) : null };
  }),
  post: post.map((one) => {
    const { data, shape } = decode(one.input);
    const tensor = { scale: one.scale, zeroPoint: one.zero_point };
    const { scores, top } = postprocess(data, one.steps, tensor, one.labels, shape[shape.length - 1]);
    return { scores: encode(scores), top: top && top.map(({ index, label, score }) => [index, label, score]) };
  }),
};
process.stdout.write(JSON.stringify(answers));
