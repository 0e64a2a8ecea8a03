"""``unlatch setup``: from an installed package to the first ring, and back."""

import os

import click

from unlatch.secret import forbid_core_dumps

_KINDS = "ntfy, apprise, command, matrix, terminal, none"


@click.command(
    short_help="Set everything up and ring; or take it back.",
    epilog="""\b
Examples, for your own GnuPG, and as root for the services of the user api:
  $ unlatch setup --dry-run
  # unlatch setup --user api
  # unlatch setup --undo
""",
)
@click.option("--user", metavar="USER", help="Whose GnuPG asks from now on; for root.")
@click.option("--gnupghome", metavar="DIR", help="The GnuPG home.  [default: $GNUPGHOME, else the user's ~/.gnupg]")
@click.option("--public-url", metavar="URL", help='Where people open links, or "none".')
@click.option("--notify", metavar="KIND[=VALUE]", multiple=True, help=f"How they are rung: {_KINDS}. May be repeated.")
@click.option("--person", metavar="NAME", help="Who is rung.")
@click.option("--proxy", type=click.Choice(["caddy", "nginx", "none"]), help="The proxy of this host.")
@click.option("--reload-proxy/--no-reload-proxy", default=None, help="Reload Caddy when it was changed.")
@click.option("--cache-hours", metavar="N", type=click.IntRange(0, 8760), help="Keep answers for so long; 0: as it is.")
@click.option("--containers", is_flag=True, help="Accept proxies in this host's containers.")
@click.option("--units/--no-units", default=None, help="Have systemd run the broker.  [default: for root]")
@click.option("--ring/--no-ring", default=None, help="Ring at the end.  [default: at a terminal]")
@click.option("--yes", is_flag=True, help="Do not ask before the changes are made.")
@click.option("--dry-run", is_flag=True, help="Show each change as a diff; change nothing.")
@click.option("--undo", is_flag=True, help="Put back all that setup changed, or only --user's.")
def command(
    user: str | None,
    gnupghome: str | None,
    public_url: str | None,
    notify: tuple[str, ...],
    person: str | None,
    proxy: str | None,
    reload_proxy: bool | None,
    cache_hours: int | None,
    containers: bool,
    units: bool | None,
    ring: bool | None,
    yes: bool,
    dry_run: bool,
    undo: bool,
) -> int:
    """Write unlatch.toml, start the broker, connect it to the proxy, have gpg-agent ask through it, and ring.

    Asks what it cannot know, shows what it is about to do, and does that. Can be run again: what is done stays as it
    is. As root for the whole host, else for your own broker.
    """
    from unlatch.setup.session import Session
    from unlatch.setup.wishes import Wishes

    forbid_core_dumps()
    if undo:
        return Session(os.environ, os.geteuid()).undo(user or "", dry_run=dry_run, yes=yes)
    wishes = Wishes(
        user, gnupghome, public_url, person, notify, proxy, cache_hours, units, containers, reload_proxy, ring, yes,
        dry_run,
    )  # fmt: skip
    return Session(os.environ, os.geteuid()).set_up(wishes)
