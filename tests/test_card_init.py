"""``unlatch card init``: a new card becomes one that logs in, whatever interrupts it, and nothing is lost unasked."""

import re
import signal
from pathlib import Path

import pytest
from card.card import ADMIN_PIN
from card.gnupg import BATCH, provision
from card.house import CardHouse
from card.reader import GENERATE, PUT_DATA
from card.sshd import SSHServer, agent_socket
from card.unlatch import Ended, card
from house import UNLATCH
from real_gnupg import finish
from waiting import until

NEW, NEW_ADMIN = b"canary-2718", b"canary-admin-31"
OWNER = "Backup db01 <backup@db01.example>"
ANSWERS = ("--name", "Anna Meier", "--language", "de", "--no-forcesig", "--no-backup", "--yes")
FRESH = (*ANSWERS, "--factory-pin", "--factory-admin-pin", "--user-id", OWNER, "--expires", "2y")
MAKES_KEY = bytes([GENERATE, 0x80])
READS = {0xA4, 0xCA, 0xC0, 0x47}  # SELECT, GET DATA, GET RESPONSE; 47 with P1 = 81 reads a public key


def init(house: CardHouse, *words: str, feed: bytes = NEW + b"\n" + NEW_ADMIN + b"\n") -> Ended:
    """Run it as a script does."""
    return card(house, "init", "--stdin", *words, feed=feed, seconds=120)


def logs_in(house: CardHouse, public: str, pin: bytes) -> None:
    """The card's key is good for real ssh."""
    server = SSHServer(house)
    socket = agent_socket(house)
    server.allow(public.strip())
    house.unlock(pin)
    code, out, errors = finish(server.login("echo", "in", socket=socket))
    assert (code, out) == (0, b"in\n"), errors


@pytest.mark.parametrize("algorithm", ["rsa3072", "ed25519"])
def test_a_new_card_logs_in(card_house: CardHouse, algorithm: str) -> None:
    """One command: holder, keys, certificate, PINs; the line that it prints lets the card in over real ssh."""
    done = init(card_house, *FRESH, "--algorithm", algorithm)
    assert done.code == 0, done.err
    made = card_house.card
    assert all(made.has_key(slot) for slot in ("sign", "decrypt", "auth"))
    status = card(card_house, "status").out
    assert "Anna Meier" in status
    assert re.search(r"language +de\n", status)
    assert "as other uses do" in status
    assert done.out.startswith("ssh-rsa " if algorithm == "rsa3072" else "ssh-ed25519 ")
    assert done.out == f"{done.out.strip().rpartition(' ')[0]} Anna-Meier-00000001\n"
    assert f'restrict,command="borg serve --restrict-to-path /srv/backup" {done.out.strip()}' in done.err
    revocation = re.search(r"revocation certificate is in (\S+);", done.err)
    assert revocation
    assert "BEGIN PGP PUBLIC KEY BLOCK" in Path(revocation[1]).read_text()
    assert ("warning: gpg-agent" in done.err) == (algorithm == "ed25519")
    assert "trying the factory PIN 123456, once" in done.err
    listing = card_house.run(*BATCH, "--with-colons", "--list-keys", OWNER).decode()
    assert listing.count("\nsub:") == 2
    created, expires = map(int, re.findall(r"^pub:(?:[^:]*:){4}(\d+):(\d+):", listing, re.MULTILINE)[0])
    assert expires - created == 2 * 365 * 86400
    assert made.wrong_pin_count() == 0
    assert card_house.phone.messages() == []
    logs_in(card_house, done.out, NEW)
    assert card_house.apdu(f"00200083{len(NEW_ADMIN):02X}{NEW_ADMIN.hex()}") == "9000"


def test_run_again_nothing_is_left_to_do(card_house: CardHouse) -> None:
    """It finds that all is done, writes nothing, asks for no PIN, and prints the same line."""
    first = init(card_house, *FRESH, "--algorithm", "ed25519")
    assert first.code == 0, first.err
    card_house.reader.commands.clear()
    before = card_house.card.submitted("admin") + card_house.card.submitted("pin")
    second = init(card_house, *ANSWERS, feed=b"")
    assert (second.code, second.out) == (0, first.out), second.err
    assert "is as it was wished" in second.err
    assert card_house.card.submitted("admin") + card_house.card.submitted("pin") == before
    assert {command[1] for command in card_house.reader.commands} <= READS


