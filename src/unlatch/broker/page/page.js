// The page's side of docs/protocol.md section 3: prove the link, show the question, seal the answer, wait for the
// verdict, go on under the next ticket. Nothing but the fragment supplies keys, nothing but the reply key opens a verdict.

const GRACE = 20_000; // ms; a restarted broker hears of a proven ticket again within this (section 3.9)
const PATIENCE = 60_000; // ms without a broker after an answer; it keeps a verdict for 30 s
const SLOWEST = 40_000; // ms for one request; the broker answers a wait after 25 s at the latest
const LONGEST_SECRET = 8192; // bytes (section 2)

class Over extends Error {
  constructor(state, text = "") {
    super(state);
    this.state = state;
    this.text = text;
  }
}

const page = pageId();
let current = null; // the prompt on the screen; every loop of an earlier one stops when it finds another here
let proven = false; // whether any view was proven since this document was loaded
const sleepers = new Set(); // what pauses at the moment

// A reload is the same view, so the id outlives the document, but not the tab.
function pageId() {
  try {
    const kept = sessionStorage.getItem("unlatch page");
    if (kept) return decode64(kept, 16);
  } catch {} // storage may be forbidden, or hold something else
  const fresh = random(16);
  try {
    sessionStorage.setItem("unlatch page", encode64(fresh));
  } catch {}
  return fresh;
}

