"""The editor of gpg-agent.conf: held against what the real gpg-agent makes of a file, and against random texts."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House
from hypothesis import given, settings
from hypothesis import strategies as st
from real import real

from unlatch.setup import agent_conf, agent_step, performing
from unlatch.setup.changes import AGENT, Change
from unlatch.setup.files import FileState
from unlatch.setup.hands import Hands
from unlatch.setup.journal import Journal
from unlatch.setup.places import find
from unlatch.setup.target import target
from unlatch.setup.undo import Undo, is_as_left

NO_PINENTRY = "67108949"  # GPG_ERR_NO_PIN_ENTRY of gpg-agent; a client sees "No secret key" in the end


class Lines:
    """A gpg-agent that is told line after line, and what it starts for each."""

    def __init__(self, house: House) -> None:
        for program in ("gpgconf", "gpg-connect-agent"):
            real(program)
        self.house = house
        self.asked = house.root / "asked"
        for name in ("first", "sec ond", "third"):
            path = house.root / name
            path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$0" >>{self.asked}\necho "OK"\necho "ERR 83886179"\n')
            path.chmod(0o755)
        dead = house.root / "dead"
        dead.write_text("#!/no/such/interpreter\n")
        dead.chmod(0o755)

    def started(self, conf: bytes) -> tuple[str, str]:
        """The program that is started for a passphrase ("" for none of ours), and the error's code."""
        (self.house.gnupg / "gpg-agent.conf").write_bytes(conf)
        self.asked.unlink(missing_ok=True)
        self.house.run("gpgconf", "--homedir", self.house.gnupg, "--reload", "gpg-agent")
        said = self.house.run("gpg-connect-agent", "GET_PASSPHRASE x X X X", "/bye").decode()
        asked = self.asked.read_text().splitlines() if self.asked.exists() else [""]
        return asked[0], said.split()[1] if said.startswith("ERR") else ""

    def text(self, line: str) -> bytes:
        return line.replace("@", str(self.house.root)).encode()


@pytest.fixture(scope="module")
def lines() -> Iterator[Lines]:
    house = House()
    yield Lines(house)
    house.clear()


READ = [
    "pinentry-program @/first\n",
    "pinentry-program @/sec ond\n",  # a space is part of the path
    'pinentry-program "@/sec ond"\n',
    "  pinentry-program \t @/first  \t\n",
    "pinentry-program @/first\r\n",
    "pinentry-program @/first",
    "pinentry-program @/first\npinentry-program @/third\n",  # the last one counts
    "#pinentry-program @/third\npinentry-program @/first\n # pinentry-program @/third\n",
    "no-such-option\npinentry-program @/first\n",
    "default-cache-ttl 5\n\n\npinentry-program @/first\nmax-cache-ttl 7\n",
]
FOUND_NOWHERE = [
    "pinentry-program @/missing\n",
    "pinentry-program @/dead\n",  # its interpreter is gone
    "pinentry-program ~/first\n",
    "pinentry-program $HOME/first\n",
    "pinentry-program @/first --option\n",  # an argument belongs to the name
    "pinentry-program @/first # a comment\n",  # so does a comment
    "pinentry-program = @/first\n",
    "pinentry-program '@/first'\n",
]
NOT_AN_OPTION = [
    "pinentry-program=@/first\n",
    "--pinentry-program @/first\n",
    "PINENTRY-PROGRAM @/first\n",
    "pinentry-progra @/first\n",
    "pinentry-program: @/first\n",
    "pinentry-program\n",
]


@pytest.mark.parametrize("line", READ)
def test_it_reads_a_file_as_gpg_agent_does(lines: Lines, line: str) -> None:
    """The program that the editor reads out of a text is the one that gpg-agent starts."""
    text = lines.text(line)
    program = agent_conf.values(text)["pinentry-program"]
    assert Path(program).is_file()
    assert lines.started(text)[0] == program


@pytest.mark.parametrize("line", FOUND_NOWHERE)
def test_what_ends_in_no_pinentry(lines: Lines, line: str) -> None:
    """There is no second pinentry to fall back on; the editor reads the same wrong path that gpg-agent does."""
    text = lines.text(line)
    assert lines.started(text) == ("", NO_PINENTRY)
    program = agent_conf.values(text)["pinentry-program"]
    assert not Path(program).is_file() or program.endswith("/dead")


