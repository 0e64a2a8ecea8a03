"""What sshd has against its own configuration. The one that runs goes on with what it read when it started; the next
reload or boot ends it, and with it every way in by ssh.
"""

import re

from unlatch.doctor.check import Finding, Situation, problem, unknown

_LINES = 2  # of what sshd says: the first tells what is wrong, the second where that led
_LENGTH = 300  # characters
_REMARKS = ("Deprecated option", "Unsupported option", "terminating, ")  # these alone keep it from nothing
_RIGHTS = ("Permission denied", "no hostkeys available", "Unable to load host key")
_NOT_YET = "privilege separation directory"  # /run/sshd, which its unit makes: where none has run yet there is none
_PLACE = re.compile(r"^(/\S+?):? line (\d+)\b")
_METHOD = 'Disabled method "keyboard-interactive'


def judge(error: str, situation: Situation) -> Finding:
    """``error`` is what "sshd -t" says, "" where it could not be asked. Pure."""
    test = situation.as_root("sshd", "-t")
    lines = [line.strip() for line in error.splitlines() if line.strip() and not any(map(line.__contains__, _REMARKS))]
    said = "; ".join(lines[:_LINES])[:_LENGTH]
    if not said:
        return unknown("sshd could not be asked for its settings", test)
    if _NOT_YET in said or (situation.caller and any(map(error.__contains__, _RIGHTS))):
        return unknown(f"sshd could not be asked for its settings: {said}", test)
    text = f"sshd would not start again: {said}"
    place = _PLACE.match(lines[0])
    if place:
        return problem(text, f"{situation.as_root('vi', f'+{place[2]}', place[1])}\n{test}")
    if _METHOD in said:
        places = ("/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d")
        find = situation.as_root("grep", "-rniE", "KbdInteractive|ChallengeResponse|AuthenticationMethods", *places)
        return problem(f"{text}; it needs KbdInteractiveAuthentication yes", f"{find}\n{test}")
    return problem(text, test)
