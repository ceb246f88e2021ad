import assert from "node:assert/strict";
import { test } from "node:test";
import { checkGolden } from "../golden.js";
import { load, readerOf } from "../node.js";

test("the golden samples come out as the bundle says", async () => {
  const model = await load();
  const result = await checkGolden(model, readerOf());
  assert.ok(result.passed, result.message);
});

test("a changed model is refused", async () => {
  const { create } = await import("../model.js");
  const { INFO } = await import("../info.js");
  const read = async (name) => {
    const data = await readerOf()(name);
    if (name === INFO.model.path) data[data.length >> 1] ^= 1;
    return data;
  };
  await assert.rejects(create(read, {}), { name: "VerificationError" });
});