STEPS = (
    "write the name", "write the language", "set the key to sign", "set the key to decrypt",
    "set the key to authenticate", "make three keys", "change the PIN", "change the admin PIN",
)  # fmt: skip


@pytest.mark.parametrize("boundary", range(len(STEPS) - 1))
def test_killed_after_any_step_it_goes_on(card_house: CardHouse, boundary: int) -> None:
    """SIGKILL when a step was done: the next run does what is left, and nothing twice; no try is spent."""
    words = (*FRESH, "--algorithm", "ed25519")
    killed = card_house.start(UNLATCH, "card", "init", *words)
    assert killed.stderr is not None
    chosen, rings = [NEW, NEW_ADMIN], 0
    before = f"done: {STEPS[boundary - 1]}" if boundary else "trying the factory PIN"
    for line in killed.stderr:
        assert b"error" not in line, line
        if before.encode() in line and boundary <= STEPS.index("set the key to authenticate"):
            card_house.reader.delay = 0.05  # so that the kill comes before the next step's end
        if line.startswith(f"unlatch: done: {STEPS[boundary]}".encode()):
            break
        if line.startswith(b"unlatch: ringing"):
            rings += 1
            card_house.open(card_house.phone.links(rings)[-1]).unlock(chosen[rings - 1])
    killed.send_signal(signal.SIGKILL)
    killed.wait(20)
    card_house.reader.delay = 0
    # The kill may come late: what was said until then is done, and one step more may be that was not said.
    reached = boundary + 1 + killed.stderr.read().count(b"unlatch: done: ")
    changed = reached > STEPS.index("change the PIN")
    again = [*words, "--own-pin"] if changed else words
    done = init(card_house, *again, feed=NEW_ADMIN if changed else NEW + b"\n" + NEW_ADMIN)
    assert done.code == 0, done.err
    left = [step for step in STEPS if f"done: {step}" in done.err]
    assert left in (list(STEPS[reached:]), list(STEPS[reached + 1 :]))
    assert done.out.startswith("ssh-ed25519 ")
    listing = card_house.run(*BATCH, "--with-colons", "--list-keys", OWNER).decode()
    assert listing.count("pub:") == 1
    assert card_house.card.wrong_pin_count() == 0


def test_killed_while_keys_are_made_the_ruins_are_not_lost_unasked(card_house: CardHouse) -> None:
    """The card is pulled after its first key: the next run shows that key, and makes others only when it may."""
    words = (*FRESH, "--algorithm", "ed25519")
    made = card_house.card
    making = card_house.start(UNLATCH, "card", "init", *words)
    assert making.stderr is not None
    for line in making.stderr:
        if line.startswith(b"unlatch: done: set the key to authenticate"):
            break
    card_house.reader.delay = 0.1
    until(lambda: any(command[1:3] == MAKES_KEY for command in card_house.reader.commands), "the first key")
    card_house.reader.remove()
    code, _, err = finish(making, 60)
    stopped = Ended(code, "", err)
    assert stopped.error.startswith("could not make three keys on the card (ed25519): no card is in the reader")
    assert stopped.hints[-1] == 'run "unlatch card init" again; what was done before is kept'
    card_house.reader.delay = 0
    card_house.reader.insert(made)
    assert made.has_key("sign")
    assert not made.has_key("decrypt")
    refused = init(card_house, *words)
    assert refused.code == 1
    assert refused.error.startswith("the card has a key to sign with already: ")
    ruins = [word for key in keygrips(card_house) for word in ("--overwrite", key)]
    done = init(card_house, *words, *ruins)
    assert done.code == 0, done.err
    assert all(made.has_key(slot) for slot in ("sign", "decrypt", "auth"))


