// What the person sees and reads. Whatever came over the wire is written as text, never as markup.

const $ = (id) => document.getElementById(id);

// What stands on the screen: details and stamp once opened, and the times that the clock needs.
const shown = { details: null, stamp: null, stamped: 0, ends: 0, wrong: false };

// What each kind of prompt is called. A kind with a label has something to type.
const KINDS = {
  passphrase: { asks: "asks for a passphrase", label: "Passphrase", send: "Unlock", done: "Unlocked", wrong: "Wrong passphrase." },
  "new-passphrase": { asks: "asks for a new passphrase", label: "New passphrase", send: "Set passphrase", done: "Passphrase set" },
  pin: { asks: "asks for a card’s PIN", label: "PIN", send: "Unlock", done: "Unlocked", wrong: "Wrong PIN." },
  confirm: { asks: "asks for a yes or no", send: "Allow", done: "Allowed" },
  notice: { asks: "has a message for you", send: "OK", done: "Read" },
  challenge: { asks: "asks for a response", label: "Response", send: "Send", done: "Accepted" },
  enrolment: { asks: "asks you to enrol", label: "Answer", send: "Send", done: "Enrolled" },
};

// States without a question: tone, title, text. {host} and {done} are filled in; "the host" before it is known.
const PANELS = {
  insecure: ["warn", "This connection is not safe", "The page needs https, so that nobody on the way can change it. Nothing has been sent and the link is still good. Open it with https, or answer on the host itself with “unlatch answer”."],
  old: ["warn", "This browser is too old", "It lacks the encryption that seals an answer (X25519). Chrome 133, Firefox 130, Safari 17 and later have it. Nothing has been sent and the link is still good: open it elsewhere, or answer on the host itself with “unlatch answer”."],
  incomplete: ["warn", "This link is not complete", "Part of it is missing, perhaps cut off in the message. Open the message and tap the link itself."],
  unknown: ["over", "There is nothing to answer here", "This link may have been used, may have expired, or is no longer needed. If it reached you only just now, wait half a minute and try again. Otherwise look for a newer message."],
  used: ["over", "This link has been used", "It was answered, perhaps by you, and a link works once. Nothing is left to do here."],
  expired: ["over", "This link has expired", "Nobody answered in time, and nothing was released. If the answer is still needed, a new link will come."],
  withdrawn: ["over", "No longer needed", "The program that asked has stopped waiting, and nothing was released. If it asks again, a new link will come."],
  refused: ["over", "Already denied", "Somebody said no to this prompt, and nothing was released."],
  replaced: ["over", "There is a newer link", "This link has been replaced. Open the latest message and use the link there."],
  elsewhere: ["warn", "Already open elsewhere", "This link is open on as many pages as it allows. If that was not you, somebody else has it. A fresh link has been sent: look for a new message."],
  changed: ["bad", "Do not type anything", "What this page received was not sealed with your link. Something between you and {host} changed it, or part of the link is wrong. Look for a new message, or answer on the host itself."],
  unexpected: ["warn", "This page is out of step", "It does not understand what {host} sent, perhaps because Unlatch was just updated. Reload the page to go on."],
  unreachable: ["wait", "No connection", "The broker cannot be reached right now. This page keeps trying for as long as the link may live."],
  untold: ["warn", "Handed on", "{host} took your answer, and does not say whether it was right. You can close this page."],
  accepted: ["good", "{done}", "{host} accepted it and goes on. You can close this page."],
  denied: ["over", "Denied", "{host} was told no, and nothing was released. You can close this page."],
  failed: ["bad", "It did not work", "{host} took your answer and could not use it. Nothing is left to do here; if it asks again, a new link will come."],
  overtaken: ["over", "Answered on another page", "Somebody with this link answered first. What was typed here was not used."],
  unsure: ["warn", "Sent, but no word back", "Your answer went out, and {host} has not said what became of it. Do not send it again: look on the host, or wait for a new message."],
};

// Control characters, invisible ones, and marks that turn the writing direction could make a claim look like something
// it is not. Joiners and the emoji selector stay: names have them, and they move nothing.
const HIDDEN = /(?![\n\u200c\u200d\ufe0f])[\p{C}\p{Zl}\p{Zp}\p{DI}]/gu;
const plain = (text) => text.replace(HIDDEN, "\ufffd");
const line = (text) => plain(text.replace(/\s+/g, " "));

const host = () => (shown.stamp ? line(shown.stamp.host) : "the host");

function say(text) {
  $("spoken").textContent = text;
}

