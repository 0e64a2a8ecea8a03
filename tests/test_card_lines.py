"""What scdaemon says of a card, and pcscd of its readers, read into plain data; nonsense is refused or left out."""

import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlatch.errors import Malformed
from unlatch.gnupg import card, card_access
from unlatch.gnupg.agent import Agent, patiently
from unlatch.gnupg.card import PinStatus, means, number_of, pin_status, read_card, serials, tells_status, touch
from unlatch.gnupg.errors import BrokenPipe, NoCard, NoCardDaemon
from unlatch.gnupg.readers import Pcscd, Reader, parse

AID = "D2760001240103040006123456780000"
GRIPS = {number: f"{number}" * 40 for number in (1, 2, 3)}
# SCD LEARN --force and SCD GETATTR KEY-ATTR of scdaemon 2.2.40; a card that has everything.
LINES = f"""\
READER Yubico YubiKey OTP+FIDO+CCID 00 00
SERIALNO {AID}
APPTYPE openpgp
EXTCAP gc=1+ki=1+fc=1+pd=1+mcl3=2048+aac=1+sm=0+si=5+dec=0+bt=1+kdf=1
MANUFACTURER 6 Yubico
DISP-NAME M%C3%BCller<<Anna<Maria
DISP-LANG de
DISP-SEX 9
PUBKEY-URL https://example.org/key%20of+anna.asc
LOGIN-DATA anna
KEY-FPR 1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
KEY-FPR 3 CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC
KEY-TIME 1 1700000000
CHV-STATUS +0+127+127+127+3+0+2
SIG-COUNTER 17
UIF-1 %00%20
UIF-3 %01%20
KEYPAIRINFO {GRIPS[1]} OPENPGP.1 sc
KEYPAIRINFO {GRIPS[2]} OPENPGP.2 e
KEYPAIRINFO {GRIPS[3]} OPENPGP.3 sa
KEY-ATTR 1 1 rsa3072 32 1
KEY-ATTR 2 18 Curve25519
KEY-ATTR 3 22 Ed25519
"""


def lines_of(text: str) -> list[card.Line]:
    """As Agent.status gives them."""
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in text.splitlines()]


def test_a_full_card() -> None:
    """Every line that people see."""
    seen = read_card(lines_of(LINES))
    assert (seen.aid, seen.number, seen.reader) == (AID, "12345678", "Yubico YubiKey OTP+FIDO+CCID 00 00")
    assert (seen.maker, seen.holder, seen.language) == ("Yubico", "Anna Maria Müller", "de")
    assert (seen.url, seen.login, seen.signatures) == ("https://example.org/key of anna.asc", "anna", 17)
    assert seen.status == PinStatus(forced=True, longest=127, pin=3, reset=0, admin=2)
    assert [(key.use, key.number, key.algorithm, key.touch) for key in seen.keys] == [
        ("sign", 1, "rsa3072", False),
        ("decrypt", 2, "curve25519", False),
        ("authenticate", 3, "ed25519", True),
    ]
    assert [key.grip for key in seen.keys] == list(GRIPS.values())
    assert [key.fingerprint[:1] for key in seen.keys] == ["A", "", "C"]


def test_an_empty_card() -> None:
    """What a new card does not say is empty."""
    seen = read_card(lines_of(f"SERIALNO {AID}\nDISP-NAME\nCHV-STATUS +1+127+127+127+3+0+3\n"))
    assert (seen.holder, seen.maker, seen.keys, seen.signatures) == ("", "", (), 0)
    assert not seen.status.forced


@pytest.mark.parametrize("missing", ["SERIALNO", "CHV-STATUS"])
def test_what_is_no_openpgp_card(missing: str) -> None:
    """Without a serial number or counters nothing can be said."""
    with pytest.raises(Malformed):
        read_card([line for line in lines_of(LINES) if line[0] != missing])


@pytest.mark.parametrize("text", ["", "+1+127+127+127+3+0", "+1+127+127+127+x+0+3", "1", "+1+127+127+127+-3+0+3"])
def test_counters_that_are_none(text: str) -> None:
    """A card with unknown tries is not one with three."""
    with pytest.raises(Malformed):
        pin_status(text)


