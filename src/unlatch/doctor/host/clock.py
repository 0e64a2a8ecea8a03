"""The clock. What a wrong one does to us: no TLS connection to homeserver or push service is made, so nobody is rung;
messages and page name wrong times; GnuPG does not sign with a key of the future. Prompts themselves end in time all the
same, because they are measured with a clock that nobody sets (CLOCK_BOOTTIME).
"""

from typing import NamedTuple

from unlatch.broker.probe import clock_is_set
from unlatch.doctor.check import Check, Finding, Situation, command, ok, problem, unknown, warning
from unlatch.doctor.host.page_look import page_look

FAR = 60.0  # seconds; certificates and messages forgive less than an hour, people less than some minutes


class Facts(NamedTuple):
    """``synchronised`` is None where it cannot be known. ``ahead``: by how many seconds this clock is ahead of the one
    of the server that answered for the page; None if none did.
    """

    synchronised: bool | None
    ahead: float | None


def probe(situation: Situation) -> Facts:
    """Ask the kernel, and compare with the Date field of whoever serves the page."""
    dates = [answer.ahead for answer in page_look(situation).answers if answer.ahead is not None]
    return Facts(clock_is_set(), dates[0] if dates else None)


def judge(facts: Facts, _: Situation) -> Finding:
    """A clock that follows nothing may be right all the same; one that is known to be wrong is not."""
    look = command("timedatectl", "status")
    harm = "TLS to homeserver and push services fails, and messages name wrong times"
    if facts.ahead is not None and abs(facts.ahead) > FAR:
        side = "ahead of" if facts.ahead > 0 else "behind"
        return problem(f"this clock is {abs(facts.ahead):.0f} s {side} the page's server: {harm}", look)
    if facts.synchronised is False:
        return warning(f"nothing sets this clock; when it is wrong, {harm}", command("timedatectl", "set-ntp", "true"))
    if facts.synchronised is None:
        return unknown("this place may not ask the kernel; the clock is the machine's outside", look)
    return ok("synchronised")


CLOCK = Check(
    "clock",
    "the kernel's clock follows a time server, and agrees with the page's server; a wrong one breaks TLS to those who "
    "ring",
    "`timedatectl set-ntp true`, or see why chrony or ntpd has no server",
    Facts,
    probe,
    judge,
)
