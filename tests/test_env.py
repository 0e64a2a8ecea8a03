"""``unlatch env``: whatever a path holds, whoever evaluates the lines gets exactly that, and runs nothing else."""

import os
import subprocess

import pytest
from house import UNLATCH, House
from hypothesis import example, given, settings
from hypothesis import strategies as st
from real import real

from unlatch.gnupg.environment import Unquotable, lines

# Everything printable, and often what some shell or other finds special.
TEXTS = st.text(
    st.one_of(st.sampled_from("'\"\\$`%!#~ *;&|<>(){}[]=\u00e9"), st.characters(categories=("L", "N", "P", "S")))
)
NASTY = """/srv/'a" $HOME `id` $(id) \\n \\' %h %% !x #y"""


def evaluated(shell: list[str], texts: list[str], *, joined: bool) -> list[str]:
    """What a program that the shell starts has in its environment after our lines."""
    values = {f"VALUE_{number}": text for number, text in enumerate(texts)}
    script = (" " if joined else "\n").join([*lines(shell[0], values, "a comment"), "env -0"])
    done = subprocess.run(
        [real(shell[0]), *shell[1:], script],
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere", "LANG": "C.UTF-8"},
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    seen = dict(each.split("=", 1) for each in done.stdout.split("\0") if each)
    return [seen[name] for name in values]


@settings(max_examples=15)
@given(st.lists(TEXTS, max_size=20), st.booleans())
@example([NASTY], False)
@example([NASTY], True)
def test_sh_gets_every_character(texts: list[str], joined: bool) -> None:
    """Also from an unquoted eval, which makes one line of all."""
    assert evaluated(["sh", "-c"], texts, joined=joined) == texts


@settings(max_examples=5)
@given(st.lists(TEXTS, max_size=20), st.booleans())
@example([NASTY], False)
@example([NASTY], True)
def test_fish_gets_every_character(texts: list[str], joined: bool) -> None:
    """In fish, a backslash in quotes is special before a quote and before itself."""
    assert evaluated(["fish", "--no-config", "-c"], texts, joined=joined) == texts


def test_systemd_gets_a_drop_in() -> None:
    """Quotes, C escapes and specifiers are its special ones (tests/test_agent_logins.py starts a unit with it)."""
    assert lines("systemd", {"A": 'a "b" 50% \\ $c', "B": ""}, "why") == [
        "[Service]", "# why", r'Environment="A=a \"b\" 50%% \\ $c"', 'Environment="B="',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "written"), [("/x", "'/x'"), (" a b ", "' a b '"), ("it's %d", '"it\'s %d"'), ("", "''")]
)
def test_cron_gets_quotes(text: str, written: str) -> None:
    """crontab(5) knows quotes and no escapes."""
    assert lines("crontab", {"A": text}, "why") == ["# why", f"A={written}"]


def test_what_cannot_be_written_is_refused() -> None:
    """Both quotes in a crontab; a line break anywhere, which would make a line of ours of the rest."""
    with pytest.raises(Unquotable, match="B"):
        lines("crontab", {"A": "x", "B": "'\""})
    for shell in ("sh", "fish", "systemd", "crontab"):
        for text in ("a\nb", "a\rb", "\0", "\x1b[2J", "\udcff"):
            with pytest.raises(Unquotable):
                lines(shell, {"A": text})


# The command


def env(house: House, *options: str, code: int = 0, **more: str) -> "tuple[str, str]":
    """Run it as a service would: what it prints, and what it tells."""
    process = house.start(UNLATCH, "env", *options, **more)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    return out.decode(), err.decode()


def test_it_prints_what_the_jobs_of_this_home_need(house: House) -> None:
    """The home, and what was chosen for Unlatch; no variable of the caller's leaks into it."""
    out, _ = env(house, SSH_AUTH_SOCK="/tmp/forwarded", SECRET="canary")
    named = dict(line.removesuffix(";").split("; export ")[0].split("=", 1) for line in out.splitlines())
    assert named["GNUPGHOME"] == f"'{house.gnupg}'"
    assert named["UNLATCH_CONFIG"] == f"'{house.settings}'"
    assert named["SSH_AUTH_SOCK"].endswith("/S.gpg-agent.ssh'")
    assert set(named) == {"SSH_AUTH_SOCK", "GNUPGHOME", "UNLATCH_CONFIG", "UNLATCH_RUNTIME_DIR"}
    assert "forwarded" not in out
    assert "canary" not in out


def test_it_starts_no_agent(house: House) -> None:
    """To say where one is, or will be, none is needed."""
    env(house)
    assert house.processes() == []


def test_it_speaks_of_what_it_cannot_write(house: House) -> None:
    """One sentence, the variable's name, and what to do."""
    out, err = env(house, "--shell", "crontab", code=1, GNUPGHOME="/srv/'\"")
    assert out == ""
    assert err.splitlines()[0] == "unlatch: error: SSH_AUTH_SOCK holds characters that crontab cannot carry"
    assert err.splitlines()[1].startswith("unlatch: hint: ")
    _, err = env(house, "--shell", "csh", code=2)
    assert "'csh'" in err
