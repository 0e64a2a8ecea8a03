"""The few things that only a person knows, asked in the order in which they matter; what is settled is not asked."""

import os
import pwd
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from unlatch import settings
from unlatch.doctor.check import Situation
from unlatch.doctor.host.interfaces import container_networks
from unlatch.setup import new_notifiers, proxy_step
from unlatch.setup.config_step import Secret
from unlatch.setup.new_notifiers import NewNotifier
from unlatch.setup.places import Places
from unlatch.setup.questions import Questions
from unlatch.setup.wishes import Decisions, Wishes

MOST_HOURS = 8760  # a year
_NONE = ("", "none")
_T = TypeVar("_T")


class Present(NamedTuple):
    """What is there already: the keys of unlatch.toml (None without a file) and the options of gpg-agent.conf;
    ``units``: enabled at boot; ``page``: whose group opens the page's socket is settled.
    """

    config: dict[str, Any] | None
    agent: dict[str, str]
    units: bool
    page: bool


class Interview:
    """One run of questions."""

    def __init__(self, wishes: Wishes, places: Places, present: Present, questions: Questions) -> None:
        self._wishes = wishes
        self._places = places
        self._present = present
        self._questions = questions
        self._config = present.config or {}

    def decide(self, situation: Situation) -> Decisions:
        """Everything that is to be decided.

        Raises:
            ValueError: an option says what cannot be; its text begins with the option.
            Problem: nobody can be asked, and something is missing.
        """
        if self._places.scope == "guest":
            self._refuse_hosts_options()
            decided = Decisions(cache_hours=self._cache_hours(situation))
        else:
            url = self._public_url()
            proxy = self._proxy(url or str(self._config.get("public_url", "")))
            reload = self._reload(proxy)
            notifiers, secrets = self._notifiers()
            units = self._units()
            decided = Decisions(
                url, self._person(notifiers), notifiers, secrets, proxy, self._cache_hours(situation), units,
                container_networks() if self._wishes.containers else (), reload,
            )  # fmt: skip
        self._questions.check()
        return decided

    def _refuse_hosts_options(self) -> None:
        wishes = self._wishes
        for name, given in {
            "--public-url": wishes.public_url is not None,
            "--notify": bool(wishes.notify),
            "--person": wishes.person is not None,
            "--proxy": wishes.proxy is not None,
            "--units": wishes.units is not None,
            "--containers": wishes.containers,
        }.items():
            if given:
                raise ValueError(f"{name}: this host has a broker of its own, which root sets up")

    def _public_url(self) -> str:
        chosen = self._wishes.public_url
        if chosen is not None:
            return _option("--public-url", lambda: _read_url(chosen))
        if self._present.config is not None:  # a file that names none means that there is none
            return ""
        why = (
            "A link has to lead from the phone to this host: at which https:// address, through a proxy of yours? "
            'Without one, links work on this machine only, and you answer by ssh with "unlatch answer".'
        )
        return self._questions.ask("--public-url URL", why, "public address", _read_url, "") or ""

    def _notifiers(self) -> tuple[tuple[NewNotifier, ...], tuple[Secret, ...]]:
        wanted = _option("--notify", lambda: [new_notifiers.split(text) for text in self._wishes.notify])
        # A file without notifiers may be meant so; at a terminal it costs nothing to ask again.
        meant = self._present.config is not None and not self._questions.can_ask
        if not wanted and "notify" not in self._config and not meant:
            why = (
                "How are you rung? One or several of:\n"
                "  ntfy      an app for the phone that needs no account\n"
                "  matrix    end-to-end encrypted; needs an account for this host\n"
                "  apprise   mail, Telegram and a hundred more\n"
                "  command   a program of yours\n"
                '  terminal  only where "unlatch serve" runs\n'
                '  none      not at all: you look with "unlatch answer"'
            )
            default = "ntfy" if self._present.config is None else "none"
            wanted = self._questions.ask("--notify KIND", why, "notifiers", _read_kinds, default) or []
        made = [self._notifier(kind, value) for kind, value in wanted if kind != "none"]
        secrets = tuple(secret for _, secret in made if secret is not None)
        return tuple(notifier for notifier, _ in made if notifier is not None), secrets

    def _notifier(self, kind: str, value: str) -> tuple[NewNotifier | None, Secret | None]:
        option = f"--notify {kind}"
        if value or kind not in new_notifiers.NEEDS_VALUE:
            return _option(option, lambda: new_notifiers.make(kind, value)), None
        if kind == "apprise":
            return self._apprise()
        why = {
            "ntfy": "ntfy: the topic that your phone subscribes to. Whoever knows its name, and who runs its server, "
            "can open the question that a link leads to; the answer they never see.",
            "command": "The program gets each message on standard input (docs/notifiers/command.md).",
        }[kind]
        question, default = (
            ("program", None) if kind == "command" else ("topic", f"https://ntfy.sh/{new_notifiers.new_topic()}")
        )
        asked = self._questions.ask(
            f"{option}=VALUE", why, question, lambda text: new_notifiers.make(kind, text), default
        )
        return asked, None

    def _apprise(self) -> tuple[NewNotifier | None, Secret | None]:
        path = f"{os.path.dirname(self._places.config)}/apprise.url"
        if not os.path.exists(path):
            why = f"The Apprise URL is a secret: it is kept in {path}, and not shown."
            typed = self._questions.ask_secret("--notify apprise=FILE", why, "Apprise URL")
            if typed is None:
                return None, None
            content = bytes(typed.reveal())
            typed.wipe()
            if refusal := settings.apprise_refusal(content.decode("utf-8", "replace")):
                raise ValueError(f"--notify apprise: {refusal}")
            group = "unlatch" if self._places.scope == "host" and self._units() else ""
            return NewNotifier("apprise", {"apprise_file": path}), Secret(path, content + b"\n", group)
        return _option("--notify apprise", lambda: new_notifiers.make("apprise", path)), None

    def _person(self, notifiers: tuple[NewNotifier, ...]) -> str:
        chosen = self._wishes.person
        if chosen is not None:
            return _option("--person", lambda: _read_person(chosen))
        people = self._config.get("people", {})
        if not notifiers:
            return ""
        if len(people) == 1:
            return str(next(iter(people)))
        why = "Who is it that is rung? Any short name; it stands in unlatch.toml and in the log."
        known = f" There are: {', '.join(people)}." if people else ""
        return self._questions.ask("--person NAME", why + known, "name", _read_person, _login()) or ""

    def _units(self) -> bool:
        if self._wishes.units is not None:
            return self._wishes.units
        return self._present.units or self._places.scope == "host"

    def _proxy(self, url: str) -> str:
        chosen = self._wishes.proxy
        if chosen is not None:
            if chosen != "none" and not is_public(url):
                raise ValueError("--proxy: there is no public address for it to serve; add --public-url")
            return "" if chosen == "none" else chosen
        if not is_public(url) or self._present.page:
            return ""
        there = proxy_step.installed()
        why = (
            f"Which proxy on this host serves {url}? none: it is another machine, or you configure it "
            'yourself (docs/installation.md, "One proxy for many hosts").'
        )
        return self._questions.ask("--proxy KIND", why, "caddy, nginx or none", _read_proxy, (*there, "none")[0]) or ""

    def _reload(self, proxy: str) -> bool:
        if self._wishes.reload_proxy is not None or proxy != "caddy" or self._places.scope != "host":
            return bool(self._wishes.reload_proxy)
        if not os.path.exists(self._places.manager) or not self._questions.can_ask:
            return False
        return self._questions.agree("--reload-proxy", "May setup reload Caddy, when its configuration was checked?")

    def _cache_hours(self, situation: Situation) -> int:
        if self._wishes.cache_hours is not None:
            return self._wishes.cache_hours
        if {"default-cache-ttl", "max-cache-ttl"} & self._present.agent.keys():
            return 0
        why = (
            f"For how many hours may {situation.user}'s gpg-agent keep an answer? GnuPG's own limits are 10 minutes "
            "after the last use and 2 hours in all: then the next use rings again. 0 leaves them."
        )
        return self._questions.ask("--cache-hours N", why, "hours", _read_hours, "8") or 0