function panel(name, more = "") {
  const [tone, title, text] = PANELS[name];
  const fill = (words) => words.replace("{done}", () => KINDS[shown.details.kind].done).replaceAll("{host}", host);
  $("panel").dataset.tone = tone;
  $("panel").dataset.state = name;
  $("panel-title").textContent = fill(title);
  $("panel-text").textContent = fill(text);
  $("panel-more").textContent = more && `${host()} says: ${line(more)}`;
  $("panel-more").hidden = !more;
  $("again").hidden = !["unknown", "unreachable", "unexpected", "elsewhere"].includes(name);
  $("question").hidden = true;
  $("left").hidden = true;
  $("panel").hidden = false;
  $("line").textContent = "";
  say(""); // the title is read out because it has the focus; what was said before is over
  $("panel-title").focus();
}

// While nobody answers: a line above the question, which stays and can be answered meanwhile; else a panel.
function disconnected() {
  if (!$("question").hidden) {
    const text = "No connection. Trying again; what you send will wait.";
    if ($("line").textContent !== text) say(text);
    $("line").textContent = text;
  } else if ($("panel").dataset.state !== "unreachable") {
    panel("unreachable");
  }
}

function connected() {
  if ($("line").textContent) say("Connected again.");
  $("line").textContent = "";
}

// One line of news above the form. tone: wait, bad or warn.
function news(tone, text, focus = false) {
  $("news").dataset.tone = tone;
  $("news").textContent = text;
  if (focus) $("news").focus();
  else say(text);
}

function rows(list, entries) {
  const filled = entries.map(([term, value, id]) => [term, [value].flat().filter(Boolean).map(line).join("\n"), id]);
  list.replaceChildren(
    ...filled.filter(([, value]) => value).map(([term, value, id]) => {
      const row = document.createElement("div");
      const [dt, dd] = ["dt", "dd"].map((name) => row.appendChild(document.createElement(name)));
      dt.textContent = term;
      dd.textContent = value;
      if (id) dd.id = id;
      return row;
    }),
  );
}

function showQuestion(details) {
  const first = $("question").hidden;
  shown.details = details;
  const { asker, key, kind } = details;
  $("asks").textContent = `${host()} ${KINDS[kind].asks}`;
  $("words").textContent = details.words.join(" ");
  // gpg-agent's text mostly says the key once more; where there is no key, or nothing to type, it is the question.
  const folded = key && KINDS[kind].label;
  const { system_unit, user_unit } = asker;
  const label = details.label.replace(/\s*:\s*$/, "");
  rows($("said"), [
    ["Says", !shown.wrong && details.error],
    ["Try", !shown.wrong && details.attempt?.join(" of ")],
    ["Asks", (folded || !line(details.text).startsWith(details.title)) && details.title],
    ["Field", !KINDS[kind].label?.toLowerCase().endsWith(label.toLowerCase()) && label],
    ["Yes means", kind === "confirm" && choice(details.ok)],
    ["No means", kind === "confirm" && choice(details.notok || details.cancel)],
    ["Key", key && [key.name, key.id]],
    ["Service", user_unit ? [user_unit, `(the user’s own, in ${system_unit || "a user manager"})`] : system_unit],
    ["Command", asker.command || (system_unit || user_unit ? "" : "unknown")],
    ["Since", " ", "since"],
  ]);
  for (const [id, here] of [["text", !folded], ["long", folded]]) {
    $(id).textContent = plain(details.text);
    $(id).hidden = !here || !details.text;
  }
  const challenge = kind === "challenge";
  $("text").classList.toggle("message", challenge);
  $("copy").hidden = !challenge;
  $("words").parentNode.hidden = challenge; // its link came from the session, not in a message
  draw(challenge ? details.qr : "");
  rows($("more"), [
    ["Keygrip", key?.grip],
    ["Card", key?.serial],
    ["Terminal", asker.tty || "none"],
    ["User data", asker.user_data],
  ]);
  $("chain").replaceChildren(
    ...asker.chain.map((process) => {
      const item = document.createElement("li");
      item.textContent = line(`${process.args || process.name} (${process.name}, ${process.pid})`);
      return item;
    }),
  );
  showForm(details);
  $("panel").hidden = true;
  $("question").hidden = false;
  tick();
  if (first) $("asks").focus();
}

// A code's modules row by row, eight to a byte, with the four modules of quiet zone around it (ISO/IEC 18004).
function draw(packed) {
  const bytes = decode64(packed);
  const side = Math.floor(Math.sqrt(bytes.length * 8));
  let path = "";
  for (let at = 0; at < side * side; at++) {
    if (bytes[at >> 3] & (128 >> (at & 7))) path += `M${at % side} ${Math.floor(at / side)}h1v1h-1`;
  }
  $("qr").setAttribute("viewBox", `-4 -4 ${side + 8} ${side + 8}`);
  $("qr").firstChild.setAttribute("d", path);
  $("qr").toggleAttribute("hidden", !packed);
}

