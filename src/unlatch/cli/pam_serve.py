"""``unlatch pam serve``: the service behind ``pam_unlatch.so``, in the foreground."""

import os

import click

from unlatch.cli import voice
from unlatch.config import load


@click.command(
    epilog="""\b
Example:
  # unlatch pam serve --socket /run/unlatch-pam/pam.sock
"""
)
@click.option("--config", "path", metavar="FILE", help="Use this file instead of /etc/unlatch/unlatch.toml and so on.")
@click.option("--socket", "listen", metavar="PATH", help="Listen there; systemd gives the socket otherwise.")
def command(path: str | None, listen: str | None) -> int:
    """Answer the logins that pam_unlatch.so brings. One line of each goes to the log.

    Nobody needs to run it by hand: the unit unlatch-pam.socket starts it with the first login. The configuration is
    read anew for each login; while it has mistakes, nobody is let in.
    """
    if os.geteuid() != 0:
        voice.fail("only root can answer for the logins of others", "sudo unlatch pam serve ...")
    from unlatch.pam import service
    from unlatch.pam.conversation import House

    listener = service.listen(listen) if listen else service.inherited(os.environ)
    if listener is None:
        voice.fail(
            "systemd gave no socket that packets can come through",
            'run "systemctl start unlatch-pam.socket", or name a socket: unlatch pam serve --socket PATH',
        )
    for mistake in load(path, os.environ, os.geteuid()).mistakes:
        voice.tell(f"config: {voice.clean(str(mistake))}")
    service.main(listener, House(path, dict(os.environ)), ready=lambda: voice.tell("waiting for logins"))
    return voice.OK
