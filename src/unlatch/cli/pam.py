"""``unlatch pam``: logins. One file per subcommand, imported only when it is called for: the service needs no more."""

import importlib

import click

# Subcommand -> module and name there.
COMMANDS = {
    "enrol": ("pam_enrol", "enrol"),
    "forget": ("pam_enrol", "forget"),
    "list": ("pam_enrol", "list_records"),
    "serve": ("pam_serve", "command"),
    "sign-key": ("pam_sign_key", "command"),
    "test": ("pam_test", "command"),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        found = getattr(importlib.import_module(f"unlatch.cli.{module}"), name)
        assert isinstance(found, click.Command)
        return found


@click.group(
    cls=_Commands,
    no_args_is_help=False,
    short_help="Logins: a challenge that only your key opens, or a tap.",
    epilog="""\b
Example, as root: alice's key of record, and then a login that logs nobody in:
  # unlatch pam enrol alice 73354FC74BF1B3AB3BCA736E466F3F0D98037F0D
  # unlatch pam test alice --service sshd
""",
)
def command() -> None:
    """Logins by PAM: a challenge that only the person's OpenPGP key opens, or a tap on the phone."""
