"""``unlatch systemd-agent``: answers what systemd-ask-password(1) asks, from a person's phone."""

import os
import signal
from collections.abc import Sequence

import click

from unlatch.cli import persons, voice
from unlatch.frontends.systemd_agent import Agent, Place, place_of


@click.command(
    name="systemd-agent",
    short_help="Answer systemd's password questions from the phone.",
    epilog="""\b
Examples:
  $ systemctl enable --now unlatch-systemd-agent.path
  $ unlatch systemd-agent --id 'cryptsetup:*'
""",
)
@click.option("--id", "ids", multiple=True, metavar="GLOB", help="Only questions with such an Id; may be repeated.")
@click.option("--directory", default="", metavar="DIR", help="Where the questions are, if not where systemd puts them.")
def command(ids: Sequence[str], directory: str) -> int:
    """Answer the questions of systemd-ask-password: volumes, TLS keys of services, whatever else uses it.

    As root it watches /run/systemd/ask-password, as a user $XDG_RUNTIME_DIR/systemd/ask-password. A question that
    somebody else answers first is withdrawn here.
    """
    uid = os.geteuid()
    place = place_of(uid, os.environ)
    if directory:
        place = Place(directory, uid)
    choice = persons.Choice(False, False, "", 0)
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing)
    agent = Agent(
        place,
        tuple(ids),
        lambda moot: persons.person(choice, "unlatch systemd-agent", moot=moot),
        lambda text: voice.tell(voice.clean(text)),
    )
    agent.serve(lambda: _ready(place), reading)
    return voice.OK


def _ready(place: Place) -> None:
    from unlatch.broker.systemd import tell

    tell(os.environ, "READY=1")
    voice.tell(f"watching {voice.clean(place.directory)}")
