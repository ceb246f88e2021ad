// Whether the files are those that this module was written for, and signed by a key that it trusts.

const SIGNED_PREFIX = new TextEncoder().encode("edgepack signature v1\n");
const ALGORITHMS = {
  ed25519: [{ name: "Ed25519" }, { name: "Ed25519" }],
  "ecdsa-p256": [{ name: "ECDSA", namedCurve: "P-256" }, { name: "ECDSA", hash: "SHA-256" }],
};

/** A file or a signature that is not what it should be. Use nothing of this model. */
export class VerificationError extends Error {
  name = "VerificationError";
}

/**
 * Throws a VerificationError unless the bytes have this SHA-256.
 * @param {string} name of the file, for the message
 * @param {Uint8Array} data
 * @param {string} expected 64 hex digits
 */
export async function checkDigest(name, data, expected) {
  const digest = new Uint8Array(await subtle().digest("SHA-256", data));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== expected) {
    throw new VerificationError(`${name}: SHA-256 is ${found} and should be ${expected}; deliver the file of this module's version`);
  }
}

/**
 * Throws a VerificationError unless one of the trusted keys signed the manifest.
 * @param {Uint8Array} manifest bytes of manifest.json
 * @param {Uint8Array} signatures bytes of signatures.json
 * @param {ReadonlyArray<{algorithm: string, keyId: string, publicKey: string}>} trusted `publicKey`: base64 DER SubjectPublicKeyInfo
 */
export async function checkSignature(manifest, signatures, trusted) {
  const message = new Uint8Array([...SIGNED_PREFIX, ...manifest]);
  const listed = JSON.parse(new TextDecoder().decode(signatures)).signatures;
  for (const key of trusted) {
    for (const entry of listed) {
      if (entry.key_id === key.keyId && (await isSigned(message, entry.signature, key))) return;
    }
  }
  const names = trusted.map((key) => key.keyId).join(", ");
  throw new VerificationError(`manifest.json: no valid signature of a trusted key (${names})`);
}

async function isSigned(message, signature, key) {
  const [importing, verifying] = ALGORITHMS[key.algorithm];
  const publicKey = await subtle().importKey("spki", fromBase64(key.publicKey), importing, false, ["verify"]);
  return subtle().verify(verifying, publicKey, fromBase64(signature), message);
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function subtle() {
  const found = globalThis.crypto?.subtle;
  if (!found) throw new VerificationError("no WebCrypto here: serve the page over https, or from localhost");
  return found;
}
