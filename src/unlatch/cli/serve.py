"""``unlatch serve``: the broker, in the foreground."""

import os

import click

from unlatch.cli import voice
from unlatch.cli.config import summary
from unlatch.config import load


@click.command(
    epilog="""\b
Example:
  $ unlatch serve --config ./unlatch.toml
"""
)
@click.option("--config", "path", metavar="FILE", help="Use this file instead of /etc/unlatch/unlatch.toml and so on.")
@click.option("--system", is_flag=True, help="Be the host's broker, for all its users; systemd gives the sockets.")
def command(path: str | None, system: bool) -> int:
    """Run the broker: hold prompts, ring people, serve the page.

    Nobody needs to run it by hand: where no broker runs, the first prompt of a user starts one, which ends when it is
    idle. At a terminal it prints the links. A broker for the whole host is a systemd unit that runs this command.
    """
    loaded = load(path, os.environ, os.geteuid())
    for mistake in loaded.mistakes:
        voice.tell(f"config: {voice.clean(str(mistake))}")
    if any(mistake.fatal for mistake in loaded.mistakes):
        voice.fail(*summary(loaded))
    from unlatch.broker.main import main

    arguments = [*(["--config", path] if path else []), *(["--system"] if system else [])]
    main(arguments, ready=lambda address: voice.tell(f"waiting for prompts; the page is at {address}"))
    return voice.OK
