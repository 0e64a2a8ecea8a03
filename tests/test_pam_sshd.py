"""Logins with the challenge through a real sshd, in a whole Debian that has the package, from a visitor's terminal."""

import random
import re
from contextlib import ExitStack

import pytest
from login_house import (
    ARMOUR,
    FROM_NOBODY,
    KEY,
    MODULE,
    NOT_ACCEPTED,
    ONCE,
    PROMPT,
    LoginHouse,
    challenged,
    is_let_in,
)  # fmt: skip
from waiting import until

SERVER = "root@web03.example"


def test_the_right_response_opens(logins: LoginHouse) -> None:
    """What only the key opens names user, host, service, origin and time; it is typed, and nowhere else to be read."""
    with logins.ssh("alice") as terminal:
        message = challenged(terminal, logins.alice)
        assert (message.who, message.source) == ("alice@web03 sshd", "from 127.0.0.1")
        assert message.at.startswith("at ")
        assert message.at.endswith(" UTC")
        terminal.type(f"{message.response}\n")
        assert is_let_in(terminal, "alice")
    record = f"by=challenge key={logins.alice.fingerprint} entry=record"
    assert logins.verdict() == f"login allowed: user=alice service=sshd from=127.0.0.1 uid=0 {record}"
    assert message.response not in logins.everything_logged()


def test_a_wrong_response_is_one_attempt(logins: LoginHouse) -> None:
    """sshd asks again: that is another challenge, and what would have been right before is wrong by now."""
    with logins.ssh("alice") as terminal:
        first = challenged(terminal, logins.alice)
        terminal.type("wrong\n")
        terminal.expect(NOT_ACCEPTED)
        second = challenged(terminal, logins.alice)
        assert second.response != first.response
        terminal.type(f"{first.response}\n")
        terminal.expect(NOT_ACCEPTED)
        third = challenged(terminal, logins.alice)
        terminal.type("\n")
        assert not is_let_in(terminal, "alice")
        assert terminal.screen.count(NOT_ACCEPTED) == 3
    assert len({first.response, second.response, third.response}) == 3
    assert logins.verdicts(3) == ["login denied: user=alice service=sshd from=127.0.0.1 uid=0: wrong response"] * 3


def test_a_response_is_accepted_once(logins: LoginHouse) -> None:
    """It let somebody in; whoever saw it being typed has nothing."""
    with logins.ssh("alice") as terminal:
        used = challenged(terminal, logins.alice).response
        terminal.type(f"{used}\n")
        assert is_let_in(terminal, "alice")
    with logins.ssh("alice", *ONCE) as terminal:
        terminal.expect(PROMPT)
        terminal.type(f"{used}\n")
        assert not is_let_in(terminal, "alice")
    assert [line.split(":")[0] for line in logins.verdicts(2)] == ["login allowed", "login denied"]


def test_too_late_is_too_late(logins: LoginHouse) -> None:
    """The right response after the window: the log says it when the time is over, the session when somebody types."""
    logins.configure("seconds = 10")
    with logins.ssh("alice", *ONCE) as terminal, logins.ssh("bob", *ONCE) as in_time:
        late, right = challenged(terminal, logins.alice), challenged(in_time, logins.bob)
        in_time.type(f"{right.response}\n")
        assert is_let_in(in_time, "bob")
        assert logins.verdicts(2)[1].endswith("too late")
        terminal.type(f"{late.response}\n")
        assert not is_let_in(terminal, "alice")
        assert "unlatch: too late" in terminal.screen


@pytest.mark.slow
@pytest.mark.long
def test_ten_minutes_are_ten_minutes(logins: LoginHouse) -> None:
    """The default window, waited for: at its end the right response opens, behind it not."""
    with logins.ssh("alice", *ONCE) as late, logins.ssh("bob", *ONCE) as in_time:
        messages = challenged(late, logins.alice), challenged(in_time, logins.bob)
        uptime = float((logins.root / "proc/uptime").read_text().split()[0])
        until(lambda: float((logins.root / "proc/uptime").read_text().split()[0]) > uptime + 585, "585 s", 600)
        in_time.type(f"{messages[1].response}\n")
        assert is_let_in(in_time, "bob")
        assert logins.verdicts(2)[1].endswith("too late")
        late.type(f"{messages[0].response}\n")
        assert not is_let_in(late, "alice")
        assert "unlatch: too late" in late.screen


