"""The dialogue with gpg-agent without I/O, and what becomes of its questions. tests/transcripts has the replies."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlatch import origin, seal
from unlatch.frontends import pinentry_prompt
from unlatch.prompt import MAX_CHAIN, AskerInfo, Key, Process, details_from_json, details_to_json
from unlatch.wire.pinentry import COMMANDS, Dialogue

GRIP = "398467EE667B5BC7525EBA1031AF4884CFC39351"
OCCASION = pinentry_prompt.Occasion(AskerInfo(command="gpg"), ("amber", "otter"), 1)
# What gpg-agent 2.2.40 says, recorded.
UNLOCK = (
    "SETKEYINFO n/398467EE667B5BC7525EBA1031AF4884CFC39351\n"
    "SETDESC Please enter the passphrase to unlock the OpenPGP secret key:%0A%22Alice (work) <alice@example.org>%22%0A"
    "3072-bit RSA key, ID 01B3FE29757B360F,%0Acreated 2026-11-22 (main key ID 59C0E6C0A8938271).%0A\n"
    "SETPROMPT Passphrase:\nGETPIN\n"
)
NEW = (
    "SETKEYINFO --clear\nSETDESC Please enter the passphrase to%0Aprotect your new key\nSETPROMPT Passphrase:\n"
    "SETREPEATERROR does not match - try again\nSETREPEAT Repeat:\nGETPIN\n"
)
WEAK = (
    "OPTION default-ok=_OK\nOPTION default-cancel=_Cancel\n"
    "SETDESC Warning: You have entered an insecure passphrase.%0A%0AIt should be at least 8 characters long.\n"
    "SETOK Take this one anyway\nSETCANCEL Enter new passphrase\nCONFIRM\n"
)
CARD = "SETDESC Please unlock the card%0A%0ANumber: 0005 12345678%0AHolder: Alice%0A\nSETPROMPT PIN\nGETPIN\n"


def dialogue(lines=""):
    talk = Dialogue("1.0", 42, lambda options: options.get("ttyname", "-"))
    if lines:  # no bytes are the end of the stream
        talk.feed(lines.encode())
    return talk


def prompt(lines, occasion=OCCASION):
    """The prompt of the request that these lines open; the broker would accept it."""
    made = pinentry_prompt.prompt_of(dialogue(lines).request, occasion)
    assert details_from_json(details_to_json(made)) == made
    return made


# The dialogue


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(COMMANDS)), max_size=20), st.integers(1, 50))
def test_anything_may_be_said(pieces, size):
    """Whatever comes, in whatever pieces: replies, a request, or an orderly end; never an exception."""
    stream = b"\n".join(pieces) + b"\n"
    whole, cut = dialogue(), dialogue()
    replies = bytes(whole.feed(stream))
    pieces = b"".join(cut.feed(stream[start : start + size]) for start in range(0, len(stream), size))
    assert replies == pieces
    assert (whole.request is None) == (cut.request is None)
    assert whole.closed == cut.closed
    assert replies == b"" or replies.endswith(b"\n")


def test_one_request_at_a_time():
    """What follows an open request waits for its answer, also a second request."""
    talk = dialogue("GETPIN\nNOP\nCONFIRM\nBYE\n")
    assert talk.request.command == "GETPIN"
    assert bytes(talk.feed(b"NOP\n")) == b""
    assert bytes(talk.give(b"x")) == b"D x\nOK\nOK\n"
    assert talk.request.command == "CONFIRM"
    assert bytes(talk.confirm()) == b"OK\nOK closing connection\n"
    assert talk.closed
    assert talk.request is None
    assert talk.fault == ""


def test_a_request_keeps_what_was_set_for_it():
    """Texts are decoded, options are not; later lines do not change an open request."""
    talk = dialogue("OPTION ttyname=/dev/pts/%31\nSETDESC a%0Ab%25\nSETTITLE T\nSETTIMEOUT 7s\nGETPIN\nSETDESC other\n")
    request = talk.request
    talk.give(b"")
    assert request.option("ttyname") == "/dev/pts/%31"
    assert request.text("desc") == "a\nb%"
    assert request.text("title") == "T"
    assert request.text("ok") == ""
    assert request.seconds == 7


def test_error_and_repeat_are_for_one_request():
    """SETERROR and SETREPEAT hold for the next request only; all else stays until RESET, which leaves the options."""
    talk = dialogue("SETERROR e\nSETREPEAT r\nSETDESC d\nOPTION ttyname=t\nSETTIMEOUT 3\nGETPIN\n")
    assert (talk.request.text("error"), talk.request.text("repeat")) == ("e", "r")
    talk.give(b"")
    talk.feed(b"GETPIN\n")
    assert (talk.request.text("error"), talk.request.text("repeat"), talk.request.text("desc")) == ("", "", "d")
    talk.give(b"")
    talk.feed(b"RESET\nGETPIN\n")
    assert (talk.request.text("desc"), talk.request.option("ttyname"), talk.request.seconds) == ("", "t", 3)


@pytest.mark.parametrize(
    ("line", "seconds"),
    [("", 0), ("5", 5), (" 5x", 5), ("x5", 0), ("-5", 0), ("05", 5), ("99999999999999", 2**31 - 1), ("%35", 0)],
)
def test_timeouts(line, seconds):
    """The leading number of seconds; none, negative or nonsense is no limit."""
    assert dialogue(f"SETTIMEOUT {line}\nGETPIN\n").request.seconds == seconds


def test_any_bytes_are_a_secret():
    """Only percent, CR and LF are escaped on the way; nothing at all is a bare OK."""
    assert (
        bytes(dialogue("GETPIN\n").give(bytes(range(256))))
        == b"D " + bytes(range(256)).replace(b"%", b"%25").replace(b"\n", b"%0A").replace(b"\r", b"%0D") + b"\nOK\n"
    )
    assert bytes(dialogue("GETPIN\n").give(b"")) == b"OK\n"
    assert bytes(dialogue("SETREPEAT\nGETPIN\n").give(b"x")) == b"D x\nOK\n"
    assert bytes(dialogue("SETREPEAT r\nGETPIN\n").give(b"")) == b"S PIN_REPEATED\nOK\n"


def test_a_failure_may_say_why():
    """The reason is a status line, on one line whatever it holds; the error is pinentry's."""
    assert bytes(dialogue("GETPIN\n").fail("cancelled")) == b"ERR 83886179 Operation cancelled <Pinentry>\n"
    assert bytes(dialogue("GETPIN\n").fail("timeout", "timeout", "a\nb")) == (
        b"S ERROR unlatch.timeout 83886142 a%0Ab\nERR 83886142 Timeout <Pinentry>\n"
    )


