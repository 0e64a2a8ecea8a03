"""The page's seals: the RFC's vectors, our own known answers, and Python at the other end, in a real browser."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Page

from unlatch import base64url, seal
from unlatch.errors import SealBroken
from unlatch.prompt import Answer, Verdict, answer_from_json, verdict_from_json
from unlatch.secret import Secret

pytest_plugins = ["page_broker"]

VECTORS = Path(__file__).parent / "vectors"
HPKE = json.loads((VECTORS / "hpke.json").read_text())["vectors"]
LINK = json.loads((VECTORS / "link.json").read_text())
SOURCE = (Path(seal.__file__).parent / "broker" / "page" / "seal.js").read_text()

# Points of small order: 0, 1, the two of order 8, p-1, p and p+1 (RFC 7748 section 7; https://cr.yp.to/ecdh.html).
SMALL_ORDER = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)

# Bytes travel as hex; the functions under test are seal.js as it is.
HARNESS = """() => {
  %s
  const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const pairOf = async (d, x) => {
    const jwk = { kty: "OKP", crv: "X25519", x: encode64(unhex(x)) };
    return {
      publicKey: await SUBTLE.importKey("jwk", jwk, "X25519", true, []),
      privateKey: await SUBTLE.importKey("jwk", { ...jwk, d: encode64(unhex(d)) }, "X25519", false, ["deriveBits"]),
    };
  };
  window.run = {
    hpke: async (v) => hex(await hpkeSeal(unhex(v.pkRm), unhex(v.info), unhex(v.pt),
      { aad: unhex(v.aad ?? ""), aead: v.aead_id, ephemeral: v.skEm && (await pairOf(v.skEm, v.enc)) })),
    link: async (v) => {
      const link = await readLink(v.ticket, v.fragment);
      return [link.detailsKey, link.viewKey, link.answerKey, link.publicKey, link.ticket].map(hex);
    },
    proof: async (v) => hex(await viewProof(await readLink(v.ticket, v.fragment), unhex(v.nonce), unhex(v.page))),
    details: async (v) => hex(await openDetails(await readLink(v.ticket, v.fragment), decode64(v.sealed))),
    stamp: async (v) => hex(await openStamp(await readLink(v.ticket, v.fragment), decode64(v.sealed))),
    verdict: async (v) =>
      hex(await openVerdict(await readLink(v.ticket, v.fragment), unhex(v.reply), decode64(v.sealed))),
    answer: async (v) => hex(await sealAnswer(await readLink(v.ticket, v.fragment), unhex(v.details), v.answer)),
    decode: async (v) => hex(decode64(v.text, v.size)),
    encode: async (v) => encode64(unhex(v.bytes)),
  };
}"""


class Script:
    """seal.js in a browser, called by name."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def text(self, name: str, **values: Any) -> str:
        return str(self._page.evaluate(f"(values) => run.{name}(values)", values))

    def __call__(self, name: str, **values: Any) -> bytes:
        return bytes.fromhex(self.text(name, **values))

    def keys(self, **values: Any) -> list[bytes]:
        return [bytes.fromhex(key) for key in self._page.evaluate("(values) => run.link(values)", values)]


@pytest.fixture(scope="module")
def script(engine: Any) -> Iterator[Script]:
    context = engine.new_context()
    page = context.new_page()
    page.route("http://localhost/", lambda route: route.fulfill(body="", content_type="text/html"))
    page.goto("http://localhost/")
    page.evaluate(HARNESS % SOURCE)
    yield Script(page)
    context.close()


def named(link: seal.Link) -> dict[str, str]:
    return {"ticket": link.ticket_text, "fragment": link.fragment}


KNOWN = {"ticket": LINK["ticket_text"], "fragment": LINK["fragment_text"]}


@pytest.mark.parametrize("vector", HPKE, ids=lambda vector: f"aead {vector['aead_id']}")
def test_hpke_is_the_rfcs(script: Script, vector: dict[str, Any]) -> None:
    """RFC 9180 A.1.1 (AES-128-GCM) and the AES-256-GCM vector of the same suite, with associated data."""
    assert script("hpke", **vector).hex() == vector["enc"] + vector["ct"]


def test_a_link_gives_the_known_keys(script: Script) -> None:
    """The keys of docs/protocol.md section 1 and the view proof of section 3, as tests/reference.py computes them."""
    keys = LINK["keys"]
    expected = [keys["details"], keys["view"], keys["answer"], LINK["public_key"], LINK["ticket"]]
    assert [key.hex() for key in script.keys(**KNOWN)] == expected
    assert script("proof", **KNOWN, nonce=LINK["nonce"], page=LINK["page"]).hex() == LINK["proof"]


def test_known_seals_open(script: Script) -> None:
    """Details, stamp and verdict of the known answers open to the known texts."""
    assert script("details", **KNOWN, sealed=LINK["sealed_details_text"]) == LINK["details"].encode()
    assert script("stamp", **KNOWN, sealed=LINK["sealed_stamp_text"]) == LINK["stamp"].encode()
    verdict = script("verdict", **KNOWN, reply=LINK["reply_key"], sealed=LINK["sealed_verdict_text"])
    assert verdict == LINK["verdict"].encode()


