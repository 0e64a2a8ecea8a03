"""Software keys in gpg-agent's cache: look, try a passphrase, keep it, prove that it works, forget it.

How gpg-agent 2.2.40 keeps a passphrase (agent/cache.c; each line is held by tests/test_key_agent.py):

1. One entry for each keygrip serves gpg and ssh alike. PRESET_PASSPHRASE replaces what is there; ``CLEAR_PASSPHRASE
   --mode=normal`` removes it, however it came there.
2. PRESET_PASSPHRASE checks nothing and takes only -1 for a time. Its entry ends by max-cache-ttl (an ssh key's too:
   max-cache-ttl-ssh does not count), by a reload (SIGHUP, RELOADAGENT), and with the agent.
3. A key without an entry is also tried with the passphrase that last opened another key. So a signature that works
   proves nothing about what was just typed; PASSWD --verify, which looks into no cache, does.
4. A wrong passphrase given by INQUIRE is kept nowhere.
5. PRESET_PASSPHRASE --inquire reads the answer into the buffer in which the keygrip still stands, so that 22 bytes and
   more are kept under a name that nobody looks up. Blanks before the keygrip move it out of reach.

Hence the order: ``verify``, then ``keep``, which presets, proves it with a signature or a decryption, and clears what
does not work.
"""

from typing import NamedTuple

from unlatch.gnupg.agent import ASK_SECONDS, Agent
from unlatch.gnupg.errors import BadPassphrase, Cancelled, GpgError, NoPinentry, NotFound, NotSupported
from unlatch.gnupg.homes import Home
from unlatch.gnupg.keyring import AgentKey, Certified, HomeKey, join, parse_keyinfo, parse_listing, search_terms, select
from unlatch.gnupg.reading import Unreadable, output_of
from unlatch.secret import Secret

MAX_PASSPHRASE = 255  # bytes; gpg-agent takes no more (agent.h, MAX_PASSPHRASE_LEN)

_LIST = (
    "gpg", "--batch", "--no-tty", "--quiet", "--no-autostart", "--trust-model", "always", "--no-auto-check-trustdb",
    "--with-colons", "--with-keygrip", "--list-keys", "--",
)  # fmt: skip
# No text is known to have this digest, so its signature is worth nothing. 64 bytes are enough for every curve.
_DIGEST = "00" * 64
_COMMENT = b"(7:comment"
# More than an answer can have: 255 bytes, each escaped, and END; it fits into a line of 1000 with all the rest.
_OUT_OF_REACH = " " * 800
# Ciphertexts of nothing for keys that cannot sign: the curve's base point, and a pair of small numbers.
_CANNOT_SIGN = {
    b"Curve25519": b"(7:enc-val(4:ecdh(1:s1:0)(1:e33:@\x09" + bytes(31) + b")))",
    b"X448": b"(7:enc-val(4:ecdh(1:s1:0)(1:e56:\x05" + bytes(55) + b")))",
    b"(3:elg": b"(7:enc-val(3:elg(1:a1:\x02)(1:b1:\x02)))",
}


class NotAllowed(NotSupported):
    """gpg-agent.conf does not allow what is needed. ``option`` is the line that is missing, or stands in the way."""

    def __init__(self, option: str, error: GpgError) -> None:
        super().__init__(error.code, error.text)
        self.option = option


class NotKept(GpgError):
    """The passphrase is right, but the agent asks all the same; what was preset is cleared."""


class Limits(NamedTuple):
    """What gpg-agent.conf says about keeping: seconds, and whether signing asks each time."""

    max_cache_ttl: int = 7200
    ignores_cache_for_signing: bool = False


# Looking


def agent_keys(agent: Agent) -> list[AgentKey]:
    """All secret keys that the agent knows."""
    lines = agent.status("KEYINFO --list --with-ssh --ssh-fpr=sha256")
    keys = (parse_keyinfo(text) for keyword, text in lines if keyword == "KEYINFO")
    return [key for key in keys if key is not None]


def agent_key(agent: Agent, grip: str) -> AgentKey | None:
    """One key by its keygrip; None when the agent does not have it."""
    try:
        lines = agent.status(f"KEYINFO --with-ssh {grip}")
    except NotFound:
        return None
    return next((parse_keyinfo(text) for keyword, text in lines if keyword == "KEYINFO"), None)


def find(agent: Agent, home: Home, whats: tuple[str, ...], *, named: bool = True) -> list[HomeKey]:
    """The keys that these keygrips, fingerprints, key ids and addresses mean; all of them without any.

    Without ``named`` a keygrip is not looked up by gpg, so such a key has no name.

    Raises:
        NotAKey, NoSuchKey: nothing is what ``whats`` names.
        Unreadable: gpg cannot be asked for names.
    """
    known = agent_keys(agent)
    grips = {key.grip for key in known}
    terms: list[str] = []
    for what in whats:
        if named or what.upper() not in grips:
            terms += search_terms(what) or [f"&{key.grip}" for key in known if key.ssh_fingerprint == what]
    certified = certified_keys(home, terms) if terms or not whats else []
    named_grips = {key.grip for key in certified}
    comments = {key.grip: comment(agent, key.grip) for key in known if key.ssh and key.grip not in named_grips}
    keys = join(known, certified, comments)
    if not whats:
        return keys
    chosen = {key.grip for what in whats for key in select(keys, what)}
    return [key for key in keys if key.grip in chosen]


