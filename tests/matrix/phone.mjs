// Phones that are not ours: matrix-js-sdk with its Rust crypto, in memory, strict about senders (MSC4153).
//
//   node phone.mjs DIRECTORY_WITH_NODE_MODULES
//
// One process holds any number of them. It reads one request a line, {"id", "phone", "do", ...arguments}, and answers
// each with {"id", "ok"} or {"id", "error"}; phone.py is its other end. What the phones see is never sent unasked:
// "look" waits until something changed.

import { webcrypto } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

// matrix-js-sdk 43 is written for Node 22; this is all that Node 18 (Debian 12) and 20 (Debian 13) lack of it.
globalThis.crypto ??= webcrypto;
Promise.withResolvers ??= () => {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
};
// Standard output is the answers' alone. The SDK takes hold of these when it is imported, so they go first.
for (const name of ["log", "info", "debug", "trace", "warn"]) console[name] = () => {};

const require = createRequire(`${process.argv[2]}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const sdk = await load("matrix-js-sdk");
const api = await load("matrix-js-sdk/lib/crypto-api/index.js");

const LOOK_MILLISECONDS = 500; // how long one look may wait for a change
const SHIELDS = Object.fromEntries(Object.entries(api.EventShieldColour).map(([name, number]) => [number, name]));
const REASONS = Object.fromEntries(Object.entries(api.EventShieldReason).map(([name, number]) => [number, name]));
const PHASES = Object.fromEntries(Object.entries(api.VerificationPhase).map(([name, number]) => [number, name]));
const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => quiet };

class Phone {
  events = new Map(); // event id -> MatrixEvent, in the order of their arrival
  verifications = new Map(); // transaction id -> what stands on the screen about it
  changes = 0;
  waiting = new Set();

  changed = () => {
    this.changes += 1;
    for (const wake of this.waiting) wake();
    this.waiting.clear();
  };

  // -- an account --------------------------------------------------------------------------------------------------

  // `strict: false` shows what an unsigned sender sent, with its shield, in place of nothing.
  async login({ url, user, password, device = "phone", strict = true }) {
    const first = sdk.createClient({ baseUrl: url, logger: quiet });
    const login = await first.loginRequest({
      type: "m.login.password",
      identifier: { type: "m.id.user", user },
      password,
      initial_device_display_name: device,
    });
    this.client = sdk.createClient({
      baseUrl: url,
      userId: login.user_id,
      deviceId: login.device_id,
      accessToken: login.access_token,
      logger: quiet,
      verificationMethods: ["m.sas.v1"],
    });
    await this.client.initRustCrypto({ useIndexedDB: false });
    this.crypto = this.client.getCrypto();
    const mode = strict ? new api.OnlySignedDevicesIsolationMode() : new api.AllDevicesIsolationMode(false);
    this.crypto.setDeviceIsolationMode(mode);
    this.password = password;
    this.#listen();
    const prepared = new Promise((resolve) => {
      this.client.on("sync", (state) => state === "PREPARED" && resolve());
    });
    await this.client.startClient({ initialSyncLimit: 50, threadSupport: true, pollTimeout: 20_000 });
    await prepared;
    await this.#published(login.user_id, login.device_id);
    return { user_id: login.user_id, device_id: login.device_id, token: login.access_token };
  }

  // Its keys go to the homeserver in the background; before that nobody knows the device.
  async #published(user, device) {
    for (let tries = 100; tries; tries -= 1) {
      const known = await this.client.downloadKeysForUsers([user]);
      if (known.device_keys?.[user]?.[device]) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("the device's keys were not published");
  }

  #listen() {
    this.client.on("event", (event) => {
      if (event.getRoomId() && event.getId()) this.events.set(event.getId(), event);
      this.changed();
    });
    for (const name of [
      "Event.decrypted", "Event.replaced", "Room.redaction", "RoomMember.membership", "Room.myMembership",
      api.CryptoEvent.UserTrustStatusChanged, api.CryptoEvent.DevicesUpdated, api.CryptoEvent.KeysChanged,
    ]) {
      this.client.on(name, this.changed);
    }
    this.client.on(api.CryptoEvent.VerificationRequestReceived, (request) => this.#follow(request));
  }

  // Cross-signing keys, and this device signed with them. `anew: true` throws an existing identity away.
  async bootstrap({ anew = false }) {
    await this.crypto.bootstrapCrossSigning({
      setupNewCrossSigning: anew,
      authUploadDeviceSigningKeys: async (upload) => {
        try {
          return await upload(null);
        } catch (error) {
          if (error.httpStatus !== 401 || !error.data?.session) throw error;
          const identifier = { type: "m.id.user", user: this.client.getUserId() };
          return upload({ type: "m.login.password", identifier, password: this.password, session: error.data.session });
        }
      },
    });
    const status = await this.crypto.getCrossSigningStatus();
    if (!status.publicKeysOnDevice) throw new Error("the identity was not published");
    return { master: await this.crypto.getCrossSigningKeyId(), ready: await this.crypto.isCrossSigningReady() };
  }

  async trust({ user }) {
    const status = await this.crypto.getUserVerificationStatus(user);
    const devices = (await this.crypto.getUserDeviceInfo([user], true)).get(user) ?? new Map();
    const signed = {};
    for (const id of devices.keys()) {
      signed[id] = (await this.crypto.getDeviceVerificationStatus(user, id))?.signedByOwner ?? false;
    }
    return { verified: status.isCrossSigningVerified(), changed: status.needsUserApproval, devices: signed };
  }

  async stop() {
    this.client?.stopClient();
  }

  // -- rooms ---------------------------------------------------------------------------------------------------------

  async create({ invite = [], encrypted = true }) {
    const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
    const made = await this.client.createRoom({ invite, preset: "private_chat", initial_state: encrypted ? [encryption] : [] });
    return made.room_id;
  }

  async join({ room }) {
    return (await this.client.joinRoom(room)).roomId;
  }

  async leave({ room }) {
    await this.client.leave(room);
  }

  async invite({ room, user }) {
    await this.client.invite(room, user);
  }

  async rooms() {
    return Object.fromEntries(this.client.getRooms().map((room) => [room.roomId, room.getMyMembership()]));
  }

  // Content goes out as the room wants it: encrypted, to signed devices only.
  async send({ room, type = "m.room.message", content }) {
    return (await this.client.sendEvent(room, type, content)).event_id;
  }

  async redact({ room, event }) {
    return (await this.client.redactEvent(room, event)).event_id;
  }

  // -- the screen ------------------------------------------------------------------------------------------------------

  async look({ room, seen = -1 }) {
    if (seen === this.changes) {
      await new Promise((resolve) => {
        this.waiting.add(resolve);
        setTimeout(resolve, LOOK_MILLISECONDS).unref();
      });
    }
    const changes = this.changes; // what changes from here on is news for the next look
    const events = [];
    for (const event of this.events.values()) {
      if (event.getRoomId() !== room) continue;
      // What stands in a thread may be another object by now than the one that arrived.
      events.push(await this.#shown(this.client.getRoom(room)?.findEventById(event.getId()) ?? event));
    }
    return { changes, events, verifications: [...this.verifications.values()].map(({ shown }) => shown()) };
  }

  async #shown(event) {
    const info = event.isEncrypted() ? await this.crypto.getEncryptionInfoForEvent(event) : null;
    return {
      id: event.getId(),
      sender: event.getSender(),
      sent: event.getTs(),
      type: event.getType(),
      wire: event.getWireType(),
      relation: event.getRelation() ?? event.getWireContent()["m.relates_to"] ?? null,
      content: event.getContent(), // after its last edit
      original: event.getOriginalContent(),
      edited: event.replacingEventId() ?? "",
      redacted: event.isRedacted(),
      failure: event.decryptionFailureReason ?? "",
      shield: info ? SHIELDS[info.shieldColour] : event.isEncrypted() ? "CLOSED" : "PLAIN",
      reason: info && info.shieldReason !== null ? REASONS[info.shieldReason] : "",
    };
  }

  // -- emoji -----------------------------------------------------------------------------------------------------------

  // Ask a person in a room, or with `device` (or without a room) over to-device messages.
  async verify({ user, room, device }) {
    const ask = () =>
      room ? this.crypto.requestVerificationDM(user, room) : this.crypto.requestDeviceVerification(user, device);
    await this.crypto.userHasCrossSigningKeys(user, true);
    for (let tries = 50; ; tries -= 1) {
      try {
        return this.#follow(await ask());
      } catch (error) {
        // It may not have heard of that user or device yet.
        if (!tries || !/unknown userId|known device/.test(`${error}`)) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  #follow(request) {
    const state = { request, verifier: null, sas: null, problem: "" };
    state.shown = () => ({
      id: request.transactionId,
      user: request.otherUserId,
      room: request.roomId ?? "",
      mine: request.initiatedByMe,
      phase: PHASES[request.phase],
      emoji: state.sas?.sas.emoji ?? [],
      decimal: state.sas?.sas.decimal ?? [],
      cancelled: request.cancellationCode ?? "",
      problem: state.problem,
    });
    const watch = () => {
      if (request.verifier && request.verifier !== state.verifier) this.#show(state, request.verifier);
      this.changed();
    };
    request.on("change", watch);
    this.verifications.set(request.transactionId, state);
    watch();
    return request.transactionId;
  }

  #show(state, verifier) {
    state.verifier = verifier;
    verifier.on("show_sas", (sas) => {
      state.sas = sas;
      this.changed();
    });
    verifier.verify().catch((error) => {
      state.problem = String(error);
      this.changed();
    });
  }

  async accept({ verification }) {
    await this.verifications.get(verification).request.accept();
  }

  async start({ verification }) {
    await this.verifications.get(verification).request.startVerification("m.sas.v1");
  }

  async confirm({ verification }) {
    await this.verifications.get(verification).sas.confirm();
  }

  async mismatch({ verification }) {
    this.verifications.get(verification).sas.mismatch();
  }

  async cancel({ verification }) {
    await this.verifications.get(verification).request.cancel();
  }
}

const COMMANDS = new Set([
  "login", "bootstrap", "trust", "stop", "create", "join", "leave", "invite", "rooms", "send", "redact", "look",
  "verify", "accept", "start", "confirm", "mismatch", "cancel",
]);
const phones = new Map();

async function answer(line) {
  const { id, phone, do: command, ...rest } = JSON.parse(line);
  try {
    if (!COMMANDS.has(command)) throw new Error(`no such command: ${command}`);
    if (!phones.has(phone)) phones.set(phone, new Phone());
    return { id, ok: (await phones.get(phone)[command](rest)) ?? null };
  } catch (error) {
    return { id, error: `${error.stack ?? error}` };
  }
}

// What the SDK does in the background may fail when a test takes its server away; the tests look at results.
process.on("unhandledRejection", () => {});
createInterface({ input: process.stdin })
  .on("line", async (line) => process.stdout.write(`${JSON.stringify(await answer(line))}\n`))
  .on("close", () => process.exit(0));