def is_public(url: str) -> bool:
    """Whether people open this address from elsewhere, and so through a proxy."""
    match = re.match(r"https?://(\[[^\]]*\]|[^/:]*)", url)
    return match is not None and not settings.is_loopback(match[1])


def _option(name: str, read: Callable[[], _T]) -> _T:
    """What an option says; a mistake is told with its name."""
    try:
        return read()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _read_url(text: str) -> str:
    if text in _NONE:
        return ""
    try:
        return settings.public_url(text)
    except settings.Unacceptable as refusal:
        raise ValueError(str(refusal) or f"accepted: {settings.TOP['public_url'].accepts}") from None


def _read_kinds(text: str) -> list[tuple[str, str]]:
    return [new_notifiers.split(word) for word in re.split(r"[\s,]+", text.strip())]


def _read_person(text: str) -> str:
    if not (1 <= len(text) <= 64 and text.isprintable()):
        raise ValueError("accepted: 1 to 64 printable characters")
    return text


def _read_proxy(text: str) -> str:
    if text not in ("caddy", "nginx", "none"):
        raise ValueError("accepted: caddy, nginx, none")
    return "" if text == "none" else text


def _read_hours(text: str) -> int:
    if not re.match(r"[0-9]{1,4}\Z", text) or int(text) > MOST_HOURS:
        raise ValueError(f"accepted: a whole number from 0 to {MOST_HOURS}")
    return int(text)


def _login() -> str:
    """Who sits there, also behind sudo."""
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "admin"