@pytest.mark.parametrize("line", NOT_AN_OPTION)
def test_what_is_no_option_to_gpg_agent(lines: Lines, line: str) -> None:
    """Such a line does nothing: the one before it counts, to the editor too."""
    text = lines.text(f"pinentry-program @/third\n{line}")
    assert lines.started(text)[0].endswith("/third")
    assert agent_conf.values(text)["pinentry-program"].endswith("/third")


def test_what_the_editor_writes_is_read_by_the_running_agent(lines: Lines) -> None:
    """A reload is enough: another pinentry, a longer cache, and presetting are there at once, in the same agent."""
    assert lines.started(lines.text("# mine\npinentry-program @/third\n"))[0].endswith("/third")
    pid = lines.house.run("gpg-connect-agent", "GETINFO pid", "/bye")
    wanted = {
        "pinentry-program": f"{lines.house.root}/sec ond",
        "max-cache-ttl": "86400",
        "allow-preset-passphrase": "",
    }
    text = agent_conf.edit(lines.text("# mine\npinentry-program @/third\n"), wanted)
    assert lines.started(text)[0].endswith("/sec ond")
    assert lines.house.run("gpg-connect-agent", f"PRESET_PASSPHRASE {'A' * 40} -1 41", "/bye") == b"OK\n"
    assert lines.house.run("gpg-connect-agent", "GETINFO pid", "/bye") == pid


def test_a_replaced_line_stays_as_a_comment() -> None:
    """A person sees what was there, and the new line stands where the old one did."""
    before = b"# keep\ndefault-cache-ttl 60\n  pinentry-program /usr/bin/pinentry-gtk-2\nenable-ssh-support\n"
    assert agent_conf.edit(before, {"pinentry-program": "/usr/bin/pinentry-unlatch"}) == (
        b"# keep\ndefault-cache-ttl 60\n"
        b"# replaced by unlatch setup: pinentry-program /usr/bin/pinentry-gtk-2\n"
        b"pinentry-program /usr/bin/pinentry-unlatch\n"
        b"enable-ssh-support\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"max-cache-ttl 5\n"),
        (b"a 1", b"a 1\nmax-cache-ttl 5"),
        (b"a 1\r\n", b"a 1\r\nmax-cache-ttl 5\r\n"),
        (b"a 1\r\nb 2", b"a 1\r\nb 2\r\nmax-cache-ttl 5"),
        (b"max-cache-ttl 9\r\nb\r\n", b"# replaced by unlatch setup: max-cache-ttl 9\r\nmax-cache-ttl 5\r\nb\r\n"),
        (b"max-cache-ttl 9", b"# replaced by unlatch setup: max-cache-ttl 9\nmax-cache-ttl 5"),
        (b"max-cache-ttl 9\nmax-cache-ttl 5\n", b"max-cache-ttl 9\nmax-cache-ttl 5\n"),
    ],
)
def test_line_ends_stay_of_their_kind(before: bytes, after: bytes) -> None:
    """CRLF stays CRLF, and a last line without an end does not get one."""
    assert agent_conf.edit(before, {"max-cache-ttl": "5"}) == after


@pytest.mark.parametrize("path", ["/a\nallow-preset-passphrase", "/a ", " /a", '"/a"', "/a\r", ""])
def test_a_value_that_would_read_back_otherwise_is_refused(path: str) -> None:
    """Nothing is written that gpg-agent would take for something else; least of all a second line."""
    with pytest.raises(ValueError, match="gpg-agent could not read"):
        agent_conf.edit(b"", {"pinentry-program": path} if path else {"": path})


def test_a_file_with_a_nul_byte_is_no_text() -> None:
    """gpg-agent would not read what stands behind it."""
    with pytest.raises(ValueError, match="NUL"):
        agent_conf.edit(b"a\0b", {"max-cache-ttl": "5"})