@given(st.lists(st.tuples(st.sampled_from(LINES.split()), st.text(max_size=60)), max_size=20))
def test_nonsense_is_malformed(lines: list[card.Line]) -> None:
    """Whatever scdaemon says, nothing else is raised."""
    try:
        read_card(lines)
    except Malformed:
        pass
    else:
        assert dict(lines)["CHV-STATUS"] is not None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("12345678", True),
        ("000612345678", True),
        ("0006:12345678", True),
        ("0006 12345678", True),
        (AID, True),
        (AID.lower(), True),
        ("1234567", False),
        ("123456789", False),
        ("", False),
        (AID[:-4], False),
    ],
)
def test_how_a_serial_number_is_typed(typed: str, meant: bool) -> None:
    """As gpg shows it, as the card has it printed on it, or whole; nothing that only begins alike."""
    assert means(typed, AID) == meant


def test_other_cards() -> None:
    """Any other serial number is shown as it is; cards before version 3 are not asked for their state."""
    assert number_of("FF0100003D2B7A") == "FF0100003D2B7A"
    assert means("ff0100003d2b7a", "FF0100003D2B7A")
    assert tells_status(AID)
    assert not tells_status(AID[:12] + "0201" + AID[16:])
    assert not tells_status("FF0100003D2B7A")
    assert serials([("SERIALNO", f"{AID} 0"), ("SERIALNO", AID), ("SERIALNO", ""), ("READER", "x")]) == (AID,)


def test_touch() -> None:
    """The first byte of the flag counts, whatever the second says of a button."""
    assert not touch("")
    assert not touch("%00%20")
    assert touch("%02%20")


def reader(name: bytes, state: int, sharing: int) -> bytes:
    return struct.pack("@128sIIi33sII", name, 7, state, sharing, b"\x3b", 1, 2)


def test_readers() -> None:
    """Unused rows have no name; only an exclusive connection holds a card."""
    table = reader(b"A", 0x34, -1) + reader(b"B \xff", 0x34, 2) + reader(b"C", 0x02, 0) + reader(b"", 0, 0) * 13
    assert parse(table) == (Reader("A", True, True), Reader("B \ufffd", True, False), Reader("C", False, False))


def test_a_pcscd_that_does_not_run_is_not_started(tmp_path: Path) -> None:
    """Whoever connects to a socket of systemd's starts it, and it would take readers that scdaemon drives by itself."""
    with socket.socket(socket.AF_UNIX) as systemd:
        systemd.bind(str(tmp_path / "pcscd.comm"))
        systemd.listen()
        systemd.setblocking(False)
        with pytest.raises(FileNotFoundError):
            Pcscd(str(tmp_path / "pcscd.comm"))
        with pytest.raises(BlockingIOError):
            systemd.accept()


@pytest.mark.parametrize("error", [BrokenPipe(67141741, "Broken pipe"), NoCardDaemon(67108983, "No SmartCard daemon")])
def test_a_scdaemon_that_is_being_restarted_is_waited_for(error: Exception) -> None:
    """Old connections are told one thing, new ones another; a missing card is not waited for."""
    answers: list[object] = [error, error, "card"]
    slept: list[float] = []

    def look() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(look, clock=lambda: 0.0, sleep=slept.append) == "card"
    assert len(slept) == 2
    answers[:] = [NoCard(100663408, "No card")]
    with pytest.raises(NoCard):
        patiently(look, clock=lambda: 0.0, sleep=slept.append)


class _Believing(Agent):
    """A scdaemon that believes the PIN to be verified, before a card that answers an empty VERIFY with one word."""

    def __init__(self, word: int) -> None:  # without a connection
        self._word = word

    def ask(self, command: str, **_: Any) -> bytes:
        return self._word.to_bytes(2, "big") if command.startswith("SCD APDU") else b""


@pytest.mark.parametrize(
    ("word", "state", "lying"),
    [
        (0x9000, "unlocked", False),
        (0x63C2, "locked", True),
        (0x63C0, "blocked", False),
        (0x6983, "blocked", False),
        (0x6982, "locked", True),
        (0x6A88, "locked", True),
        (0x6D00, "locked", True),
        (0x6E00, "locked", True),
        (0x6700, "unlocked", False),  # a card that knows no empty VERIFY: scdaemon's word is all that there is
    ],
)
def test_scdaemon_is_not_believed_against_the_card(word: int, state: str, lying: bool) -> None:
    """What says that nothing is verified, or that another application answers, is no unlocked card."""
    assert card_access.state_of(_Believing(word), AID) == (state, lying)
