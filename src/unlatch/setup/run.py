"""One run of setup: look and ask, plan everything, show the plan, and only then do it, step by step."""

import os
import tomllib
from collections.abc import Mapping
from typing import NamedTuple

from unlatch import config
from unlatch.cli import voice
from unlatch.doctor.check import Situation
from unlatch.errors import BadConfig
from unlatch.settings import Settings, Tcp, Unix
from unlatch.setup import (
    agent_conf,
    agent_step,
    broker_end,
    config_step,
    files,
    interview,
    performing,
    program_paths,
    proxy_step,
    showing,
    snippets,
)
from unlatch.setup import units_step as units
from unlatch.setup.changes import BROKER, SYSTEMD
from unlatch.setup.hands import hands_for
from unlatch.setup.interview import Interview, Present
from unlatch.setup.journal import Journal
from unlatch.setup.places import Places
from unlatch.setup.questions import WIDTH, Questions
from unlatch.setup.steps import Step
from unlatch.setup.wishes import Decisions, Wishes


class Scene(NamedTuple):
    """Where setup runs: whose GnuPG, where everything is, in which environment."""

    situation: Situation
    places: Places
    environ: Mapping[str, str]


class Outcome(NamedTuple):
    """What came of it. ``changed``: something was done; ``settings`` are the broker's from now on."""

    changed: bool
    settings: Settings
    notifiers: tuple[str, ...]  # the kinds that were asked for
    units: bool