def test_a_card_with_keys_keeps_them(card_house: CardHouse) -> None:
    """Nothing is made anew, whatever algorithm is named; only each key's fingerprint allows it, and then it happens."""
    made = provision(card_house, "ed25519")
    before = fingerprints(card_house)
    kept = init(card_house, *FRESH, "--algorithm", "rsa3072")
    assert kept.code == 0, kept.err
    assert fingerprints(card_house) == before
    assert kept.out.startswith("ssh-ed25519 ")
    some = init(card_house, *ANSWERS, "--user-id", OWNER, "--overwrite", before[0], feed=NEW_ADMIN + b"\n" + NEW)
    assert some.code == 0, some.err
    assert fingerprints(card_house) == before
    words = [word for each in before for word in ("--overwrite", each)]
    ours = ("--user-id", OWNER, "--algorithm", "ed25519", "--yes", "--no-backup")
    every = init(card_house, *ours, *words, feed=NEW_ADMIN + b"\n" + NEW)
    assert every.code == 0, every.err
    assert not set(fingerprints(card_house)) & set(before)
    assert every.out.split()[1] != kept.out.split()[1]
    assert made.card.wrong_pin_count() == 0


def test_a_key_is_lost_only_for_its_last_digits(card_house: CardHouse) -> None:
    """At the terminal the fingerprint is shown; anything but its last eight digits changes nothing."""
    card_house.card.generate("sign", "ed25519")
    [key] = keygrips(card_house)
    before = card_house.card.record()
    words = (*FRESH, "--algorithm", "ed25519")
    with card_house.at_terminal(UNLATCH, "card", "init", *words) as terminal:
        terminal.expect(f"the key {key} will be destroyed; type its last 8 digits")
        terminal.type("yes\n")
        terminal.expect("nothing was changed")
        assert terminal.end() == 4
    assert card_house.card.has_key("sign")
    assert card_house.card.record() == before
    with card_house.at_terminal(UNLATCH, "card", "init", *words) as terminal:
        terminal.expect("type its last 8 digits to agree:")
        terminal.type(f"{key[-8:]}\n")
        terminal.expect("done: make three keys")


def test_dry_run_only_reads(card_house: CardHouse) -> None:
    """The plan is printed; the card is asked for nothing but what everybody may read, and nothing is made."""
    files = {path for path in card_house.root.rglob("*") if path.is_file()}
    done = card(card_house, "init", "--dry-run", *FRESH, "--algorithm", "ed25519")
    assert done.code == 0, done.err
    for step in STEPS:
        assert re.search(rf"\n  [1-9]\. {step}", done.err), step
    assert {command[1] for command in card_house.reader.commands} <= READS
    assert all(command[2] == 0x81 for command in card_house.reader.commands if command[1] == GENERATE)
    assert card_house.card.record() == []
    new = {path.name for path in card_house.root.rglob("*") if path.is_file()} - {path.name for path in files}
    assert not new & {"pubring.kbx", "private-keys-v1.d"} or not card_house.run(*BATCH, "--list-keys")
    assert not card_house.card.has_key("auth")


def test_a_wrong_admin_pin_is_told_and_nothing_is_changed(card_house: CardHouse) -> None:
    """With the tries left; nothing was written, and the right one goes on with two tries."""
    card_house.card.expect_wrong(1, by="unlatch card init")
    words = [word for word in FRESH if word != "--factory-admin-pin"]
    done = init(card_house, *words, "--algorithm", "ed25519", feed=b"87654321\n" + ADMIN_PIN)
    assert (done.code, done.error) == (3, "wrong admin PIN: 2 tries left for the card 00000001")
    assert done.hints == ['run "unlatch card init" again']
    assert card_house.card.tries() == (3, 0, 2)
    assert "Anna" not in card(card_house, "status").out
    feed = b"\n".join((ADMIN_PIN, NEW, NEW_ADMIN))
    again = init(card_house, *words, "--algorithm", "ed25519", feed=feed)
    assert again.code == 0, again.err
    assert card_house.card.tries() == (3, 0, 3)


def test_a_wrong_factory_pin_costs_one_announced_try(card_house: CardHouse) -> None:
    """It is said before; then the person is asked, and the same value does not go to the card again."""
    card_house.card.set_admin_pin(NEW_ADMIN)
    card_house.card.expect_wrong(1, by="unlatch card init")
    done = init(card_house, *FRESH, "--algorithm", "ed25519", feed=ADMIN_PIN)
    assert done.code == 1
    assert "trying the factory admin PIN 12345678, once\nunlatch: wrong admin PIN: 2 tries left" in done.err
    assert done.error.startswith("the card has just refused this admin PIN; it was not tried again")
    assert card_house.card.tries().admin == 2