@pytest.mark.parametrize(
    ("stream", "fault"),
    [(b"NOP\n", ""), (b"NOP", "incomplete"), (b"GETPIN\nNO", ""), (b"x" * 1002, "too long")],
)
def test_the_end_of_the_stream(stream, fault):
    """It closes the dialogue; half a line, or too long a one, is a fault."""
    talk = dialogue()
    talk.feed(stream)
    talk.feed(b"")
    assert talk.closed
    assert fault in talk.fault
    assert bool(fault) == bool(talk.fault)


def test_a_flood_behind_an_open_request_ends_it():
    """More than 64 KiB of waiting lines are nobody's dialogue."""
    talk = dialogue("GETPIN\n")
    talk.feed(b"NOP\n" * 20000)
    assert talk.closed
    assert talk.fault


def test_another_pinentry_hears_what_is_in_force():
    """Raw lines, each setting once, in the order it was made; the request last; what waits comes after it."""
    talk = dialogue("OPTION grab\nSETDESC old\nSETDESC new%0A\nSETERROR e\nGETPIN\n")
    talk.fail("cancelled")
    talk.feed(b"NOP\nOPTION colour=red\nSETTIMEOUT 5\nCONFIRM x\nNOP\nGET")
    lines, rest = talk.take_over()
    assert lines == [b"OPTION grab", b"SETDESC new%0A", b"SETTIMEOUT 5", b"CONFIRM x"]
    assert rest == b"NOP\nGET"
    assert talk.closed


# The prompt


def test_unlocking_a_key():
    """The key is named by user id, key id and keygrip; the agent keeps the passphrase, so askers may share it."""
    made = prompt(UNLOCK)
    assert made.kind == "passphrase"
    assert made.title == "Unlock Alice (work) <alice@example.org>"
    assert made.key == Key("Alice (work) <alice@example.org>", "01B3FE29757B360F", GRIP)
    assert made.label == "Passphrase"
    assert made.keeper == "agent"
    assert made.attempt is None
    assert made.text.startswith("Please enter the passphrase to unlock the OpenPGP secret key:\n")
    assert pinentry_prompt.coalesce(dialogue(UNLOCK).request) == GRIP


def test_another_language():
    """Umlauts, other quotation marks and another word order change nothing for the key."""
    made = prompt(
        f"SETKEYINFO n/{GRIP}\nSETDESC Bitte geben Sie die Passphrase ein, um den geheimen OpenPGP-Schlüssel zu "
        "entsperren:%0A„Jörg <j@example.org>“%0A3072-Bit RSA Schlüssel, ID 01B3FE29757B360F%0A\n"
        "SETPROMPT Passphrase:\nSETERROR Falsche Passphrase (Versuch 2 von 3)\nGETPIN\n"
    )
    assert made.key == Key("Jörg <j@example.org>", "01B3FE29757B360F", GRIP)
    assert made.attempt == (2, 3)


def test_a_new_passphrase():
    """Typed twice, never shared, and kept by the program that asked."""
    made = prompt(NEW)
    assert made.kind == "new-passphrase"
    assert made.title == "Please enter the passphrase to protect your new key"
    assert (made.repeat, made.repeat_error) == ("Repeat", "does not match - try again")
    assert made.keeper == "program"
    assert pinentry_prompt.coalesce(dialogue(f"SETKEYINFO n/{GRIP}\nSETREPEAT r\nGETPIN\n").request) == ""


