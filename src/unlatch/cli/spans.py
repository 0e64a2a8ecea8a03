"""Spans of time on the command line: ``90s``, ``30m``, ``8h``, ``30d``, ``2w``."""

import click

from unlatch.gnupg.grants import UNTIL_REBOOT, NotASpan, parse_span

ACCEPTED = '"90m", "8h", "30d", "2w" and the like, at most a year'
OR_REBOOT = f'{ACCEPTED}, or "{UNTIL_REBOOT}"'


class Span(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2 only
    """How long a grant lasts, in seconds; with ``or_reboot`` also 0, for as long as gpg-agent lives."""

    name = "time"

    def __init__(self, *, or_reboot: bool = False) -> None:
        self._or_reboot = or_reboot

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it, as click wants."""
        if isinstance(value, int):
            return value
        try:
            seconds = parse_span(str(value))
        except NotASpan:
            seconds = -1
        if seconds < (0 if self._or_reboot else 1):
            self.fail(f"not a time; accepted: {OR_REBOOT if self._or_reboot else ACCEPTED}", param, ctx)
        return seconds