@pytest.mark.parametrize(("tries", "sentence"), [(0, "is blocked"), (1, "has 1 try left, and a wrong one would")])
def test_without_tries_nothing_is_tried(card_house: CardHouse, tries: int, sentence: str) -> None:
    """Nobody is rung, nothing is given to the card, and the way out is said."""
    card_house.card.set_admin_pin(tries=tries)
    done = init(card_house, *FRESH, "--algorithm", "ed25519")
    assert done.code == 8
    assert done.error.startswith(f"the admin PIN of the card 00000001 {sentence}")
    assert len(done.hints) == 1
    assert card_house.card.submitted("admin") == 0


@pytest.mark.parametrize("value", [b"12345", b"123456", b"12345678", b"9" * 89, b"1234\x00567"])
def test_a_new_pin_that_will_not_do_never_reaches_the_card(card_house: CardHouse, value: bytes) -> None:
    """Too short, too long, what every new card has: the card keeps its PIN, and is not asked."""
    card_house.card.generate("auth", "ed25519")
    done = init(card_house, "--yes", "--factory-pin", feed=value)
    assert done.code == 1
    assert card_house.card.submitted() == 1  # the factory one, which was right
    assert card_house.apdu("0020008206313233343536") == "9000"


def test_an_unlocked_card_proves_a_pin_all_the_same(card_house: CardHouse) -> None:
    """scdaemon would say OK to any PIN then, so a wrong one would pass for the one in force."""
    card_house.card.generate("auth", "ed25519")
    card_house.card.set_pin(NEW)
    card_house.unlock(NEW)
    card_house.card.expect_wrong(1, by="unlatch card init")
    done = init(card_house, "--yes", "--factory-pin", feed=NEW)
    assert done.code == 0, done.err
    assert "wrong PIN: 2 tries left for the card 00000001" in done.err
    assert "done: change" not in done.err
    assert card_house.card.tries().pin == 3


def test_the_card_is_pulled_while_it_is_written(card_house: CardHouse) -> None:
    """One sentence, the next command; afterwards the rest is done."""
    taken = card_house.card
    card_house.reader.pull_at(PUT_DATA)
    done = init(card_house, *FRESH, "--algorithm", "ed25519")
    assert done.code != 0
    assert done.error.startswith("could not write the name Anna Meier: ")
    assert done.hints[-1] == 'run "unlatch card init" again; what was done before is kept'
    card_house.reader.remove()
    card_house.reader.insert(taken)
    assert init(card_house, *FRESH, "--algorithm", "ed25519").code == 0


def test_pins_on_the_phone(card_house: CardHouse) -> None:
    """Without a terminal the phone rings: for the PINs that are in force, and for new ones, which are chosen there."""
    card_house.card.generate("auth", "ed25519")
    words = ("--name", "Anna Meier", "--factory-pin", "--yes")
    asking = card_house.start(UNLATCH, "card", "init", *words)
    admin = card_house.open(card_house.phone.links(1)[0])
    assert admin.prompt is not None
    assert (admin.prompt.kind, admin.prompt.title) == ("pin", "Admin PIN of the card 00000001")
    assert "3 tries left" in admin.prompt.text
    admin.unlock(ADMIN_PIN)
    assert admin.verdict().outcome == "accepted"
    for number, value in ((2, b"12345"), (3, NEW), (4, NEW_ADMIN)):
        page = card_house.open(card_house.phone.links(number)[number - 1])
        assert page.prompt is not None
        assert page.prompt.kind == "new-passphrase"
        page.unlock(value)
    code, out, err = finish(asking)
    assert code == 0, err
    assert out.startswith(b"ssh-ed25519 ")
    assert card_house.apdu(f"00200083{len(NEW_ADMIN):02X}{NEW_ADMIN.hex()}") == "9000"


