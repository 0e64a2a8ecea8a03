"""The host's checks of doctor, one by one, for a house; in this process, or as a program inside a namespace."""

import json
import os
import sys
from collections.abc import Mapping

from house import House

from unlatch import __version__
from unlatch.doctor import registry
from unlatch.doctor.check import Check, Finding, Situation

NOWHERE = "https://[::ffff:127.0.0.1]:9/"
CHECKS = {check.name: check for check in registry.HOST}


def situation_of(environ: Mapping[str, str]) -> Situation:
    """The caller of doctor with this environment."""
    home, uid = environ["HOME"], os.geteuid()
    return Situation("me", uid, os.getegid(), home, f"{home}/gnupg", environ, uid, __version__)


def judge(check: Check[object], situation: Situation) -> list[Finding]:
    """Probe and judge."""
    return check.findings(check.probe(situation), situation)


def examine(house: House, name: str, **environ: str) -> list[Finding]:
    """What one check finds in a house. A name would be asked for outside of this machine, so the page is at an address
    of its own, where nobody listens.
    """
    text, written = house.settings.read_text(), house.settings.stat().st_mtime_ns
    house.settings.write_text(text.replace("https://unlock.test/", NOWHERE))
    os.utime(house.settings, ns=(written, written))
    return judge(CHECKS[name], situation_of(house.environ(**environ)))


def finding(house: House, name: str, **environ: str) -> Finding:
    """The one thing that a check finds."""
    (found,) = examine(house, name, **environ)
    return found


if __name__ == "__main__":
    here = situation_of(os.environ)
    print(json.dumps([each._asdict() for name in sys.argv[1:] for each in judge(CHECKS[name], here)]))