@pytest.mark.parametrize("how", ["Ctrl-C", "closed terminal", "killed client"])
def test_who_goes_away_leaves_nothing(logins: LoginHouse, how: str) -> None:
    """The conversation ends with the login, at once, and the log says so."""
    with logins.ssh("alice") as terminal:
        terminal.expect(PROMPT)
        assert len(logins.conversations()) == 1
        until(lambda: logins.waits("ssh"), "an ssh that reads")  # before, it takes what happens for an empty answer
        if how == "Ctrl-C":
            terminal.type("\x03")
            assert terminal.end() != 0
        elif how == "killed client":
            (pid,) = logins.machine.run("pgrep", "--newest", "--exact", "ssh").out.split()
            logins.machine.run("kill", "-KILL", pid)
    # A terminal that is closed may also be an empty line to ssh, before the signal comes.
    ended = "went away|wrong response" if how == "closed terminal" else "went away"
    assert re.search(ended, logins.verdict())


def test_ten_at_once(logins: LoginHouse) -> None:
    """Each has a challenge of its own, and only the own response opens, in whatever order they are typed."""
    names = ["alice", "bob"] * 5
    with ExitStack() as stack:
        terminals = [stack.enter_context(logins.ssh(name, *ONCE)) for name in names]
        holders = [getattr(logins, name) for name in names]
        messages = [challenged(*pair) for pair in zip(terminals, holders, strict=True)]
        responses = [message.response for message in messages]
        assert len(set(responses)) == 10
        responses[0], responses[2] = responses[2], responses[0]  # two of alice's
        order = list(range(10))
        random.Random(7).shuffle(order)
        for each in order:
            terminals[each].type(f"{responses[each]}\n")
        let_in = [is_let_in(terminal, name) for terminal, name in zip(terminals, names, strict=True)]
    assert let_in == [False, True, False, *[True] * 7]
    lines = logins.verdicts(10)
    assert sum("login allowed" in line for line in lines) == 8


def test_after_a_public_key(logins: LoginHouse) -> None:
    """AuthenticationMethods publickey,keyboard-interactive: without the first there is no challenge to be seen."""
    with logins.ssh("carol") as terminal:
        assert not is_let_in(terminal, "carol")
        assert "PGP MESSAGE" not in terminal.screen
    with logins.ssh("carol", *KEY) as terminal:
        message = challenged(terminal, logins.carol)
        terminal.type(f"{message.response}\n")
        assert is_let_in(terminal, "carol")
    assert logins.verdict().startswith("login allowed: user=carol service=sshd from=127.0.0.1 uid=0 ")


def test_over_ipv6(logins: LoginHouse) -> None:
    """The origin is shown as it is."""
    with logins.ssh("alice", address="::1") as terminal:
        message = challenged(terminal, logins.alice)
        assert message.source == "from ::1"
        terminal.type(f"{message.response}\n")
        assert is_let_in(terminal, "alice")
    assert " from=::1 " in logins.verdict()


def test_rsa_and_signed(logins: LoginHouse) -> None:
    """An RSA key, and a challenge that proves with the server's key where it comes from."""
    made = logins.machine.run("unlatch", "pam", "sign-key", SERVER)
    logins.bob.learn(made.out)
    logins.enrol("bob", logins.bob, sign_as=SERVER)
    with logins.ssh("bob") as terminal:
        message = challenged(terminal, logins.bob)
        assert message.signed
        assert f"made {message.signed}," in made.err
        terminal.type(f"{message.response}\n")
        assert is_let_in(terminal, "bob")
    assert "login allowed: user=bob" in logins.verdict()


def test_two_keys_of_record(logins: LoginHouse) -> None:
    """The second is the way in when the first is lost; a third person's key opens nothing."""
    spare = logins.holder("alice-spare")
    logins.enrol("alice", logins.alice, spare)
    with logins.ssh("alice") as terminal:
        message = challenged(terminal, spare)
        assert logins.alice.read(terminal.screen).response == message.response
        assert logins.bob.cannot_read(terminal.screen)
        terminal.type(f"{message.response}\n")
        assert is_let_in(terminal, "alice")
    assert f"key={logins.alice.fingerprint},{spare.fingerprint} " in logins.verdict()


def test_an_entry_of_ones_own(logins: LoginHouse) -> None:
    """~/.auth_gpg counts where the administrator lists the service, and where root keeps no record."""
    own = logins.holder("own")
    logins.carry("alice", own, f"# mine\n{own.address} notrust nosign none")
    logins.configure('auth_gpg = ["sshd"]')
    with logins.ssh("alice", *ONCE) as terminal:
        challenged(terminal, logins.alice)  # the record's
        terminal.type("\n")
        assert not is_let_in(terminal, "alice")
    logins.machine.run("unlatch", "pam", "forget", "alice")
    with logins.ssh("alice") as terminal:
        terminal.type(f"{challenged(terminal, own).response}\n")
        assert is_let_in(terminal, "alice")
    logins.configure()
    with logins.ssh("alice", *ONCE) as terminal:
        assert not is_let_in(terminal, "alice")
        assert not ARMOUR.search(terminal.screen)
    denied, allowed, unlisted = logins.verdicts(3)
    assert "wrong response" in denied
    assert allowed.endswith(f"by=challenge key={own.fingerprint} entry=home")
    assert "login denied: user=alice" in unlisted


