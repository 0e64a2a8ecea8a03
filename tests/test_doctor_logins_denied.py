"""What denies every login although the module is there and its socket listens, as doctor sees it."""

import pytest
from doctor_host import situation_of

from unlatch.doctor.host import logins
from unlatch.doctor.host.logins import Facts
from unlatch.doctor.host.pam_places import Use
from unlatch.settings import Person, Settings

NOWHERE = situation_of({"HOME": "/nonexistent"})
FILE = "/etc/unlatch/unlatch.toml"
SSHD = Use("sshd", 4, "required", "", True)
GOOD = Facts((SSHD,), "/usr/lib/x/security/pam_unlatch.so", True, "", True, (), FILE, True, True)
ALICE, ANYBODY, NOBODY = Person("a", ("alice",), ("push",)), Person("a", ("*",), ("push",)), Person("a", ("alice",), ())


def says(arguments: str) -> tuple[Use, ...]:
    """The line with these arguments."""
    return (SSHD._replace(arguments=arguments),)


def approves(*people: Person) -> Settings:
    """Settings in which only the phone lets somebody in."""
    return Settings(pam_mode="approve", people=people)


@pytest.mark.parametrize(
    ("facts", "text", "hint"),
    [
        (
            GOOD._replace(uses=says("after_first_facto")),
            "an argument is unknown, or there twice: after_first_facto",
            "vi +4 /etc/pam.d/sshd",
        ),
        (GOOD._replace(uses=says("mode=phone")), "there twice: mode=phone", "vi +4 /etc/pam.d/sshd"),
        (GOOD._replace(settings=approves(ANYBODY, NOBODY)), "the mode is approve", f"vi {FILE}"),
        (GOOD._replace(uses=says("mode=approve")), "the mode is approve", f"vi {FILE}"),
        (GOOD._replace(records=False), "nobody has a key of record", "unlatch pam enrol USER FINGERPRINT --file"),
        (GOOD._replace(mistake=f"{FILE}:2: pam.mode: not accepted"), f"{FILE}:2: pam.mode", f"vi {FILE}"),
    ],
)
def test_what_denies_everybody(facts: Facts, text: str, hint: str) -> None:
    """A typing error, a phone that nobody has, no keys, a mistake in the settings: one problem, with what to type."""
    (found,) = (each for each in logins.judge(facts, NOWHERE) if each.state != "ok")
    assert (found.state, text in found.text, hint in found.hint) == ("problem", True, True), found
    assert ("every login is denied" in found.text) != ("every login by sshd is refused" in found.text)


def test_what_is_wrong_for_all_services_is_said_once() -> None:
    """With all their lines."""
    uses = (SSHD, SSHD._replace(service="sudo", number=7, first=False))
    _, found = logins.judge(GOOD._replace(uses=uses, records=False), NOWHERE)
    assert found.text == "/etc/pam.d/sshd:4 and /etc/pam.d/sudo:7: every login is denied: nobody has a key of record"


@pytest.mark.parametrize(
    "facts",
    [
        GOOD._replace(uses=says("mode=either socket=/x timeout=9")),
        GOOD._replace(uses=says("[socket=/a b]")),  # quoted: not read here
        GOOD._replace(settings=approves(ALICE), records=False),
        GOOD._replace(records=False, settings=Settings(pam_auth_gpg=("sshd",))),
        GOOD._replace(uses=says("mode=challenge"), settings=approves()),
    ],
)
def test_what_lets_somebody_in(facts: Facts) -> None:
    """The module's own arguments, an account's own phone, the users' own entries, a line that goes before [pam]."""
    assert [each.state for each in logins.judge(facts, NOWHERE)] == ["ok"]