@pytest.mark.parametrize(
    "secret",
    [b"hunter2", "pässwörd 🔑 ".encode(), bytes(range(1, 256)), b"x" * 8192],
    ids=["plain", "unicode", "255 bytes", "longest"],
)
def test_python_opens_what_the_page_seals(script: Script, secret: bytes) -> None:
    """An answer sealed in the browser opens with the asker's key, byte for byte, and is padded."""
    owned, details, reply = seal.new_link(os.urandom), seal.pad(b'{"any": "details"}'), os.urandom(32)
    fields = {"answer": "secret", "secret": base64url.encode(secret), "reply_key": base64url.encode(reply)}
    sealed = script("answer", **named(owned.link), details=details.hex(), answer=fields)
    assert (len(sealed) - 32 - 16) % 256 == 0
    assert len(sealed) <= seal.MAX_SEALED
    answer = seal.open_answer(owned, details, sealed)
    assert (answer.answer, answer.reply_key, answer.secret) == ("secret", reply, Secret(secret))


def test_an_answer_for_other_details_does_not_open(script: Script) -> None:
    """The answer is bound to the very details that were shown."""
    owned = seal.new_link(os.urandom)
    fields = {"answer": "yes", "reply_key": base64url.encode(os.urandom(32))}
    sealed = script("answer", **named(owned.link), details=seal.pad(b"{}").hex(), answer=fields)
    with pytest.raises(SealBroken):
        seal.open_answer(owned, seal.pad(b'{"other": 1}'), sealed)


def test_the_page_opens_what_python_seals(script: Script) -> None:
    """Details, stamp and verdict from Python open in the browser, non-ASCII text included."""
    link, reply = seal.new_link(os.urandom).link, os.urandom(32)
    details = seal.pad('{"title": "Zoë"}'.encode())
    sealed = base64url.encode(seal.seal_details(link, details, os.urandom))
    assert script("details", **named(link), sealed=sealed) == details
    sealed = base64url.encode(seal.seal_stamp(link, b'{"host": "web03"}', os.urandom))
    assert script("stamp", **named(link), sealed=sealed) == seal.pad(b'{"host": "web03"}')
    verdict = Verdict("wrong", "no", (link.ticket_text, link.fragment))
    sealed = base64url.encode(seal.seal_verdict(reply, link.ticket, verdict, os.urandom))
    assert verdict_from_json(script("verdict", **named(link), reply=reply.hex(), sealed=sealed)) == verdict


@pytest.mark.parametrize("what", ["details", "stamp", "verdict"])
def test_a_changed_or_misplaced_seal_does_not_open(script: Script, what: str) -> None:
    """A flipped bit, a cut text, another link's ticket, or a seal of another kind is an error."""
    link, other = seal.new_link(os.urandom).link, seal.new_link(os.urandom).link
    moved = seal.Link(other.ticket, link.public_key, link.secret)
    values = {"reply": "00" * 32} if what == "verdict" else {}
    sealed = {
        "details": seal.seal_details(link, seal.pad(b"{}"), os.urandom),
        "stamp": seal.seal_stamp(link, b"{}", os.urandom),
        "verdict": seal.seal_verdict(bytes(32), link.ticket, Verdict("accepted"), os.urandom),
    }
    good = sealed.pop(what)
    assert script(what, **named(link), sealed=base64url.encode(good), **values)
    flipped = [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in (0, 11, 12, len(good) // 2, len(good) - 1)]
    for bad in [*flipped, good[:-1], good[:20], b"", *sealed.values()]:
        with pytest.raises(Error):
            script(what, **named(link), sealed=base64url.encode(bad), **values)
    with pytest.raises(Error):
        script(what, **named(moved), sealed=base64url.encode(good), **values)


@pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: point[:8])
def test_small_order_points_fail(script: Script, point: str) -> None:
    """A public key that agrees on zero with everybody is refused (RFC 9180 section 7.1.4)."""
    with pytest.raises(Error):
        script("hpke", pkRm=point, info="", pt="00", aead_id=2)


def test_two_answers_never_look_alike(script: Script) -> None:
    """Each answer has a fresh ephemeral key."""
    link = seal.new_link(os.urandom).link
    fields = {"answer": "no", "reply_key": base64url.encode(bytes(32))}
    sealed = [script("answer", **named(link), details="", answer=fields) for _ in range(2)]
    assert sealed[0][:32] != sealed[1][:32]


def test_base64url_has_one_spelling(script: Script) -> None:
    """Padding, white space, foreign characters, trailing bits and wrong sizes are refused, as in Python."""
    for data in (b"", b"\xfb", b"\xff\xfe", bytes(range(64))):
        assert script.text("encode", bytes=data.hex()) == base64url.encode(data)
        assert script("decode", text=base64url.encode(data)) == data
    for text in ("AA==", "A", "AB", " AAAA", "AA\n", "+/+/", "AAA=", "ä"):
        with pytest.raises(Error):
            script("decode", text=text)
    with pytest.raises(Error):
        script("decode", text="AAAA", size=16)


def test_the_known_answer_is_one_that_python_reads(script: Script) -> None:
    """A page seals the known answer's fields; what Python opens reads as the same answer."""
    owned = seal.new_link(os.urandom)
    known: Answer = answer_from_json(LINK["answer"].encode())
    details = LINK["details"].encode()
    sealed = script("answer", **named(owned.link), details=details.hex(), answer=json.loads(LINK["answer"]))
    opened = seal.open_answer(owned, details, sealed)
    assert (opened.secret, opened.reply_key) == (known.secret, known.reply_key)