def certified_keys(home: Home, terms: list[str]) -> list[Certified]:
    """What gpg lists for these search terms, or for none: everything.

    Raises:
        Unreadable
    """
    code, said = output_of(home, *_LIST, *terms)
    if code != 0 and not terms and not said:
        raise Unreadable(f"gpg: cannot list the keys of {home.directory}")
    return parse_listing(said.decode("utf-8", "replace"))


def comment(agent: Agent, grip: str) -> str:
    """The comment that ssh-add brought with a key; "" for none."""
    try:
        public = agent.ask(f"READKEY {grip}")
    except GpgError:
        return ""
    _, found, rest = public.partition(_COMMENT)
    length, _, text = rest.partition(b":")
    return text[: int(length)].decode("utf-8", "replace") if found and length.isdigit() else ""


def limits(home: Home) -> Limits:
    """What the agent's configuration says; a running one reads it when it starts and when it is reloaded.

    Raises:
        Unreadable
    """
    code, said = output_of(home, "gpgconf", "--list-options", "gpg-agent")
    if code != 0:
        raise Unreadable("gpgconf: gpg-agent.conf has a mistake")
    rows = (line.split(":") for line in said.decode("utf-8", "replace").splitlines())
    # name, flags, level, description, type, alternative type, argument's name, default, default argument, value
    values = {row[0]: row[9] or row[7] for row in rows if len(row) >= 10}
    ttl = values.get("max-cache-ttl", "")
    return Limits(int(ttl) if ttl.isdigit() else Limits().max_cache_ttl, bool(values.get("ignore-cache-for-signing")))


def check_allowed(agent: Agent) -> None:
    """Whether this agent lets a passphrase be tried and preset. Nothing is asked and nothing changes.

    Raises:
        NotAllowed: its configuration does not.
        Forbidden: this socket does not.
    """
    try:
        agent.ask("PRESET_PASSPHRASE")
    except NotSupported as error:
        raise NotAllowed("allow-preset-passphrase", error) from None
    except GpgError as error:  # it misses the keygrip, as it should
        if type(error) is not GpgError:
            raise
    try:
        agent.ask("OPTION pinentry-mode=loopback")
    except NotSupported as error:
        raise NotAllowed("no-allow-loopback-pinentry", error) from None


# Unlocking and locking


def verify(agent: Agent, grip: str, secret: Secret) -> None:
    """Open the key with this passphrase, past every cache.

    Raises:
        BadPassphrase: it does not open it.
        NotAllowed, Forbidden: as :func:`check_allowed`.
    """
    typed = secret.reveal()
    if not 0 < len(typed) <= MAX_PASSPHRASE or 0 in typed:  # the agent would cut it at a NUL, or take none for it
        raise BadPassphrase(11, "Bad passphrase")
    try:
        agent.ask("OPTION pinentry-mode=loopback")
    except NotSupported as error:
        raise NotAllowed("no-allow-loopback-pinentry", error) from None
    try:
        agent.ask(f"PASSWD --verify {grip}", inquire={"PASSPHRASE": lambda _: secret})
    finally:
        agent.ask("RESET")  # the agent keeps what was verified for two minutes, for this connection alone


def keep(agent: Agent, grip: str, secret: Secret) -> None:
    """Have the agent keep a passphrase that was verified.

    Raises:
        NotKept: it does not help, and is cleared again.
        NotAllowed, Forbidden: as :func:`check_allowed`.
    """
    try:
        agent.ask(f"PRESET_PASSPHRASE --inquire{_OUT_OF_REACH}{grip} -1", inquire={"PASSPHRASE": lambda _: secret})
    except NotSupported as error:
        raise NotAllowed("allow-preset-passphrase", error) from None
    try:
        works = works_unasked(agent, grip)
    except GpgError:
        clear(agent, grip)
        raise
    if not works:
        clear(agent, grip)
        raise NotKept(0, "gpg-agent asks for the passphrase although it has it")


def works_unasked(agent: Agent, grip: str) -> bool:
    """Whether a signature, or for keys that cannot sign a decryption, works now without anybody being asked.

    Raises:
        GpgError: it fails for another reason.
    """
    agent.ask("OPTION pinentry-mode=error")
    try:
        use(agent, grip)
    except (NoPinentry, Cancelled, BadPassphrase):
        return False
    return True


def use(agent: Agent, grip: str, *, seconds: float = ASK_SECONDS) -> None:
    """Have the key make a signature, or a decryption if it cannot sign; asks as the connection's pinentry-mode says.

    Raises:
        GpgError: it cannot be used, or nobody gave the passphrase.
    """
    public = agent.ask(f"READKEY {grip}")
    ciphertext = next((trial for mark, trial in _CANNOT_SIGN.items() if mark in public), None)
    if ciphertext is None:
        agent.ask(f"SIGKEY {grip}")
        agent.ask(f"SETHASH --hash=sha512 {_DIGEST}")
        agent.ask("PKSIGN", seconds=seconds)
    else:
        agent.ask(f"SETKEY {grip}")
        agent.ask("PKDECRYPT", inquire={"CIPHERTEXT": lambda _: ciphertext}, seconds=seconds)


def clear(agent: Agent, grip: str) -> None:
    """Make the agent forget the passphrase of a key, however it got it."""
    agent.ask(f"CLEAR_PASSPHRASE --mode=normal {grip}")