def test_a_card():
    """A card's PIN is kept by the card, whose number stands in the text."""
    made = prompt(CARD)
    assert made.kind == "pin"
    assert made.keeper == "card"
    assert made.key == Key(serial="0005 12345678")
    assert made.title == "Please unlock the card"
    assert prompt(f"SETKEYINFO s/{GRIP}\nSETDESC x\nGETPIN\n").keeper == "card"


def test_a_question():
    """Yes or no, with the buttons as they were named; nobody keeps anything, and nobody shares a yes."""
    made = prompt(f"SETKEYINFO n/{GRIP}\n" + WEAK)
    assert made.kind == "confirm"
    assert made.title == "Warning: You have entered an insecure passphrase."
    assert (made.ok, made.cancel, made.notok) == ("Take this one anyway", "Enter new passphrase", "")
    assert made.keeper == "none"
    assert made.label == ""
    assert pinentry_prompt.coalesce(dialogue(f"SETKEYINFO n/{GRIP}\nCONFIRM\n").request) == ""


@pytest.mark.parametrize("request_line", ["MESSAGE", "CONFIRM --one-button"])
def test_a_notice(request_line):
    """One button: something to read."""
    assert prompt(f"SETDESC The card was removed\n{request_line}\n").kind == "notice"


@pytest.mark.parametrize(
    ("label", "shown"), [("_OK", "OK"), ("O_K", "OK"), ("__a_b", "_ab"), ("_Yes__no", "Yes_no"), ("", "")]
)
def test_mnemonics(label, shown):
    """An underscore marks a key for a keyboard, and there is none; two are one."""
    assert prompt(f"SETOK {label}\nCONFIRM\n").ok == shown


def test_default_labels():
    """The agent's translated labels, where none was set for this request."""
    made = prompt("OPTION default-ok=_Gut\nOPTION default-cancel=_Nein danke\nOPTION default-prompt=PIN:\nGETPIN\n")
    assert (made.ok, made.cancel, made.label) == ("Gut", "Nein danke", "PIN")
    assert made.kind == "passphrase"  # by default the agent calls everything a PIN


@pytest.mark.parametrize(
    ("lines", "keeper"),
    [
        (f"SETKEYINFO n/{GRIP}\n", "agent"),
        (f"SETKEYINFO t/{GRIP}\n", "program"),
        (f"SETKEYINFO n/{GRIP}x\n", "program"),
        (f"SETKEYINFO n/{GRIP.lower()}\n", "program"),
        ("SETKEYINFO u/S872876D217DC831D\n", "program"),
        (f"SETKEYINFO n/{GRIP}\nSETKEYINFO --clear\n", "program"),
        (f"SETKEYINFO n/{GRIP}\nRESET\n", "program"),
        ("", "program"),
    ],
)
def test_only_a_keygrip_means_that_the_agent_keeps_it(lines, keeper):
    """Anything else goes to a program, and the page has to say so."""
    assert prompt(f"{lines}SETDESC x\nGETPIN\n").keeper == keeper


@pytest.mark.parametrize(
    ("error", "count", "attempt"),
    [
        ("Bad Passphrase (try 2 of 3)", 7, (2, 3)),
        ("Bad PIN", 2, (2, 3)),
        ("Bad PIN", 5, (5, 5)),
        ("Bad (sorry)", 3, (3, 3)),
        ("", 2, None),
    ],
)
def test_tries(error, count, attempt):
    """As the agent says it, else as counted; without an error there is nothing to count."""
    lines = f"SETERROR {error}\nGETPIN\n" if error else "GETPIN\n"
    assert prompt(lines, OCCASION._replace(attempt=count)).attempt == attempt


@pytest.mark.parametrize("text", ['%22a%22%0A"' + "\x7f" * 900 + '"', "\u2028" * 320, "x" * 900])
def test_the_longest_prompt_can_be_sealed(text):
    """Every field at its limit, in characters that grow most: the broker takes it."""
    sets = "".join(
        f"SET{name} {text}\n" for name in ("DESC", "ERROR", "OK", "CANCEL", "NOTOK", "PROMPT", "REPEATERROR")
    )
    text = "\ufffd" * origin.MAX_SHOWN
    asker = AskerInfo(text, (Process(2**22, text[: origin.MAX_NAME], text),) * MAX_CHAIN, text, text, text, text)
    made = prompt(f"{sets}SETREPEAT {text[:300]}\nGETPIN\n", OCCASION._replace(asker=asker))
    link = seal.new_link(os.urandom).link
    assert len(seal.seal_details(link, seal.pad(details_to_json(made)), os.urandom)) <= seal.MAX_SEALED


@pytest.mark.parametrize("text", ["", "x" * 990, "%FF%FE", "a%00b", "%1B[31m", "%ED%A0%80"])
def test_any_text_makes_a_prompt_that_the_broker_accepts(text):
    """Long, not UTF-8, control characters: shown as well as it can be."""
    made = prompt(f"SETDESC {text}\nSETPROMPT {text}\nSETTITLE {text}\nGETPIN\n")
    assert 0 < len(made.title) <= 120
