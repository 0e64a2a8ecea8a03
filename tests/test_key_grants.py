"""Grants and their ends: how long, written down where, ended by whom, and that nothing but the right end ends them."""

import os
import sys
from pathlib import Path

import private_systemd
import pytest
from house import House
from software_keys import FIRST, PRESET, YEARS, SoftwareKeys
from waiting import until

from unlatch.ask import boottime
from unlatch.gnupg import ending, grant_end, keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.ending import CHILD, SYSTEM, USER, NoEnder, Place
from unlatch.gnupg.errors import NoReply
from unlatch.gnupg.grants import Grant, NotASpan, Records, agent_life, is_over, parse_span
from unlatch.gnupg.homes import Home
from unlatch.secret import Secret

GRIP = "A" * 40


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("90s", 90), ("30m", 1800), ("5 min", 300), ("8h", 28_800), ("30d", 2_592_000), ("2w", 1_209_600),
     ("365d", 31_536_000), ("until-reboot", 0)],
)  # fmt: skip
def test_times_are_read_as_people_write_them(text: str, seconds: int) -> None:
    """A whole number and a unit; until-reboot has no end of its own."""
    assert parse_span(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0s", "30", "-1d", "1.5h", "366d", "d", "until reboot", "٣d", "9999999999s", "1d\n"]
)
def test_other_times_are_none(text: str) -> None:
    """Nothing is guessed: a grant that lasts longer than was meant is a hole."""
    with pytest.raises(NotASpan):
        parse_span(text)


def place(agent: tuple[str, str], own: tuple[str, str] = ("", ""), **more: bool) -> Place:
    fields = {"user_manager": False, "lingers": False, "system_manager": False} | more
    return Place(uid=1000, agent_units=agent, own_units=own, **fields)


OWNED, SESSION = ("unlatch-agent@backup.service", ""), ("session-3.scope", "")
USERS = ("user@1000.service", "gpg-agent.service")


@pytest.mark.parametrize(
    ("where", "who"),
    [
        (place(OWNED, own=OWNED), CHILD),
        (place(USERS, own=USERS, user_manager=True), CHILD),
        (place(USERS, user_manager=True), USER),
        (place(SESSION, user_manager=True, lingers=True), USER),
        (place(OWNED, user_manager=True, lingers=True), USER),
        (place(SESSION, own=SESSION, user_manager=True, lingers=True), USER),
        (place(SESSION, system_manager=True)._replace(uid=0), SYSTEM),
    ],
)
def test_who_ends_a_grant_lives_as_long_as_the_agent(where: Place, who: str) -> None:
    """A process in its unit, its own systemd, one that lingers, or the machine's."""
    assert ending.choose(where) == who


@pytest.mark.parametrize(
    ("where", "why"),
    [
        (place(OWNED), "agent"),
        (place(OWNED, user_manager=True), "linger"),
        (place(SESSION, user_manager=True), "linger"),
        (place(SESSION, own=SESSION), "systemd"),  # a scope ends when its last process does, not with the agent
        (place(SESSION, system_manager=True), "systemd"),  # only root may give it timers
        (place(("user@1001.service", "gpg-agent.service"), user_manager=True), "linger"),  # another user's manager
        (place(("", "")), "systemd"),
    ],
)
def test_without_one_there_is_no_grant_with_an_end(where: Place, why: str) -> None:
    """A user's systemd that ends at logout would leave the grant to an agent that goes on."""
    with pytest.raises(NoEnder) as raised:
        ending.choose(where)
    assert raised.value.why == why


ASKED = Grant("/h", GRIP, "life", 100.0)


