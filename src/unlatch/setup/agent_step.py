"""The step in one user's GnuPG home: gpg-agent.conf names our pinentry, and the running agent learns of it."""

from unlatch.doctor.check import Situation
from unlatch.errors import UnlatchError
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import NoAgent, TwoAgents
from unlatch.gnupg.homes import Home
from unlatch.setup import agent_conf, pinentry_program
from unlatch.setup.changes import AGENT, Change
from unlatch.setup.files import FileState, NotPlain
from unlatch.setup.hands import Hands
from unlatch.setup.steps import Effect, Step
from unlatch.setup.target import home_of

CONF = "gpg-agent.conf"


class BadPinentry(UnlatchError):
    """gpg-agent could not start the pinentry; ``why`` is printable."""

    def __init__(self, path: str, user: str, why: str) -> None:
        super().__init__(f"{user} cannot use {path}: {why}")
        self.path = path
        self.why = why


class NotTheirs(UnlatchError):
    """A file or directory in the user's GnuPG home belongs to somebody else."""

    def __init__(self, path: str, user: str) -> None:
        super().__init__(f"{path} does not belong to {user}")
        self.path = path


def wanted_options(pinentry: str, cache_hours: int, present: dict[str, str]) -> dict[str, str]:
    """What the file shall say. ``cache_hours``: an answer is good for so long, at most; 0 leaves that as it is."""
    wanted = {"pinentry-program": pinentry}
    if cache_hours:
        # Both: the first is counted from the last use and the second from the answer, and each has a low default.
        names = ["default-cache-ttl", "max-cache-ttl"]
        if "enable-ssh-support" in present:
            names += [f"{name}-ssh" for name in names]
        wanted |= dict.fromkeys(names, str(cache_hours * 3600))
    return wanted


def look(hands: Hands, situation: Situation) -> tuple[FileState, FileState]:
    """The GnuPG home, and its gpg-agent.conf.

    Raises:
        NotTheirs, NotPlain, OSError
    """
    directory = hands.look(situation.gnupghome)
    conf = hands.look(f"{situation.gnupghome}/{CONF}")
    if directory.kind == "file":
        raise NotPlain(situation.gnupghome, "not a directory")
    if conf.kind == "directory":
        raise NotPlain(f"{situation.gnupghome}/{CONF}", "not a regular file")
    for state, path in ((directory, situation.gnupghome), (conf, f"{situation.gnupghome}/{CONF}")):
        # Root's own hands could write there too, and then gpg would refuse to; of the file, undoing could not give back
        # the owner.
        if state.kind != "absent" and state.uid != situation.uid:
            raise NotTheirs(path, situation.user)
    return directory, conf


def check_pinentry(hands: Hands, situation: Situation, path: str) -> None:
    """See that this user's agent could start it.

    Raises:
        BadPinentry
    """
    if why := hands.do(lambda: pinentry_program.fault(path, situation.environ).encode()).decode("utf-8", "replace"):
        raise BadPinentry(path, situation.user, why)


def plan(hands: Hands, situation: Situation, wanted: dict[str, str]) -> Step:
    """What has to be done in this home.

    Raises:
        NotTheirs, NotPlain, OSError
        ValueError: the file, or a wanted value, is nothing that gpg-agent reads.
    """
    directory, conf = look(hands, situation)
    path = f"{situation.gnupghome}/{CONF}"
    changes = []
    if directory.kind == "absent":
        made = FileState("directory", b"", 0o700, situation.uid, situation.gid)  # as gpg makes it
        changes.append(Change(situation.gnupghome, directory, made, hands.user))
    text = agent_conf.edit(conf.data, wanted)
    if text != conf.data or conf.kind == "absent":
        after = conf._replace(data=text) if conf.kind == "file" else FileState("file", text, 0o600)
        changes.append(Change(path, conf, after, hands.user, AGENT))
    effects = (reload_effect(hands, situation),) if changes else ()
    return Step("gpg-agent", _says(situation, wanted), tuple(changes), effects, (), "", hands, situation.gnupghome)


def _says(situation: Situation, wanted: dict[str, str]) -> str:
    kept = int(wanted.get("max-cache-ttl", 0)) // 3600
    good = f"; an answer is good for {kept} h at most" if kept else ""
    return f"{situation.user}'s GnuPG asks through {wanted['pinentry-program']}{good}"


def reload_effect(hands: Hands, situation: Situation) -> Effect:
    """The running agent reads its file again."""
    text = f"{situation.user}'s gpg-agent reads it anew, and forgets every passphrase that it keeps"
    return Effect(text, lambda _: reload(hands, situation))


def reload(hands: Hands, situation: Situation) -> None:
    """Tell every agent of this home, started by nobody. Our own client, as ``gpgconf --reload`` reaches one of two."""
    home = home_of(situation)
    hands.do(lambda: _reload(home))


def _reload(home: Home) -> bytes:
    try:
        with Agent.open(home, start=False) as agent:
            agent.ask("RELOADAGENT")
    except NoAgent:
        pass  # the next one reads the file when it starts
    except TwoAgents as two:
        for live in (two.right, two.wrong):
            with Agent.at(live.socket, home.uid) as agent:
                agent.ask("RELOADAGENT")
    return b""