def test_at_the_terminal(card_house: CardHouse) -> None:
    """Every question is asked, new PINs twice without echo, and a plan is shown before anything is written."""
    with card_house.at_terminal(UNLATCH, "card", "init") as terminal:

        def reply(question: str, answer: str, *, silent: bool = False) -> None:
            terminal.expect(question)
            until(lambda: terminal.echoes() is not silent, "the terminal")
            terminal.type(f"{answer}\n")

        reply("the cardholder's name", "Anna Meier")
        reply("the cardholder's language", "deutsch")
        terminal.expect("a language has two letters")
        reply("the cardholder's language", "de")
        reply("for each signature?", "no")
        reply("what keys?", "ed25519")
        reply("whose keys?", OWNER)
        reply("when do they expire?", "2y")
        reply("a file for a copy of the encryption key", "")
        reply("is the PIN still that of a new card, 123456?", "yes")
        reply("is the admin PIN still that of a new card, 12345678?", "no")
        terminal.expect("what is to be done with the card 00000001:")
        assert card_house.card.record() == []
        reply("begin?", "yes")
        reply("admin PIN:", ADMIN_PIN.decode(), silent=True)
        terminal.expect("done: make three keys")
        reply("new PIN:", NEW.decode(), silent=True)
        reply("again:", "something else", silent=True)
        terminal.expect("The two are not the same.")
        reply("new PIN:", NEW.decode(), silent=True)
        reply("again:", NEW.decode(), silent=True)
        reply("new admin PIN:", NEW_ADMIN.decode(), silent=True)
        reply("again:", NEW_ADMIN.decode(), silent=True)
        terminal.expect("ssh-ed25519 ")
        assert terminal.end() == 0
        assert NEW.decode() not in terminal.screen
    assert card_house.phone.messages() == []


def test_a_plan_that_nobody_agreed_to(card_house: CardHouse) -> None:
    """A no at the terminal changes nothing, and a script has to say --yes."""
    words = [word for word in FRESH if word != "--yes"]
    with card_house.at_terminal(UNLATCH, "card", "init", *words, "--algorithm", "ed25519") as terminal:
        terminal.expect("begin?")
        terminal.type("no\n")
        terminal.expect("nothing was changed")
        assert terminal.end() == 4
    assert card_house.card.record() == []
    done = init(card_house, *words)
    assert (done.code, done.hints) == (2, ["--yes says it"])
    assert card_house.card.record() == []


def test_the_backup_of_the_encryption_key(card_house: CardHouse, tmp_path: Path) -> None:
    """It is where it was wanted, only its owner reads it, it is encrypted, and gpg leaves no other."""
    words = [word for word in FRESH if word != "--no-backup"]
    file, passphrase = tmp_path / "copy.gpg", b"a long canary passphrase"
    feed = b"\n".join((passphrase, NEW, NEW_ADMIN))
    done = init(card_house, *words, "--algorithm", "ed25519", "--backup", str(file), feed=feed)
    assert done.code == 0, done.err
    assert f"the copy of the key is in {file};" in done.err
    assert file.stat().st_mode & 0o077 == 0
    assert not list(card_house.gnupg.glob("sk_*"))
    packets = card_house.run("gpg", "--batch", "--list-packets", file).decode()
    assert "iter+salt S2K" in packets
    refused = init(card_house, *words, "--backup", str(file))
    assert refused.code == 1
    assert refused.error == f"{file} is there already"


def test_secrets_stay_out_of_sight(card_house: CardHouse) -> None:
    """The PINs are in no file, no message, and no argument or environment of any program that ran."""
    seen: list[bytes] = []
    asking = card_house.start(UNLATCH, "card", "init", *FRESH, "--algorithm", "ed25519")
    assert asking.stderr is not None
    chosen = [NEW, NEW_ADMIN]
    rings = 0
    said = b""
    for line in asking.stderr:
        said += line
        for pid in card_house.processes():
            seen += [read(pid, "cmdline"), read(pid, "environ")]
        if line.startswith(b"unlatch: ringing"):
            rings += 1
            card_house.open(card_house.phone.links(rings)[-1]).unlock(chosen[rings - 1])
    assert asking.wait(30) == 0
    assert asking.stdout is not None
    files = [path for path in card_house.root.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert len(seen) > 20
    haystack = [said, asking.stdout.read(), *seen, *(path.read_bytes() for path in files)]
    assert not [each for each in haystack if b"canary" in each]


def read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def keygrips(house: CardHouse) -> list[str]:
    """What the keys without a certificate are called: by fingerprint, if gpg came to write it."""
    shown = card(house, "status", "--json").out
    return re.findall(r'"fingerprint": "([0-9A-F]{40})"', shown) or re.findall(r'"keygrip": "([0-9A-F]{40})"', shown)


def fingerprints(house: CardHouse) -> list[str]:
    """Those of the card's three keys."""
    reply = house.run("gpg-connect-agent", "SCD LEARN --force", "/bye").decode()
    return re.findall(r"KEY-FPR [123] ([0-9A-F]{40})", reply)