@pytest.mark.parametrize(
    ("record", "agent", "now", "to_do"),
    [
        (ASKED, "life", 100.0, "clear"),
        (ASKED, "life", 99.9, "wait"),
        (None, "life", 100.0, "clear"),  # in doubt
        (None, "life", 50.0, "wait"),
        (ASKED, "another life", 100.0, ""),
        (ASKED._replace(end=200.0), "life", 100.0, ""),  # unlocked again, for longer
        (ASKED._replace(end=0.0), "life", 100.0, ""),  # unlocked again, without an end
        (ASKED._replace(end=200.0, agent="a former life"), "life", 100.0, "clear"),
    ],
)
def test_only_the_end_that_counts_ends_a_grant(record: Grant | None, agent: str, now: float, to_do: str) -> None:
    """A key that was unlocked again has another end; an agent that was started anew has forgotten all."""
    assert is_over(record, ASKED, agent, now) == to_do


def test_records_are_written_read_and_forgotten(tmp_path: Path) -> None:
    """Each home has its own, whatever the keygrip; what cannot be read counts for nothing."""
    environ = {"UNLATCH_RUNTIME_DIR": str(tmp_path)}
    records, others = (Records(home, os.getuid(), environ, "/nowhere") for home in ("/h", "/other"))
    assert records.read(GRIP) is None
    records.write(ASKED._replace(scheduled="user unlatch-grant-1"))
    others.write(ASKED._replace(directory="/other", end=0.0))
    assert records.read(GRIP) == ASKED._replace(scheduled="user unlatch-grant-1")
    assert records.mention("user unlatch-grant-1")
    assert not others.mention("user unlatch-grant-1")
    for path in (tmp_path / "grants").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    records.forget(GRIP)
    assert records.read(GRIP) is None
    assert others.read(GRIP) is not None
    for path in (tmp_path / "grants").iterdir():
        for content in (
            "",
            "{}",
            "[]",
            "[" * 9999,
            '{"directory": "/other", "grip": 1, "agent": 2, "end": 3}',
            "x" * 9999,
        ):
            path.write_text(content)
            assert others.read(GRIP) is None


def test_a_life_of_an_agent_is_one_process_of_one_boot() -> None:
    """Its name tells two processes apart, and says when one cannot be seen."""
    assert agent_life(os.getpid()) != agent_life(os.getppid()) != ""
    assert agent_life(2**30) == ""


@pytest.fixture
def kept(house: House) -> tuple[SoftwareKeys, str]:
    """A home with a key that is unlocked."""
    home = SoftwareKeys(house, PRESET + YEARS)
    grip = home.make("a@x")
    home.lock_all()
    with home.agent() as agent:
        keys.keep(agent, grip, Secret(FIRST))
    return home, grip


def come_back(home: SoftwareKeys, grip: str, end: float, *before: str) -> int:
    """Run the program that ends grants, as a timer does; its exit code. The life is what it sees itself."""
    code = (
        "import sys; from unlatch.gnupg import grant_end, grants; pid = int(sys.argv.pop(1));"
        "grant_end.main([sys.argv[1], grants.agent_life(pid), *sys.argv[2:]])"
    )
    with home.agent() as agent:
        arguments = [str(agent.pid), home.home.directory, repr(end), grip]
    return home.house.start(*before, sys.executable, "-c", code, *arguments).wait(timeout=30)


def test_the_end_clears_the_key_and_its_record(kept: tuple[SoftwareKeys, str]) -> None:
    """When its time has come, the agent has forgotten the key and nothing is written down any more."""
    home, grip = kept
    records = Records(home.home.directory, os.getuid(), home.house.environ(), str(home.house.root))
    end = boottime() - 1
    with home.agent() as agent:
        records.write(Grant(home.home.directory, grip, agent_life(agent.pid), end))
    assert come_back(home, grip, end) == 0
    assert home.cached() == set()
    assert records.read(grip) is None


def test_too_early_nothing_is_cleared(kept: tuple[SoftwareKeys, str]) -> None:
    """The wall clock was set: the time has not come, somebody else must come again, and not having any is an error."""
    home, grip = kept
    assert come_back(home, grip, boottime() + 1000) != 0
    assert home.cached() == {grip}