NAMES = st.sampled_from(["pinentry-program", "default-cache-ttl", "max-cache-ttl", "allow-preset-passphrase", "x"])
VALUES = st.sampled_from(["", "/usr/bin/pinentry", "/with a/space", '"/quoted"', "600", "# no comment", "=1"])
LINES = st.one_of(
    st.builds(
        lambda space, name, value: f"{space}{name} {value}".encode(), st.sampled_from(["", " ", "\t"]), NAMES, VALUES
    ),
    st.binary(max_size=20).filter(lambda line: b"\0" not in line and b"\n" not in line),
    st.sampled_from([b"", b"# a comment", b"#pinentry-program /x", b"\xef\xbb\xbf"]),
)
TEXTS = st.builds(
    lambda lines, end, last: end.join(lines) + (end if last else b""),
    st.lists(LINES, max_size=8), st.sampled_from([b"\n", b"\r\n"]), st.booleans(),
)  # fmt: skip
WANTED = st.dictionaries(
    NAMES, st.sampled_from(["/usr/bin/pinentry-unlatch", "28800", "", "/opt/my unlatch/p"]), max_size=3
)


@given(TEXTS, WANTED)
def test_for_any_text(before: bytes, wanted: dict[str, str]) -> None:
    """What is wanted counts afterwards; done again nothing changes; no line is lost, and none of the others moves."""
    after = agent_conf.edit(before, wanted)
    assert wanted.items() <= agent_conf.values(after).items()
    assert agent_conf.edit(after, wanted) == after
    others = {name: value for name, value in agent_conf.values(before).items() if name not in wanted}
    assert {name: value for name, value in agent_conf.values(after).items() if name not in wanted} == others
    kept = [line.strip().removeprefix(agent_conf.REPLACED) for line in after.split(b"\n")]
    remaining = iter(kept)
    assert all(line.strip() in remaining for line in before.split(b"\n"))


@settings(max_examples=20)  # each waits for the disk
@given(TEXTS, st.sampled_from([0o600, 0o640, 0o644]), st.sampled_from([0, 8]))
def test_setup_and_undo_lead_back_to_any_file(before: bytes, mode: int, hours: int) -> None:
    """Byte for byte and with its mode, whatever was in it; and a second setup finds nothing to do."""
    with tempfile.TemporaryDirectory(prefix="unlatch-", dir="/tmp") as folder:
        conf = Path(folder, "gpg-agent.conf")
        conf.write_bytes(before)
        conf.chmod(mode)
        environ = {"HOME": folder, "GNUPGHOME": folder, "PATH": "/usr/bin:/bin"}
        situation = target("", folder, environ, os.getuid())
        wanted = agent_step.wanted_options("/usr/bin/pinentry-unlatch", hours, agent_conf.values(before))
        kept = Journal(f"{folder}/journal")
        with kept.held():
            performing.perform([agent_step.plan(Hands(), situation, wanted)], kept)
        assert agent_conf.values(conf.read_bytes())["pinentry-program"] == "/usr/bin/pinentry-unlatch"
        assert agent_step.plan(Hands(), situation, wanted).idle
        undo = Undo(Journal(f"{folder}/journal"), find(environ, 1, folder), environ, os.getuid(), "")
        undo.perform(undo.plan(), lambda text: None)
        assert conf.read_bytes() == before
        assert conf.stat().st_mode & 0o777 == mode


PINENTRY = {"pinentry-program": "/usr/bin/pinentry-unlatch"}


@pytest.mark.parametrize("before", [b"", b"# mine\n", b"max-cache-ttl 7200", b"default-cache-ttl 600\r\nverbose\r\n"])
@pytest.mark.parametrize(
    "ours", [{"allow-preset-passphrase": ""}, {"allow-preset-passphrase": "", "max-cache-ttl": "31536000"}], ids=str
)
def test_what_unlocking_keys_wrote_does_not_hinder_an_undo(before: bytes, ours: dict[str, str]) -> None:
    """ "unlatch key unlock --configure" adds to the same file; it counts as setup left it, any other edit does not."""
    original = FileState("file", before, 0o600)
    after = original._replace(data=agent_conf.edit(before, PINENTRY))
    change = Change("/home/api/.gnupg/gpg-agent.conf", original, after, tells=AGENT)
    assert is_as_left(after._replace(data=agent_conf.edit(after.data, ours)), change)
    assert is_as_left(after, change)
    for other in (
        agent_conf.edit(after.data, {"max-cache-ttl-ssh": "1"}),
        agent_conf.edit(after.data, ours) + b"\nverbose\n",
        b"",
        before,
    ):
        assert is_as_left(after._replace(data=other), change) == (other == after.data)
    assert not is_as_left(after._replace(mode=0o644), change)
