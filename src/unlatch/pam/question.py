"""What a person is asked about a login: for a yes, or for the response to a challenge. Pure."""

import time

from unlatch.broker.notice import plain
from unlatch.pam import qr
from unlatch.pam.challenge import Facts
from unlatch.prompt import MAX_TEXT, AskerInfo, Prompt

_MAX_TITLE = 120


def approval(facts: Facts, words: tuple[str, str]) -> Prompt:
    """The question behind an approval: who logs in where, by what and from where, each on a line."""
    rows = [
        ("User", facts.user),
        ("Host", facts.host),
        ("Service", facts.service),
        ("From", facts.source or "this host"),
        ("Time", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(facts.at))),
    ]
    text = "\n".join(f"{name}: {plain(value, 300)}" for name, value in rows)
    advice = "Say yes only to a login that you are making yourself, right now."
    return _prompt("confirm", facts, words)._replace(text=f"{text}\n\n{advice}", digits=True)


def challenge(facts: Facts, armour: str, words: tuple[str, str]) -> Prompt:
    """The question behind a challenge on the broker's page: the message to decrypt, also as a QR code."""
    code = qr.modules(armour.strip())
    packed = qr.packed(code) if code else ""
    return _prompt("challenge", facts, words)._replace(text=armour, qr=packed if len(packed) <= MAX_TEXT else "")


def _prompt(kind: str, facts: Facts, words: tuple[str, str]) -> Prompt:
    service = plain(facts.service, 40)
    where = f", from {facts.source}" if facts.source else ""
    return Prompt(
        kind=kind,
        title=plain(f"Login of {plain(facts.user, 40)} by {service}{where}", _MAX_TITLE),
        words=words,
        asked=max(0, facts.at),
        asker=AskerInfo(command=f"unlatch pam ({service})"),
    )
