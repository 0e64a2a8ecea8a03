"""The manual pages: clean for mandoc, and telling of every option, key and exit code that there is."""

import os
import re
import subprocess
from pathlib import Path

import click
import pytest

from unlatch import settings
from unlatch.cli import voice
from unlatch.cli.main import COMMANDS, cli

PAGES = sorted((Path(__file__).parents[1] / "man").iterdir())
OUR_PAGES = "referenced manual not found"  # they are not installed where the tests run


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mandoc_finds_nothing_to_complain_of(page: Path) -> None:
    """Not even a matter of style."""
    done = subprocess.run(["mandoc", "-T", "lint", page], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if OUR_PAGES not in line] == []


def about(command: str) -> str:
    """All that the manual says of a command: unlatch(1), and the command's own page if it has one."""
    own = f"unlatch-{command}.1"
    return text_of("unlatch.1") + (text_of(own) if own in [page.name for page in PAGES] else "")


def text_of(name: str) -> str:
    """A page's source without the escapes and macros that stand within options."""
    source = next(page for page in PAGES if page.name == name).read_text()
    return re.sub(r"Fl Fl ", "--", source)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_in_the_manual(name: str) -> None:
    """Nothing that --help knows is missing there."""
    page = about(name)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert f".Cm {name}" in text_of("unlatch.1")
    context = click.Context(command)
    names = command.list_commands(context) if isinstance(command, click.Group) else []
    commands = [command, *(command.get_command(context, each) for each in names)]  # type: ignore[attr-defined]
    for option in (parameter for each in commands for parameter in each.params if isinstance(parameter, click.Option)):
        assert option.opts[0] in page


def test_every_key_of_the_file_stands_in_the_manual() -> None:
    """Nothing that the file may say is missing there."""
    page = text_of("unlatch.toml.5")
    tables = [settings.TOP, *settings.TABLES.values(), settings.PERSON, settings.NOTIFIER]
    for key in (key for table in tables for key in table):
        assert re.search(rf"^\.It Cm {key}$", page, re.MULTILINE), key


def test_the_example_of_the_manual_is_clean(tmp_path: Path) -> None:
    """It can be copied as it stands, but for its programs."""
    from unlatch.config import load

    page = text_of("unlatch.toml.5")
    example = page.rpartition(".Bd -literal -offset indent\n")[2].partition(".Ed")[0]
    file = tmp_path / "unlatch.toml"
    file.write_text(example.replace("/usr/local/bin/send-to-chat", "/bin/sh"))
    assert load(str(file), {"PATH": "/bin"}, os.getuid()).mistakes == ()


def test_every_exit_code_stands_in_the_manual() -> None:
    """Scripts are written against it."""
    page = text_of("unlatch.1")
    codes = (voice.OK, voice.FAILED, voice.USAGE, voice.WRONG, voice.OVER, voice.FURTHER, voice.UNKNOWN)
    cards = (voice.LOCKED, voice.BLOCKED, voice.NO_CARD)
    for code in (*codes, *cards, voice.INTERRUPTED, voice.BROKEN_PIPE):
        assert re.search(rf"^\.It {code}$", page, re.MULTILINE), code