def test_sleep_counts(kept: tuple[SoftwareKeys, str]) -> None:
    """A machine that slept through the end finds it past: CLOCK_BOOTTIME went on."""
    home, grip = kept
    assert come_back(home, grip, boottime() + 1000, "unshare", "--time", "--boottime", "2000", "--fork") == 0
    assert home.cached() == set()


def test_a_new_agent_is_left_alone(kept: tuple[SoftwareKeys, str]) -> None:
    """The end of a grant that died with its agent does not lock what a new one was given."""
    home, grip = kept
    with home.agent() as agent:
        life = agent_life(agent.pid)
    home.restart()
    with home.agent() as agent:
        keys.keep(agent, grip, Secret(FIRST))
    arguments = grant_end.arguments_of([Grant(home.home.directory, grip, life, boottime() - 1)])
    assert home.house.start(sys.executable, "-m", "unlatch.gnupg.grant_end", *arguments).wait(timeout=30) == 0
    assert home.cached() == {grip}


def test_a_child_waits_for_its_end_and_goes_with_the_agent(kept: tuple[SoftwareKeys, str]) -> None:
    """In the agent's unit a process waits: it clears the key in time, and is gone when the agent is."""
    home, grip = kept
    with home.agent() as agent:
        life = agent_life(agent.pid)

    def waiting(seconds: float) -> str:
        grants = [Grant(home.home.directory, grip, life, boottime() + seconds)]
        arguments = grant_end.arguments_of(grants)
        return ending.schedule(CHILD, home.home, arguments, seconds=seconds, wall=0.0)

    def children() -> list[int]:
        return home.house.processes_called(b"grant_end")

    waiting(1.0)
    assert len(children()) == 1
    assert home.cached() == {grip}
    until(lambda: home.cached() == set(), "the end of the grant")
    until(lambda: not children(), "the end of the child")
    ending.cancel(os.getuid(), waiting(1000.0))
    until(lambda: not children(), "the end of the child that is not needed")
    waiting(1000.0)
    home.restart()
    until(lambda: not children(), "the end of the child with the agent")