class Setup:
    """Set up one user's GnuPG, and a broker to ask through."""

    def __init__(self, scene: Scene, wishes: Wishes, questions: Questions) -> None:
        """Look at everything that could be in the way, before anything is asked.

        Raises:
            BadConfig, agent_step.BadPinentry, agent_step.NotTheirs, files.NotPlain, program_paths.NotInstalled, OSError
        """
        self._situation, self._places, self._environ = scene
        self._wishes = wishes
        self._questions = questions
        self._hands = hands_for(self._situation)
        self._pinentry = program_paths.find("pinentry-unlatch")
        agent_step.check_pinentry(self._hands, self._situation, self._pinentry)
        _, self._conf = agent_step.look(self._hands, self._situation)
        self._config = files.look(self._places.config)
        if self._config.kind == "file":
            loaded = config.load(self._places.config, self._environ, self._situation.caller)
            if loaded.mistakes:
                raise BadConfig([str(mistake) for mistake in loaded.mistakes])

    def run(self) -> Outcome:
        """Ask, show, do.

        Raises:
            ValueError: an option says what cannot be.
            UnlatchError, OSError: a step cannot be planned, or failed.
        """
        decisions = self._interview().decide(self._situation)
        merged = self._merged(decisions)
        settings = config_step.check(self._places.config, merged.text, self._environ, self._situation.caller)
        steps = self._plan(decisions, merged, settings)
        kinds = tuple(notifier.name for notifier in decisions.notifiers)
        if not self._agreed(steps):
            return Outcome(False, settings, kinds, decisions.units)
        journal = Journal(self._places.journal)
        with journal.held():
            performing.perform(steps, journal)
        return Outcome(True, settings, kinds, decisions.units)

    def _agreed(self, steps: list[Step]) -> bool:
        """Show what there is to do; whether it is to be done now."""
        dry, idle = self._wishes.dry_run, all(step.idle for step in steps)
        out = voice.say if dry else voice.tell_plainly
        if self._questions.can_ask and not dry:
            out("")
        for line in showing.lines(steps, whole=dry, width=min(voice.width(), WIDTH)):
            out(line)
        if idle:
            voice.say("nothing to do")
        if idle or dry:
            return False
        if not self._wishes.yes and not self._questions.agree("--yes", "Do this?"):
            self._questions.check()
            voice.fail("nothing was changed")
        return True

    def _interview(self) -> Interview:
        there = tomllib.loads(self._config.data.decode())
        present = Present(
            there if self._config.kind == "file" else None,
            agent_conf.values(self._conf.data),
            units=units.at_boot(self._places),
            page=os.path.exists(self._places.socket_drop_in) or "listen" in there,
        )
        return Interview(self._wishes, self._places, present, self._questions)

    def _merged(self, decisions: Decisions) -> config_step.Merged:
        text = self._config.data.decode()
        there = tomllib.loads(text)
        # A user's own broker comes and goes, so a page behind a proxy is at a socket that nobody else can take, in a
        # directory that root has made for it.
        behind_proxy = interview.is_public(decisions.public_url or str(there.get("public_url", "")))
        own_page = behind_proxy and self._places.scope == "own" and "listen" not in there
        return config_step.merge(
            text,
            config_step.Wanted(
                decisions.public_url,
                f"unix:/srv/unlatch-{self._situation.user}/page.sock" if own_page else "",
                decisions.person,
                decisions.notifiers,
                tuple(network.network for network in decisions.networks),
            ),
        )

    def _plan(self, decisions: Decisions, merged: config_step.Merged, settings: Settings) -> list[Step]:
        wanted = agent_step.wanted_options(self._pinentry, decisions.cache_hours, agent_conf.values(self._conf.data))
        agent = agent_step.plan(self._hands, self._situation, wanted)
        if self._places.scope == "guest":
            return [agent]
        steps = [self._plan_config(decisions, merged, settings)]
        if decisions.units:
            steps.insert(0, units.plan_files(self._places, program_paths.find("unlatch")))
        if decisions.proxy:
            steps.append(self._plan_proxy(decisions, settings))
        if decisions.units:
            steps.append(self._plan_start(decisions, steps))
        return [*steps, agent]

    def _plan_config(self, decisions: Decisions, merged: config_step.Merged, settings: Settings) -> Step:
        caller = self._situation.caller
        step = config_step.plan(self._places.config, self._config, merged, decisions.secrets, self._environ, caller)
        notes = list(step.notes)
        if step.changes:
            notes += [notifier.note for notifier in decisions.notifiers if notifier.note]
        notes += self._unserved(settings)
        folder = os.path.dirname(settings.listen.path) if isinstance(settings.listen, Unix) else ""
        if folder and self._places.scope == "own" and not os.path.isdir(folder):
            group = proxy_step.group_of(decisions.proxy, self._places) if decisions.proxy else "GROUP-OF-THE-PROXY"
            notes.append(
                "root makes the directory for the page's socket:\n"
                f"$ install -d -o {self._situation.user} -g {group} -m 2750 {folder}"
            )
        if decisions.networks:
            notes.append(
                "a container's published port makes every client look as if it came from the container's network: "
                "then the log and the page's checks see the proxy's address for everybody"
            )
        elif self._wishes.containers:
            notes.append("no network of containers was found on this host")
        effects = step.effects
        if step.changes and not decisions.units:
            effects = (*effects, *broker_end.effects())
        return step._replace(notes=tuple(notes), effects=effects)

    def _unserved(self, settings: Settings) -> list[str]:
        """Would this user be refused by the broker?"""
        names = {self._situation.user, str(self._situation.uid), "*"}
        if settings.allow_users and not names & set(settings.allow_users):
            return [f"allow_users does not name {self._situation.user}: this user is refused"]
        if settings.people and not any(names & set(person.users) for person in settings.people):
            return [f'nobody is rung for {self._situation.user}: add this user to "users" of a [people.NAME] table']
        return []

    def _plan_proxy(self, decisions: Decisions, settings: Settings) -> Step:
        host = self._places.scope == "host" and decisions.units
        place: Tcp | Unix = Unix(self._places.page) if host else settings.listen
        return proxy_step.plan(
            decisions.proxy,
            snippets.page_at(settings.public_url, place),
            self._places,
            group=proxy_step.group_of(decisions.proxy, self._places) if host else "",
            reload=decisions.reload_proxy,
        )

    def _plan_start(self, decisions: Decisions, steps: list[Step]) -> Step:
        told = [change for step in steps for change in step.changes]
        drop_in = self._places.socket_drop_in
        news = units.News(
            units=any(change.tells == SYSTEMD and change.path != drop_in for change in told),
            page=any(change.path == drop_in for change in told),
            settings=any(change.tells == BROKER for change in told),
        )
        page = self._places.scope == "host" and (bool(decisions.proxy) or os.path.exists(drop_in))
        return units.plan_start(self._places, page=page, news=news)
