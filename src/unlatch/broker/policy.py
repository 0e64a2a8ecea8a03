"""Who may ask, and who is rung for whom: the broker's own rules, as the pending table needs them. Pure.

These rules bind; an asker's own rules do not, because the same uid can always ask by itself.
"""

from typing import NamedTuple

from unlatch.errors import Refused
from unlatch.prompt import Prompt

YES_KINDS = ("confirm", "enrolment")  # prompts whose answer is a yes, so a link alone would be enough to give it
NOBODY = 2**32 - 1  # (uid_t) -1


class Person(NamedTuple):
    """Somebody who is rung. ``users``: names, numeric uids as text, or ``*``; ``notify``: names of notifiers."""

    name: str
    users: tuple[str, ...]
    notify: tuple[str, ...]


class Notifier(NamedTuple):
    """A notifier that works: its name, and whether nobody on the way can read or forge what it carries."""

    name: str
    end_to_end: bool


class Audience(NamedTuple):
    """Who is rung for one prompt: the people's names in one text, and the notifiers that reach them."""

    person: str
    notifiers: tuple[str, ...]


class Policy(NamedTuple):
    """The broker's settings as far as they decide about prompts. Times in seconds.

    ``loopback``: the configuration names neither people nor notifiers. Then every user who may connect is accepted and
    all of ``notifiers`` (the terminal, in the foreground) are rung. Else a user whom no person lists is refused.
    """

    host: str
    public_url: str
    link_seconds: int = 3600
    views: int = 2
    remind_after: int = 0
    quota_open: int = 20
    quota_rings: int = 60
    confirm_by_link: bool = False
    allow_users: tuple[str, ...] = ()
    people: tuple[Person, ...] = ()
    notifiers: tuple[Notifier, ...] = ()
    loopback: bool = True
    overflow_uid: int = 65534

    def admit(self, uid: int, user: str) -> None:
        """Let this user ask at all.

        Raises:
            Refused: "uid" if the kernel could not say who it is, "user" if ``allow_users`` does not name it.
        """
        # user_namespaces(7): a uid without a mapping here shows as the overflow uid, so many users would share it.
        if uid == self.overflow_uid or not 0 <= uid < NOBODY:
            raise Refused("uid", "the asker's user has no identity on this host")
        if self.allow_users and not _names(self.allow_users, uid, user):
            raise Refused("user", "this user may not ask: allow_users does not name it")

    def audience(self, uid: int, user: str, prompt: Prompt, *, own: bool = False) -> Audience:
        """Who is rung for this user's prompt. ``own``: only who is named for this very user, and not for ``*``.

        Raises:
            Refused: "people" if nobody is named for this user, "end-to-end" if no notifier may carry the link.
        """
        people = [person for person in self.people if _names(person.users, uid, user, everybody=not own)]
        if not people and (own or not self.loopback):
            raise Refused("people", "no person is named for this user")
        wanted = {name for person in people for name in person.notify}
        reach = [notifier for notifier in self.notifiers if self.loopback or notifier.name in wanted]
        if prompt.kind in YES_KINDS and not prompt.digits and not self.confirm_by_link:
            safe = [notifier for notifier in reach if notifier.end_to_end]
            if people and not safe:
                raise Refused("end-to-end", "no end-to-end notifier may carry the link to a yes")
            reach = safe
        names = ", ".join(person.name for person in people)
        return Audience(names, tuple(notifier.name for notifier in reach))


def _names(users: tuple[str, ...], uid: int, user: str, *, everybody: bool = True) -> bool:
    return any(name in (user, str(uid)) or (name == "*" and everybody) for name in users)