def test_a_child_comes_again_when_the_agent_hangs(
    kept: tuple[SoftwareKeys, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would call it a second time: so it tries until the agent answers, and the grant has an end."""
    home, grip = kept
    for name, value in home.house.environ().items():
        monkeypatch.setenv(name, value)
    tries: list[Home] = []

    def hangs_at_first(of: Home) -> list[Agent]:
        tries.append(of)
        if len(tries) < 3:
            raise NoReply("S.gpg-agent", 5.0)
        return [home.agent()]

    monkeypatch.setattr(grant_end, "_agents", hangs_at_first)
    with home.agent() as agent:
        arguments = grant_end.arguments_of([Grant(home.home.directory, grip, agent_life(agent.pid), boottime())])
    grant_end.main([*arguments, "--wait"], again=0.01)
    assert (len(tries), home.cached()) == (3, set())


UNLOCKED_BY_A_USERS_SYSTEMD = """
    from house import House
    from software_keys import FIRST, PRESET, YEARS, SoftwareKeys
    from waiting import until

    house = House()
    home = SoftwareKeys(house, PRESET + YEARS)
    first, second = home.make("a@x"), home.make("b@x")
    home.lock_all()
    def unlock(*arguments):
        return home.unlatch("key", "unlock", "--stdin", *arguments, feed=FIRST)
    seen = {"long": unlock("--for", "30d", "a@x"), "timers": timers()}
    listed = json.loads(home.unlatch("key", "list", "--json", "a@x")[1])
    seen["left"] = listed[0]["seconds"]
    seen["short"] = unlock("--for", "2s", "a@x", "b@x")
    seen["timers after"] = timers()
    seen["cached"] = sorted(home.cached()) == sorted([first, second])
    until(lambda: not home.cached(), "the end of both grants")
    until(lambda: not timers(), "the end of the timers")
    seen["again"] = unlock("--for", "30d", "a@x")
    seen["plain"] = unlock("a@x"), timers()
    seen["locked"] = home.unlatch("key", "lock"), timers(), sorted(home.cached())
    house.clear()
    print(json.dumps(seen))
"""


def test_a_timer_of_the_users_systemd_ends_a_grant(tmp_path: Path) -> None:
    """Two keys are locked when their time is over; a new end takes the place of the old; lock ends all now."""
    seen = private_systemd.run(UNLOCKED_BY_A_USERS_SYSTEMD, tmp_path)
    assert seen["long"][0] == 0, seen["long"]
    assert seen["timers"] == 1
    assert 2_591_000 < seen["left"] <= 2_592_000
    assert seen["short"][0] == 0, seen["short"]
    assert (seen["timers after"], seen["cached"]) == (1, True)
    assert seen["again"][0] == 0, seen["again"]
    assert seen["plain"][0][0] == 0
    assert seen["plain"][1] == 1
    assert seen["locked"][0][0] == 0
    assert seen["locked"][1:] == [0, []]


UNLOCKED_IN_THE_AGENTS_UNIT = """
    from house import UNLATCH, House
    from software_keys import FIRST, PRESET, YEARS, SoftwareKeys
    from waiting import until

    house = House()
    home = SoftwareKeys(house, PRESET + YEARS)
    grip = home.make("a@x")
    home.restart()
    passphrase = house.root / "passphrase"
    passphrase.write_bytes(FIRST)
    kept = [f"--setenv={name}={value}" for name, value in house.environ().items()]
    script = f"gpgconf --launch gpg-agent; {UNLATCH} key unlock --stdin --for 3s a@x <{passphrase}; exec sleep 60"
    run = ["systemd-run", "--user", "--quiet", "--unit=agent", *kept, "sh", "-c", script]
    subprocess.run(run, env=environ, check=True)
    # Nothing else may look before, or it would start an agent outside of the unit.
    until(lambda: house.processes_called(b"grant_end"), "the child")
    until(home.cached, "the unlocked key")
    (child,) = house.processes_called(b"grant_end")
    seen = {"unit": "/agent.service" in pathlib.Path(f"/proc/{child}/cgroup").read_text()}
    until(lambda: not home.cached(), "the end of the grant")
    systemctl("stop", "agent.service")
    house.clear()
    print(json.dumps(seen))
"""


def test_a_child_in_the_agents_unit_ends_a_grant(tmp_path: Path) -> None:
    """No timer, and nobody who lingers: a process of the same unit, which ends with the agent."""
    seen = private_systemd.run(UNLOCKED_IN_THE_AGENTS_UNIT, tmp_path, lingers=False)
    assert seen == {"unit": True}


SET_CLOCK = """
    from house import House
    from software_keys import FIRST, PRESET, YEARS, SoftwareKeys
    from unlatch.ask import boottime
    from unlatch.gnupg import grant_end
    from unlatch.gnupg.grants import Grant, agent_life

    house = House()
    home = SoftwareKeys(house, PRESET + YEARS)
    grip = home.make("a@x")
    home.lock_all()
    home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)
    with home.agent() as agent:
        grant = Grant(home.home.directory, grip, agent_life(agent.pid), boottime() + 1000)
    come = house.start(sys.executable, "-m", "unlatch.gnupg.grant_end", *grant_end.arguments_of([grant]))
    seen = {"code": come.wait(), "cached": home.cached() == {grip}}
    seen["timers"] = timers()
    house.clear()
    print(json.dumps(seen))
"""


def test_an_end_that_comes_too_early_comes_again(tmp_path: Path) -> None:
    """The wall clock jumped, as it does at boot on a machine without one of its own: another timer is set."""
    assert private_systemd.run(SET_CLOCK, tmp_path) == {"code": 0, "cached": True, "timers": 1}
