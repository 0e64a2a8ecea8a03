"""Who may use sudo, as far as its files name accounts and groups: enough to know whom a line for sudo is about."""

import re
from collections.abc import Iterable

_ALIAS = "User_Alias"


def named(texts: Iterable[str]) -> frozenset[str]:
    """The accounts, ``%group`` and ``ALL`` that rules of sudoers(5) are about, without those that let off the password:
    who has such a one is asked nothing. Pure.
    """
    words: set[str] = set()
    for text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            rule = line.partition("#")[0].strip()
            users, equals, rest = rule.partition("=")
            if not equals or "NOPASSWD" in rule or rule.startswith("Defaults"):
                continue
            # An alias has its accounts behind the sign; a rule before it, and then its hosts.
            found = _split(rest) if users.startswith(_ALIAS) else _split(users)[:-1]
            words.update(found)
    return frozenset(words)


def may(name: str, gid: str, words: frozenset[str], group: str) -> bool:
    """Whether they are about an account, by its groups in ``group``, a text as group(5) has it. Pure."""
    rows = (line.split(":") for line in group.splitlines())
    own = {f"%{row[0]}" for row in rows if len(row) == 4 and (row[2] == gid or name in row[3].split(","))}
    return bool(words & {name, "ALL", *own})


def _split(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]
