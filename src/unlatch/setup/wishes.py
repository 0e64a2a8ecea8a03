"""What the command line of ``unlatch setup`` says, and what is decided when all questions are answered."""

from typing import NamedTuple

from unlatch.doctor.host.interfaces import Network
from unlatch.setup.config_step import Secret
from unlatch.setup.new_notifiers import NewNotifier


class Wishes(NamedTuple):
    """The command line; None is what it leaves open."""

    user: str | None = None
    gnupghome: str | None = None
    public_url: str | None = None
    person: str | None = None
    notify: tuple[str, ...] = ()
    proxy: str | None = None
    cache_hours: int | None = None
    units: bool | None = None
    containers: bool = False
    reload_proxy: bool | None = None
    ring: bool | None = None
    yes: bool = False
    dry_run: bool = False


class Decisions(NamedTuple):
    """What is to be. An empty public address, person, proxy, and no hours: as it is now."""

    public_url: str = ""
    person: str = ""
    notifiers: tuple[NewNotifier, ...] = ()
    secrets: tuple[Secret, ...] = ()
    proxy: str = ""
    cache_hours: int = 0
    units: bool = False
    networks: tuple[Network, ...] = ()
    reload_proxy: bool = False