// One request. Status 0 stands for nobody there: no network, a proxy without its broker, an answer that is no JSON.
async function post(link, verb, body) {
  try {
    const response = await fetch(`${link.ticketText}/${verb}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      redirect: "error",
      signal: AbortSignal.timeout(SLOWEST),
    });
    if (response.status === 404) return [404, {}];
    return [200, 409, 410].includes(response.status) ? [response.status, await response.json()] : [0, {}];
  } catch {
    return [0, {}];
  }
}

// Proves the link under the broker's nonce and views. A broker that was restarted has a new nonce.
async function view(prompt) {
  const [status, hello] = await post(prompt.link, "hello", {});
  if (status !== 200) return [status, hello];
  const nonce = decode64(hello.nonce, 16);
  prompt.proof = { page: encode64(page), proof: encode64(await viewProof(prompt.link, nonce, page)) };
  const [viewed, reply] = await post(prompt.link, "view", prompt.proof);
  if (viewed === 200) {
    proven = true;
    prompt.turn = 0;
    connected();
  } else {
    prompt.proof = null;
  }
  return [viewed, reply];
}

async function attempt(prompt, verb, body) {
  if (!prompt.proof) {
    // Both loops of a prompt, the wait and the answer, may find it gone: one renews it for both.
    prompt.renewal ??= view(prompt).finally(() => (prompt.renewal = null));
    const [status, reply] = await prompt.renewal;
    if (status !== 200 || verb === "view") return [status, reply];
    // The broker that took the answer may have died before the asker had it. Had the asker had it, it would not have
    // brought this ticket back; so the same sealed answer goes out again.
    if (prompt.sealed && verb !== "answer") await post(prompt.link, "answer", { ...prompt.proof, sealed: prompt.sealed });
  }
  return post(prompt.link, verb, { ...prompt.proof, ...body(prompt) });
}

// Asks until there is a reply, for as long as the prompt may live.
async function insist(prompt, verb, body = () => ({})) {
  let lost = 0; // when the broker was first out of reach
  let unknown = 0; // when it first did not know the ticket
  for (let tries = 0; ; tries++) {
    const { proof } = prompt;
    const [status, reply] = await attempt(prompt, verb, body);
    if (prompt !== current) throw new Over("superseded");
    // An answer that comes late, because the wait has sent it again meanwhile, must not hide what the wait will hear.
    if (status === 410 && verb !== "answer") throw new Over(gone(prompt, reply.state));
    if (status === 409 && reply.state === "elsewhere") throw new Over("elsewhere");
    if (status === 409 && verb === "wait") {
      await pause(1000); // another page's answer is being checked; what becomes of it decides about this one
      continue;
    }
    if ([200, 409, 410].includes(status)) return [status, reply];
    const now = performance.now();
    lost ||= now;
    if (status === 404) {
      if (!proven) throw new Over("unknown");
      unknown ||= now;
    }
    // Begin again with hello: it is answered at once, a wait may take 25 s, and a new broker has a new nonce.
    if (prompt.proof === proof) prompt.proof = null; // else another request has just renewed it
    if (unknown && now - unknown >= GRACE) throw new Over(prompt.sealed ? "unsure" : "unknown");
    if (prompt.sealed && now - lost >= PATIENCE) throw new Over("unsure");
    if (now >= prompt.ends + GRACE) throw new Over("expired");
    disconnected();
    await pause(Math.min(1000 * 2 ** tries, unknown ? 2000 : 15_000));
  }
}

// Until the time is over or something suggests that the network is back.
function pause(delay) {
  return new Promise((resolve) => {
    const rise = () => {
      clearTimeout(timer);
      sleepers.delete(rise);
      resolve();
    };
    const timer = setTimeout(rise, delay);
    sleepers.add(rise);
  });
}

function wake() {
  for (const rise of sleepers) rise();
}

function gone(prompt, state) {
  if (state === "denied") return prompt.denied ? "denied" : "refused";
  if (state === "used") return prompt.sealed ? "unsure" : "used";
  if (Object.hasOwn(PANELS, state)) return state;
  throw new Error(); // a dead link for no known reason
}

// What must be in a sealed text is in it, and nothing else.
function read(padded, names) {
  const fields = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(padded));
  if (Object.keys(fields).sort().join(" ") !== names) throw new Error(); // fields that this page does not know
  return fields;
}

const DETAILS = "asked asker attempt cancel digits error keep keeper key kind label notok ok qr repeat repeat_error text title words";
const STAMP = "account age followers host login orphaned person uid user";
const VERDICT = "next outcome text";

async function unseal(opening) {
  try {
    return await opening;
  } catch {
    throw new Over("changed");
  }
}

async function stampFrom(prompt, reply) {
  const padded = await unseal(openStamp(prompt.link, decode64(reply.stamp)));
  showStamp(read(padded, STAMP), reply.remaining);
  prompt.ends = shown.ends;
}

// Opens one link: shows its question and follows what becomes of it. ``before`` is the verdict that led here.
async function open(link, before) {
  const prompt = { link, proof: null, turn: 0, ends: performance.now() + 600_000, sealed: "", denied: false };
  current = prompt;
  try {
    const [status, reply] = await insist(prompt, "view");
    if (status !== 200) throw new Over("used"); // answered before this page came
    prompt.details = await unseal(openDetails(link, decode64(reply.details)));
    const details = read(prompt.details, DETAILS);
    if (!KINDS[details.kind]) throw new Error(); // a kind of prompt that this page does not know
    await stampFrom(prompt, reply);
    ask(details, before);
    for (;;) await follow(prompt);
  } catch (error) {
    if (prompt === current) finish(error);
  }
}

async function follow(prompt) {
  const asked = performance.now();
  const [, reply] = await insist(prompt, "wait", ({ turn }) => ({ seen: turn }));
  if (prompt !== current) throw new Over("superseded");
  const changed = reply.turn !== prompt.turn;
  prompt.turn = reply.turn;
  if (reply.state === "open") {
    await stampFrom(prompt, reply);
  } else if (reply.state === "sent") {
    if (prompt.sealed) news("wait", `Sent. ${host()} is checking it.`);
    else lock("An answer was given on another page. Waiting for what becomes of it.");
  } else if (reply.state === "spoiled") {
    if (changed) reopen(prompt);
  } else if (reply.state === "verdict") {
    await conclude(prompt, decode64(reply.sealed));
  } else {
    throw new Error(); // a state that this page does not know
  }
  // A broker that answers at once without anything new must not be asked in a tight loop.
  if (!changed && performance.now() - asked < 1000) await pause(1000);
}

async function conclude(prompt, sealed) {
  if (!prompt.sealed) throw new Over("overtaken");
  let padded;
  try {
    padded = await openVerdict(prompt.link, prompt.replyKey, sealed);
  } catch {
    throw new Over(prompt.late ? "overtaken" : "unsure");
  }
  const verdict = read(padded, VERDICT);
  if (!verdict.next) {
    if (!["accepted", "denied", "failed", "unknown"].includes(verdict.outcome)) throw new Error(); // an outcome without a next link
    throw new Over(verdict.outcome === "unknown" ? "untold" : verdict.outcome, verdict.text);
  }
  const next = await readLink(verdict.next.ticket, verdict.next.fragment);
  history.replaceState(null, "", `${next.ticketText}#${next.fragment}`); // so that a reload goes on there
  open(next, verdict);
  throw new Over("superseded");
}

// The prompt has ended, one way or the other.
function finish(error) {
  current = null;
  wipe();
  const state = error instanceof Over ? error.state : "unexpected";
  panel(state, error.text);
  if (["elsewhere", "unknown", "changed", "unexpected"].includes(state)) return; // a reload may find it alive
  history.replaceState(null, "", location.href.split("#")[0]);
}

// --- the form

function wipe() {
  for (const name of ["secret", "repeat", "digits"]) INPUT[name].value = "";
  hideSecrets(!SHOW.hidden);
}

function ask(details, before) {
  const { kind, attempt } = details;
  // Only a verdict says that something was wrong; what the details say of earlier tries is a claim, and shown as one.
  shown.wrong = before?.outcome === "wrong";
  showQuestion(details);
  const tries = attempt ? ` Try ${attempt[0]} of ${attempt[1]}.` : "";
  unlock(shown.wrong ? "bad" : "wait", shown.wrong ? (KINDS[kind].wrong ?? "Not accepted.") + tries : "");
  if (before) (KINDS[kind].label ? INPUT.secret : $("asks")).focus();
}

function lock(text) {
  const focused = $("fields").contains(document.activeElement); // or else it would fall back to the top of the page
  $("fields").disabled = true;
  news("wait", text, focused);
}

function unlock(tone, text) {
  $("fields").disabled = false;
  news(tone, text);
  mistake("", "");
}

function reopen(prompt) {
  const text = prompt.sealed
    ? "The answer could not be opened, and nothing was tried. Please give it again."
    : "The answer from the other page could not be opened. Yours is needed after all.";
  prompt.sealed = "";
  unlock("bad", text);
}

// The answer that the form holds, or nothing when the person has to mend it first.
function answerFrom(details) {
  const { kind, digits } = details;
  if (digits && !/^[0-9]{2}$/.test(INPUT.digits.value)) return mistake("digits", "Type the two digits first.");
  if (!KINDS[kind].label) return { answer: "yes", ...(digits && { digits: INPUT.digits.value }) };
  const secret = utf8(INPUT.secret.value);
  const what = LABEL.secret.textContent;
  if (!secret.length) return mistake("secret", `${what}: nothing typed yet.`);
  if (secret.length > LONGEST_SECRET) return mistake("secret", `That is too long: ${LONGEST_SECRET} bytes at most.`);
  if (kind === "new-passphrase" && INPUT.repeat.value !== INPUT.secret.value)
    return mistake("repeat", "The two are not the same. Nothing was sent.");
  return { answer: "secret", secret: encode64(secret), ...(INPUT.keep.isConnected && INPUT.keep.checked && { keep: true }) };
}

async function send(answer) {
  const prompt = current;
  if (!prompt || prompt.sealed || $("fields").disabled) return;
  try {
    mistake("", "");
    lock("Sealing and sending.");
    prompt.denied = answer.answer === "no";
    prompt.replyKey = random(32);
    prompt.sealed = encode64(await sealAnswer(prompt.link, prompt.details, { ...answer, reply_key: encode64(prompt.replyKey) }));
    wipe();
    const [status] = await insist(prompt, "answer", ({ sealed }) => ({ sealed }));
    prompt.late = status === 409;
    news("wait", prompt.late ? "An answer is already there. Waiting for what becomes of it." : "Sent. Waiting for the verdict.");
  } catch (error) {
    if (prompt === current) finish(error);
  }
}

// --- events

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const answer = answerFrom(shown.details);
  if (answer) send(answer);
});
$("deny").addEventListener("click", () => send({ answer: "no" }));
SHOW.addEventListener("click", () => hideSecrets(INPUT.secret.type === "text"));
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("text").textContent);
  $("copy").textContent = "Copied";
});
$("again").addEventListener("click", () => (current ? wake() : location.reload()));
addEventListener("online", wake);
addEventListener("hashchange", () => location.reload()); // somebody mended a link that was cut off
document.addEventListener("visibilitychange", () => document.hidden || wake());
setInterval(tick, 1000);

async function start() {
  if (!isSecureContext || !SUBTLE) return panel("insecure");
  try {
    await SUBTLE.generateKey("X25519", false, ["deriveBits"]);
  } catch {
    return panel("old");
  }
  let link;
  try {
    link = await readLink(location.pathname.split("/").pop(), location.hash.slice(1));
  } catch {
    return panel("incomplete");
  }
  return open(link);
}

start();
