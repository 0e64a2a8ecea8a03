// The seals of docs/protocol.md sections 1 and 2 over WebCrypto: HKDF (RFC 5869), HPKE (RFC 9180), AES-GCM.
// Every function that opens or derives throws when something is not as it must be; none of them says why.

const SUBTLE = globalThis.crypto?.subtle; // missing where the page is not a secure context
const utf8 = (text) => new TextEncoder().encode(text);
const random = (size) => crypto.getRandomValues(new Uint8Array(size));
const NOTHING = new Uint8Array(0);

function join(...parts) {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

// base64url without padding, one spelling for each byte string (RFC 4648 sections 3.5 and 5).
function encode64(bytes) {
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function decode64(text, size) {
  const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  if (encode64(bytes) !== text || (size !== undefined && bytes.length !== size)) throw new Error(); // malformed base64url
  return bytes;
}

async function hmac(key, data) {
  // WebCrypto refuses an empty key; HMAC fills a short one with zeros anyway (RFC 2104).
  const raw = key.length ? key : new Uint8Array(32);
  const imported = await SUBTLE.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await SUBTLE.sign("HMAC", imported, data));
}

// HKDF-SHA256 in its two halves; nothing here needs more than one block of output, 32 bytes.
const extract = (salt, secret) => hmac(salt, secret);
const expand = async (key, info, size) => (await hmac(key, join(info, [1]))).slice(0, size);
const hkdf = async (secret, salt, label) => expand(await extract(salt, secret), utf8(label), 32);

// HPKE SealBase: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-GCM (aead 1: 128 bits, 2: 256). Gives enc and
// ciphertext. The ephemeral key pair is an argument for the sake of the RFC's vectors only.
async function hpkeSeal(publicKey, info, plaintext, { aad = NOTHING, aead = 2, ephemeral } = {}) {
  const labeled = (suite, label, data) => join(utf8("HPKE-v1"), suite, utf8(label), data);
  const labeledExtract = (suite, salt, label, data) => extract(salt, labeled(suite, label, data));
  const labeledExpand = (suite, key, label, data, size) =>
    expand(key, join([0, size], labeled(suite, label, data)), size);

  // 1. Encapsulate to the public key (section 4.1).
  const kem = join(utf8("KEM"), [0, 0x20]);
  const pair = ephemeral ?? (await SUBTLE.generateKey("X25519", false, ["deriveBits"]));
  const enc = new Uint8Array(await SUBTLE.exportKey("raw", pair.publicKey));
  const remote = await SUBTLE.importKey("raw", publicKey, "X25519", false, []);
  const agreed = new Uint8Array(await SUBTLE.deriveBits({ name: "X25519", public: remote }, pair.privateKey, 256));
  // A small-order point agrees on zero with everybody (section 7.1.4). Browsers refuse it too; not all always did.
  if (agreed.every((byte) => byte === 0)) throw new Error(); // the key agrees on nothing
  const agreedKey = await labeledExtract(kem, NOTHING, "eae_prk", agreed);
  const shared = await labeledExpand(kem, agreedKey, "shared_secret", join(enc, publicKey), 32);

  // 2. The key schedule of base mode (section 5.1).
  const suite = join(utf8("HPKE"), [0, 0x20, 0, 1, 0, aead]);
  const context = join(
    [0],
    await labeledExtract(suite, NOTHING, "psk_id_hash", NOTHING),
    await labeledExtract(suite, NOTHING, "info_hash", info),
  );
  const secret = await labeledExtract(suite, shared, "secret", NOTHING);
  const key = await labeledExpand(suite, secret, "key", context, aead * 16);
  const nonce = await labeledExpand(suite, secret, "base_nonce", context, 12);

  // 3. Encrypt the first and only message (section 5.2: sequence number 0 leaves the nonce as it is).
  const cipher = await SUBTLE.importKey("raw", key, "AES-GCM", false, ["encrypt"]);
  const sealed = await SUBTLE.encrypt({ name: "AES-GCM", iv: nonce, additionalData: aad }, cipher, plaintext);
  return join(enc, new Uint8Array(sealed));
}

// Opens nonce and ciphertext, as details, stamp and verdict come.
async function openSealed(key, context, sealed) {
  const cipher = await SUBTLE.importKey("raw", key, "AES-GCM", false, ["decrypt"]);
  const how = { name: "AES-GCM", iv: sealed.slice(0, 12), additionalData: context };
  return new Uint8Array(await SUBTLE.decrypt(how, cipher, sealed.slice(12)));
}

// A link from its ticket and its fragment, with the three keys that come from it.
async function readLink(ticketText, fragment) {
  const ticket = decode64(ticketText, 16);
  const both = decode64(fragment, 64);
  const secret = both.slice(32);
  const [detailsKey, viewKey, answerKey] = await Promise.all(
    ["details", "view", "answer"].map((use) => hkdf(secret, ticket, `unlatch/1 ${use}`)),
  );
  return { ticketText, fragment, ticket, publicKey: both.slice(0, 32), detailsKey, viewKey, answerKey };
}

const viewProof = (link, nonce, page) => hmac(link.viewKey, join(nonce, page));
const openDetails = (link, sealed) => openSealed(link.detailsKey, join(utf8("unlatch/1 details"), link.ticket), sealed);
const openStamp = (link, sealed) => openSealed(link.detailsKey, join(utf8("unlatch/1 stamp"), link.ticket), sealed);

async function openVerdict(link, replyKey, sealed) {
  const key = await hkdf(replyKey, link.ticket, "unlatch/1 verdict");
  return openSealed(key, join(utf8("unlatch/1 verdict"), link.ticket), sealed);
}

// Seals an answer to the key of the fragment, for these very details and no others.
async function sealAnswer(link, details, answer) {
  const shown = new Uint8Array(await SUBTLE.digest("SHA-256", details));
  const info = join(utf8("unlatch/1 answer"), link.ticket, link.answerKey, shown);
  const json = JSON.stringify(answer);
  const padded = utf8(json.padEnd(Math.ceil(json.length / 256) * 256)); // all of it is ASCII
  const sealed = await hpkeSeal(link.publicKey, info, padded);
  padded.fill(0);
  return sealed;
}