@pytest.mark.parametrize("user", ["nobody-here", "visitor", "root"])
def test_strangers_learn_nothing(logins: LoginHouse, user: str) -> None:
    """No such user, a user without a key, and root without one: the same one line each, and one line in the log."""
    with logins.ssh(user, *ONCE) as terminal:
        assert not is_let_in(terminal, user)
    assert FROM_NOBODY in terminal.screen
    said = terminal.screen.replace(user, "USER")
    assert "PGP" not in said
    with logins.ssh("stranger", *ONCE) as terminal:
        assert not is_let_in(terminal, "stranger")
    assert said == terminal.screen.replace("stranger", "USER")
    lines = logins.verdicts(2)
    assert lines[0].startswith(f"login denied: user={user} service=sshd from=127.0.0.1 uid=0: ")


def test_a_bad_record_is_no_reason_to_look_elsewhere(logins: LoginHouse) -> None:
    """Root's record whose key is revoked denies, though a good ~/.auth_gpg is there."""
    revoked = logins.holder("revoked")
    logins.carry("alice", logins.alice, f"{logins.alice.fingerprint} notrust nosign none")
    logins.configure('auth_gpg = ["sshd"]')
    logins.enrol("alice", revoked)
    record = logins.root / "etc/unlatch/pam/alice"
    record.write_text(record.read_text().split("-----BEGIN")[0] + revoked.revoke())
    with logins.ssh("alice", *ONCE) as terminal:
        assert not is_let_in(terminal, "alice")
        assert FROM_NOBODY in terminal.screen
    assert "revoked" in logins.verdict()


def test_the_password_method_gives_nothing_away(logins: LoginHouse) -> None:
    """Where sshd offers it, what is typed at its password prompt is not taken for a response."""
    logins.configure_sshd("PasswordAuthentication yes\n")
    with logins.ssh("alice", "-o", "PreferredAuthentications=password", *ONCE) as terminal:
        terminal.expect("password: ")
        terminal.type("something\n")
        assert not is_let_in(terminal, "alice")
    logins.configure_sshd()
    assert "wrong response" not in logins.verdict()


@pytest.mark.parametrize(
    "how",
    [
        "systemctl stop unlatch-pam.service",
        "systemctl kill --signal=KILL unlatch-pam.service",
        "dpkg --install /tmp/unlatch.deb",
    ],
)
def test_the_service_ends_in_mid_login(logins: LoginHouse, how: str) -> None:
    """Stopped, killed or upgraded: the right response opens nothing any more, and the next login starts it anew."""
    with logins.ssh("alice", *ONCE) as terminal:
        message = challenged(terminal, logins.alice)
        logins.machine.shell(how)
        terminal.type(f"{message.response}\n")
        assert not is_let_in(terminal, "alice")
        assert FROM_NOBODY in terminal.screen
    with logins.ssh("alice") as terminal:
        terminal.type(f"{challenged(terminal, logins.alice).response}\n")
        assert is_let_in(terminal, "alice")
    lines = logins.verdicts(2)
    assert "login denied" in lines[0]
    assert "login allowed: user=alice" in lines[1]


def test_a_killed_conversation_is_one_login(logins: LoginHouse) -> None:
    """The process of one login dies: that login is denied, its neighbour goes on."""
    with logins.ssh("alice", *ONCE) as hit, ExitStack() as stack:
        challenged(hit, logins.alice)
        (pid,) = logins.conversations()
        spared = stack.enter_context(logins.ssh("bob", *ONCE))
        message = challenged(spared, logins.bob)
        logins.machine.run("kill", "-KILL", pid)
        hit.type("x\n")
        assert not is_let_in(hit, "alice")
        spared.type(f"{message.response}\n")
        assert is_let_in(spared, "bob")
    lines = "\n".join(logins.verdicts(3))
    assert "login denied: user=alice service=sshd from=127.0.0.1 uid=0: " in lines
    assert "pam_unlatch(sshd:auth): login denied: the service left" in lines
    assert "login allowed: user=bob" in lines


def test_without_the_service_nobody_gets_in(logins: LoginHouse) -> None:
    """Nothing listens: the module denies and says so in the log, whatever the lines below it think."""
    logins.machine.run("systemctl", "stop", "unlatch-pam.socket", "unlatch-pam.service")
    logins.stack("sshd", f"{MODULE}", "auth required pam_permit.so")
    with logins.ssh("alice", *ONCE) as terminal:
        assert not is_let_in(terminal, "alice")
        assert FROM_NOBODY in terminal.screen
    assert "pam_unlatch(sshd:auth): login denied: no service at" in logins.verdict()
