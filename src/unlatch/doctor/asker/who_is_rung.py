"""The broker would take this user's prompts, and ring somebody for them."""

from typing import NamedTuple

from unlatch import config
from unlatch.broker.policy import Notifier, Person, Policy
from unlatch.doctor.check import Check, Finding, Situation, command, ok, problem, warning
from unlatch.errors import Refused
from unlatch.prompt import Prompt
from unlatch.settings import Settings


class Facts(NamedTuple):
    """Who is rung, by which notifiers; or why not, as the broker would say it.

    ``nobody``: the configuration names neither people nor notifiers. ``path`` is its file, "" for the defaults.
    """

    path: str
    person: str
    notifiers: tuple[str, ...]
    why: str
    text: str
    nobody: bool


def probe(situation: Situation) -> Facts:
    """Decide as the broker would, by the same file."""
    loaded = config.load(None, situation.environ, situation.uid)
    settings = loaded.settings
    fatal = next((mistake for mistake in loaded.mistakes if mistake.fatal), None)
    nobody = not settings.people and not settings.notifiers
    if fatal is not None:
        return Facts(loaded.path, "", (), "config", str(fatal)[:1000], nobody)
    policy = _policy(settings)
    try:
        policy.admit(situation.uid, situation.user)
        audience = policy.audience(situation.uid, situation.user, _PROMPT)
    except Refused as refused:
        return Facts(loaded.path, "", (), refused.why, refused.text, nobody)
    return Facts(loaded.path, audience.person, audience.notifiers, "", "", nobody)


_PROMPT = Prompt(kind="passphrase", title="", text="", words=("", ""), asked=0)


def _policy(settings: Settings) -> Policy:
    return Policy(
        host="",
        public_url=settings.public_url,
        allow_users=settings.allow_users,
        people=tuple(Person(*person) for person in settings.people),
        notifiers=tuple(Notifier(each.name, each.end_to_end) for each in settings.notifiers),
        loopback=not settings.people and not settings.notifiers,
    )


def judge(facts: Facts, situation: Situation) -> Finding:
    """Say who is rung, so that the wrong person is noticed before the night."""
    edit = situation.edit(facts.path or "/etc/unlatch/unlatch.toml")
    if facts.why == "config":
        return problem(f"the broker cannot work with its file: {facts.text}", command("unlatch", "config", "check"))
    if facts.why:
        reason = {
            "people": f'no [people.NAME] of {facts.path} has {situation.user} or "*" among its users',
            "user": f"allow_users in {facts.path} does not name {situation.user}",
        }
        return problem(f"every prompt of {situation.user} is refused: {reason.get(facts.why, facts.text)}", edit)
    if facts.nobody or not facts.notifiers:
        who = f"{facts.person} has no notifier" if facts.person else "nobody is named in unlatch.toml"
        text = f'{who}: prompts of {situation.user} wait for "unlatch answer", and ring nobody'
        return warning(text, _name_somebody(situation, facts.path))
    return ok(f"{facts.person} is rung for {situation.user}, by {', '.join(facts.notifiers)}")


def _name_somebody(situation: Situation, path: str) -> str:
    """Make the file, or change it."""
    return situation.edit(path) if path else situation.as_root("unlatch", "setup")


WHO_IS_RUNG = Check(
    "who-is-rung",
    "the broker accepts prompts of the asking user (`allow_users`), and rings somebody for them (`[people.NAME]`); it "
    "says who is rung for whom",
    "add the user to `users` of a `[people.NAME]` table, or to `allow_users`, in unlatch.toml",
    Facts,
    probe,
    judge,
)
