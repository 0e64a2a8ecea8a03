"""Spans of time on the command line: ``90s``, ``30m``, ``8h``, ``30d``, ``2w``."""

import click

from unlatch.gnupg.grants import NotASpan, parse_span


class _Span(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2 only
    """Becomes whole seconds, more than 0."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            seconds = parse_span(str(value))
        except NotASpan:
            seconds = 0
        if not seconds:
            self.fail("accepted: 90s, 30m, 8h, 30d, 2w and the like", param, ctx)
        return seconds


SPAN = _Span()