function showStamp(stamp, remaining) {
  shown.stamp = stamp;
  shown.stamped = performance.now();
  shown.ends = shown.stamped + remaining * 1000;
  rows($("sure"), [
    ["Host", stamp.host],
    ["User", `${stamp.user} (uid ${stamp.uid})`],
    ["Login", stamp.login],
  ]);
  rows($("others"), [["Also waiting", stamp.followers]]);
  $("person").textContent = stamp.person && `for ${line(stamp.person)}`;
  INPUT.account.value = line(stamp.account);
}

// Only the fields that are asked for are in the document: a password manager would take a hidden one for a second
// password. They are left alone while they stay the same, so that a manager sees one form and not many.
const NAMES = ["account", "secret", "repeat", "keep", "digits"];
const kept = (id) => $("rows").content.getElementById(id);
const [ROW, INPUT, LABEL] = ["-row", "", "-label"].map((part) => Object.fromEntries(NAMES.map((name) => [name, kept(name + part)])));
const SHOW = kept("show");

function place(names) {
  const now = Array.from($("inputs").children, (row) => row.id);
  const next = names.map((name) => ROW[name]);
  if (now.join() !== next.map((row) => row.id).join()) $("inputs").replaceChildren(...next);
}

function showForm(details) {
  const { kind, keeper } = details;
  const { label, send } = KINDS[kind];
  const renewed = kind === "new-passphrase";
  const secret = kind === "passphrase" || kind === "pin" || renewed;
  place([secret && "account", label && "secret", renewed && "repeat", details.keep && "keep", details.digits && "digits"].filter(Boolean));
  LABEL.secret.textContent = label;
  INPUT.secret.autocomplete = renewed ? "new-password" : secret ? "current-password" : "off";
  hideSecrets(secret);
  SHOW.hidden = !secret;
  const worded = kind === "confirm" && (choice(details.ok) || choice(details.notok || details.cancel));
  $("unlock").textContent = worded ? "Yes" : send;
  $("deny").textContent = worded ? "No" : "Deny";
  $("deny").hidden = kind === "notice";
  $("keeper").hidden = !secret || keeper !== "program";
  $("keeper").textContent = `${host()} says: a program receives what you type, in clear, and may keep it.`;
}

// What an asker calls yes and no, where it says more than that. It words no button: it could swap them.
function choice(claimed) {
  return /^_?(ok|yes|no|cancel|allow|deny)$/i.test(claimed) ? "" : claimed;
}

function effect({ kind, keeper }) {
  if (kind === "notice") return "OK only says that you have read it.";
  if (kind === "confirm") return "This yes counts once.";
  if (kind === "challenge") return "There is one attempt.";
  if (kind === "new-passphrase") return "From now on this passphrase opens it. Nobody can look it up for you later.";
  const claim = { agent: "gpg-agent checks it and keeps it for a while.", card: "a card checks it. Each wrong try brings the card closer to locking itself." };
  return `${host()} says: ${claim[keeper] ?? (keeper === "program" ? "it goes to that program." : "nothing is kept.")}`;
}

function hideSecrets(hidden) {
  INPUT.secret.type = INPUT.repeat.type = hidden ? "password" : "text";
  SHOW.textContent = hidden ? "Show" : "Hide";
}

function mistake(field, text) {
  for (const name of NAMES) INPUT[name].setAttribute("aria-invalid", name === field);
  $("mistake").textContent = text;
  if (field) INPUT[field].focus();
}

// Times. The wall clock is only shown; what counts is performance.now(), corrected by each reply of the broker.
function span(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 2) return `${seconds} s`;
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const until = (seconds) => new Date(Date.now() + seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

function tick() {
  if (!shown.stamp || $("question").hidden) return;
  const now = performance.now();
  const left = Math.max(0, Math.floor((shown.ends - now) / 1000));
  const age = Math.floor(shown.stamp.age + (now - shown.stamped) / 1000);
  const asked = new Date(shown.details.asked * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  write("left", left ? `${span(left)} left` : "Time is up");
  write("since", `${asked}, ${age < 60 ? "just now" : `${span(age)} ago`}`);
  write("effect", shown.stamp.orphaned ? "The program has given up. Only a kept answer is of use." : effect(shown.details));
  LABEL.keep.textContent = `Keep it for later requests until ${until(shown.details.keep)}, even if the program has given up`;
  $("left").hidden = false;
  if (left === 300 || left === 60) say(`${span(left)} left.`);
}

function write(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}
