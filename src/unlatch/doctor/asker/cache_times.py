"""How long gpg-agent keeps a passphrase. With the defaults, unattended jobs fail "after an hour"."""

from typing import NamedTuple

from unlatch.cli.voice import duration
from unlatch.doctor.asker import conf
from unlatch.doctor.check import Check, Finding, Situation, ok, problem, warning

AFTER_USE, AT_MOST = "default-cache-ttl", "max-cache-ttl"
DEFAULTS = {AFTER_USE: 600, AT_MOST: 7200}  # seconds; gpg-agent(1)


class Facts(NamedTuple):
    """What the file says for each of the two, as it stands there; None when it says nothing."""

    after_use: str | None
    at_most: str | None


def probe(situation: Situation) -> Facts:
    """Read the lines."""
    options = conf.read(situation).options
    return Facts(options.get(AFTER_USE), options.get(AT_MOST))


def judge(facts: Facts, situation: Situation) -> Finding:
    """Both count: the one since the last use, the other since the answer, however often the key is used."""
    seconds = {}
    raise_them = conf.setup(situation, "--cache-hours", "24")
    for name, said in ((AFTER_USE, facts.after_use), (AT_MOST, facts.at_most)):
        if said is not None and not (said.isascii() and said.isdigit()):
            return problem(f'{name} is "{said}", which is no number of seconds', raise_them)
        seconds[name] = DEFAULTS[name] if said is None else int(said)
    after_use, at_most = min(seconds.values()), seconds[AT_MOST]
    text = f"a passphrase is kept {duration(after_use)} after its last use, {duration(at_most)} at most"
    if after_use <= DEFAULTS[AFTER_USE] or at_most <= DEFAULTS[AT_MOST]:
        return warning(f"{text}; then somebody is rung again ({AFTER_USE}, {AT_MOST})", raise_them)
    return ok(text)


CACHE_TIMES = Check(
    "cache-times",
    "gpg-agent keeps passphrases for longer than its defaults, 10 minutes after the last use and 2 hours at most",
    "`unlatch setup --cache-hours 24`; or lines such as `default-cache-ttl 28800` and `max-cache-ttl 86400` in "
    "gpg-agent.conf, then `gpgconf --reload gpg-agent`. If you want to be asked that often, ignore it",
    Facts,
    probe,
    judge,
)
