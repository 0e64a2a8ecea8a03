"""unlatch.toml: what it may say, and how every mistake is told with its place."""

import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlatch import toml_lines
from unlatch.config import Loaded, NotifierSettings, Person, Settings, Tcp, Unix, load


def read(tmp_path: Path, text: str | bytes, **environ: str) -> Loaded:
    file = tmp_path / "unlatch.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(str(file), {"PATH": "/usr/bin:/bin", **environ}, os.getuid())


def told(tmp_path: Path, text: str | bytes) -> list[str]:
    """The mistakes of a file, without its name in front."""
    loaded = read(tmp_path, text)
    return [str(mistake).removeprefix(f"{loaded.path}") for mistake in loaded.mistakes]


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    """No configuration at all is loopback and nobody rung."""
    environ = {"HOME": str(tmp_path), "UNLATCH_CONFIG": "", "XDG_CONFIG_HOME": ""}
    loaded = load(None, environ, os.getuid())
    if not os.path.exists("/etc/unlatch/unlatch.toml"):
        assert loaded == Loaded(Settings(), (), "")


def test_a_full_file_is_read(tmp_path: Path) -> None:
    """Every key of the file ends up in the settings."""
    loaded = read(
        tmp_path,
        """
        public_url = "https://Unlock.Example.org/web03"
        listen = "unix:/run/unlatch-page/page.sock"
        listen_group = "caddy"
        allow_from = ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]
        allow_users = ["git", 1000]
        confirm_by_link = true
        link = { seconds = 600, views = 3, remind_after = 60 }
        quota = { open = 5, rings = 10 }
        audit.file = "/var/log/unlatch/audit.jsonl"
        [people.anna]
        users = ["git", "*"]
        notify = ["matrix", "here"]
        [notify.matrix]
        command = ["sh", "-c", "cat"]
        end_to_end = true
        seconds = 30
        [notify.here]
        terminal = true
        """,
    )
    assert loaded.mistakes == ()
    assert loaded.settings == Settings(
        public_url="https://unlock.example.org/web03/",
        listen=Unix("/run/unlatch-page/page.sock", "caddy", 0o660),
        allow_from=("10.0.0.0/8", "fd00::/8", "192.0.2.7/32"),
        allow_users=("git", "1000"),
        confirm_by_link=True,
        link_seconds=600,
        link_views=3,
        remind_after=60,
        quota_open=5,
        quota_rings=10,
        audit_file="/var/log/unlatch/audit.jsonl",
        people=(Person("anna", ("git", "*"), ("matrix", "here")),),
        notifiers=(
            NotifierSettings("matrix", "command", {"seconds": 30, "command": ("/usr/bin/sh", "-c", "cat")}, True),
            NotifierSettings("here", "terminal", {"seconds": 10, "terminal": True}, True),
        ),
        rules=(),
    )


def test_all_mistakes_are_told_at_once_with_line_key_and_accepted_values(tmp_path: Path) -> None:
    """One reading is enough to mend a file."""
    mistakes = told(
        tmp_path,
        """listen = "example.org:80"
allow_form = ["::1/128"]
[link]
views = "two"   # a text

[people.anna]
users = [
  "x y",
]
notify = ["matrx"]
[notify.matrix]
command = []
""",
    )
    assert [line.split(";")[0] for line in mistakes] == [
        ":1: listen: the host must be an address, because a name may turn into another address one day",
        ':2: allow_form: unknown key (did you mean "allow_from"?)',
        ":4: link.views: not accepted",
        ":7: people.anna.users: not accepted",
        ':10: people.anna.notify: no notifier is called "matrx" (did you mean "matrix"?)',
        ":12: notify.matrix.command: not accepted",
    ]
    assert all("accepted" in line for line in mistakes)


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        ("https://a.example", "https://a.example/"),
        ("https://a.example:8443/x/y/", "https://a.example:8443/x/y/"),
        ("http://localhost:8420", "http://localhost:8420/"),
        ("http://127.0.0.1/", "http://127.0.0.1/"),
        ("http://[::1]:80/x", "http://[::1]:80/x/"),
        ("HTTPS://A.example/Case", "https://a.example/Case/"),
    ],
)
def test_public_url_is_normalised(tmp_path: Path, value: str, normal: str) -> None:
    """The address ends with one slash, so that a ticket can be put behind it."""
    assert read(tmp_path, f'public_url = "{value}"').settings.public_url == normal


@pytest.mark.parametrize(
    "value",
    [
        "http://a.example/", "http://localhost.a.example/", "https://me:pw@a.example/", "https://a.example/?q", "https://a.example/#f",
        "ftp://a.example/", "a.example", "", "https://", "https://a.example:0/", "https://a.example:99999/", "https://a.example/x//y",
        "https://a.example/../x", "https://a.example/a b", "https://a.example/\\u0000", "https://a.example/\\n", "https://ä.example/",
    ],
)  # fmt: skip
def test_public_url_refuses_what_browsers_or_people_might_misread(tmp_path: Path, value: str) -> None:
    """Only https, or http on loopback; no user, query or fragment."""
    loaded = read(tmp_path, f'public_url = "{value}"')
    assert [mistake.key for mistake in loaded.mistakes] == ["public_url"]
    assert loaded.settings.public_url == Settings().public_url


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("127.0.0.1:0", Tcp("127.0.0.1", 0)),
        ("localhost:80", Tcp("localhost", 80)),
        ("[::1]:8420", Tcp("::1", 8420)),
        ("unix:/run/x.sock", Unix("/run/x.sock")),
    ],
)
def test_listen_places(tmp_path: Path, value: str, place: Tcp | Unix) -> None:
    """Addresses, localhost and Unix sockets can be listened on."""
    assert read(tmp_path, f'public_url = "https://a.example/"\nlisten = "{value}"').settings.listen == place


WRONG = """
listen = "127.0.0.1"
listen = ":80"
listen = "::1:80"
listen = "127.0.0.1:65536"
listen = "unix:x"
listen = "unix:/"
listen = 80
listen_group = "caddy"
allow_from = ["10.0.0.1/8"]
allow_from = ["10.0.0.0/33"]
allow_from = ["10.0.0.0/"]
allow_from = ["example.org"]
allow_from = []
allow_from = "::1"
allow_users = [-1]
allow_users = [true]
allow_users = ["a:b"]
confirm_by_link = 1
link.seconds = 0
link.seconds = true
link.seconds = 1.5
link.views = 21
link = 3
quota.open = 0
audit.file = "audit.jsonl"
people = []
people.a = 1
people.a.users = ["*"]
people.a = { users = [], notify = [] }
people."" = { users = ["*"], notify = [] }
notify = "x"
notify.a = 1
notify.a = {}
notify.a = { terminal = false }
notify.a = { terminal = true, command = ["sh"] }
notify.a.command = "sh"
notify.a.command = [""]
notify.a.command = ["sh", 1]
notify.a.command = ["./sh"]
notify.a.command = ["/nonexistent"]
rule = 1
rule = [1]
""".strip().splitlines()


@pytest.mark.parametrize("line", [*WRONG, f'listen = "unix:/{"x" * 107}"'])
def test_a_wrong_value_is_one_mistake_on_its_line(tmp_path: Path, line: str) -> None:
    """Types, ranges and forms are checked; the other keys are read all the same."""
    loaded = read(tmp_path, f"# a comment\n{line}\n")
    assert len(loaded.mistakes) == 1, loaded.mistakes
    assert loaded.mistakes[0].line == 2
    assert loaded.mistakes[0].text


def test_a_page_that_others_reach_needs_its_public_url(tmp_path: Path) -> None:
    """A link with a guessed address would help nobody."""
    assert "public_url is missing" in told(tmp_path, 'listen = "unix:/run/x.sock"')[0]
    assert "public_url is missing" in told(tmp_path, 'listen = "0.0.0.0:80"')[0]
    assert read(tmp_path, 'listen = "127.0.0.1:9000"').settings.public_url == "http://localhost:9000/"


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "127.0.0.5", "192.0.2.7"])
@pytest.mark.parametrize("name", ["localhost", "unlatch.localhost"])
def test_localhost_needs_both_its_addresses(tmp_path: Path, host: str, name: str) -> None:
    """A page at a name of localhost that listens elsewhere, or on all IPv4 addresses, leaves ::1 to somebody else."""
    (mistake,) = told(tmp_path, f'public_url = "http://{name}:8420/"\nlisten = "{host}:8420"')
    assert ":2: listen: " in mistake
    assert f"http://{name}" in mistake
    assert told(tmp_path, f'public_url = "http://{name}:8420/"\nlisten = "127.0.0.1:8420"') == []
    assert told(tmp_path, f'public_url = "https://unlock.example.org/"\nlisten = "{host}:8420"') == []


def test_a_bad_notifier_disables_itself_only(tmp_path: Path) -> None:
    """Its mistake is not fatal, and the people it serves keep their other notifiers."""
    loaded = read(
        tmp_path,
        'people.a = { users = ["*"], notify = ["bad", "good"] }\n'
        'notify.bad = { command = ["/nonexistent"] }\nnotify.good.command = ["/bin/sh"]\n',
    )
    assert [(mistake.key, mistake.fatal) for mistake in loaded.mistakes] == [("notify.bad.command", False)]
    assert [notifier.name for notifier in loaded.settings.notifiers] == ["good"]
    assert loaded.settings.people[0].notify == ("bad", "good")


def test_bad_rules_refuse_and_stop_no_broker(tmp_path: Path) -> None:
    """Without rules that can be read, askers must not guess."""
    loaded = read(tmp_path, "[[rule]]\naction = 'ring'\n[[rule]]\naction = 'rnig'\nuser_date = 'x'\n")
    assert loaded.settings.rules is None
    assert {mistake.line for mistake in loaded.mistakes} <= {3, 4, 5}
    assert loaded.mistakes
    assert not any(mistake.fatal for mistake in loaded.mistakes)


def test_good_rules_are_read_in_order(tmp_path: Path) -> None:
    """The two lines that replace web-pinentry's habit."""
    loaded = read(tmp_path, "[[rule]]\nuser_data = 'interactive'\naction = 'tty'\n[[rule]]\naction = 'ring'\n")
    assert loaded.mistakes == ()
    assert loaded.settings.rules is not None
    assert [rule.action for rule in loaded.settings.rules] == ["tty", "ring"]


@pytest.mark.parametrize(
    "key", ["password", "access_token", "notify.matrix.token", "notify.x.api_key", "secret", "link.PIN"]
)
def test_a_secret_in_the_file_is_a_mistake_that_does_not_repeat_it(tmp_path: Path, key: str) -> None:
    """The file is world-readable by design."""
    mistakes = " ".join(told(tmp_path, f'{key} = "hunter2"'))
    assert "$CREDENTIALS_DIRECTORY" in mistakes
    assert "hunter2" not in mistakes


@pytest.mark.parametrize(
    ("data", "place", "text"),
    [
        (b'listen = "127.0.0.1:1"\nlink = = 3\n', ":2:8:", "is not TOML"),
        (b"link = [\n", ":2:1:", "is not TOML"),
        (b"a = 1\nb = '\xff'\n", ":2:6:", "is not UTF-8"),
        (b"a = " + b"[" * 5000, ":", "nested too deeply"),
        (b"a = " + b"9" * 5000, ":", "is not TOML"),
        (b"#" * (1 << 20) + b"\n", ":", "is larger than"),
        (b"\xef\xbb\xbfa = 1\n", ":1:1:", "is not TOML"),
    ],
    ids=["syntax", "end", "utf-8", "deep", "huge number", "large", "bom"],
)
def test_an_unusable_file_is_one_fatal_mistake_and_no_rules(tmp_path: Path, data: bytes, place: str, text: str) -> None:
    """Line and column where there are any; askers refuse."""
    loaded = read(tmp_path, data)
    (mistake,) = loaded.mistakes
    assert mistake.fatal
    assert str(mistake).startswith(loaded.path + place)
    assert text in mistake.text
    assert loaded.settings == Settings(rules=None)


def test_what_is_no_plain_readable_file_is_told(tmp_path: Path) -> None:
    """A directory, a missing file, a fifo (which must not hang), a file that everybody may write."""
    os.mkfifo(tmp_path / "fifo")
    shared = tmp_path / "shared"
    shared.write_text("")
    shared.chmod(0o666)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o666
    for name, text in (("", "a directory"), ("no", "no such file"), ("fifo", "regular"), ("shared", "chmod go-w")):
        (mistake,) = load(str(tmp_path / name), {}, os.getuid()).mistakes
        assert text in mistake.text
    assert load("a\0b", {}, os.getuid()).mistakes[0].text == "cannot be read: not a path"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o664])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever writes it chooses the programs that a broker runs: the group too."""
    file = tmp_path / "unlatch.toml"
    file.write_text("")
    file.chmod(mode)
    (mistake,) = load(str(file), {}, os.getuid()).mistakes
    assert mistake.fatal
    assert mistake.text == 'others may write it; run "chmod go-w" on it'


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """It is root's, or the asking user's own."""
    file = tmp_path / "unlatch.toml"
    file.write_text("")
    assert load(str(file), {}, os.getuid()).mistakes == ()
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    assert load(str(file), {}, 1000).mistakes == ()
    os.chown(file, 54321, 0)
    for uid in (0, 1000):
        loaded = load(str(file), {}, uid)
        assert loaded.settings.rules is None
        (mistake,) = loaded.mistakes
        assert mistake.fatal
        assert "belongs to uid 54321" in mistake.text


def test_the_search_takes_the_first_that_exists(tmp_path: Path) -> None:
    """$UNLATCH_CONFIG, then XDG_CONFIG_HOME (absolute only), then ~/.config."""
    homes = [tmp_path / "xdg" / "unlatch", tmp_path / ".config" / "unlatch"]
    for folder in homes:
        folder.mkdir(parents=True)
        (folder / "unlatch.toml").write_text("")
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    if not os.path.exists("/etc/unlatch/unlatch.toml"):
        assert load(None, environ, os.getuid()).path == str(homes[0] / "unlatch.toml")
        assert load(None, environ | {"XDG_CONFIG_HOME": "xdg"}, os.getuid()).path == str(homes[1] / "unlatch.toml")
    assert load(None, environ | {"UNLATCH_CONFIG": "/nowhere"}, os.getuid()).path == "/nowhere"


def test_lines_are_found_through_all_that_hides_them() -> None:
    """Comments, strings over several lines, brackets in strings, dotted and quoted keys, arrays of tables."""
    text = '''# [not.a.table]
a = """
b = 1
""""  # ends with a quote of its own
c = ["]", '[', # ]
  { d = 1 } ]
"quoted key".'x.y'.z = \'\'\'
[no]\'\'\'
[t . "u"]  # comment
v = "\\\\" # a backslash
[[r]]
s = 1
[r.deep]
w = 1
[[r.sub]]
[[r]]
[[r.sub]]
q = 1
[[r.sub]]
'''
    lines = toml_lines.key_lines(text)
    assert lines == {
        ("a",): 2,
        ("c",): 5,
        **dict.fromkeys([("quoted key",), ("quoted key", "x.y"), ("quoted key", "x.y", "z")], 7),
        **dict.fromkeys([("t",), ("t", "u")], 9),
        ("t", "u", "v"): 10,
        **dict.fromkeys([("r",), ("r", 0)], 11),
        ("r", 0, "s"): 12,
        ("r", 0, "deep"): 13,
        ("r", 0, "deep", "w"): 14,
        **dict.fromkeys([("r", 0, "sub"), ("r", 0, "sub", 0)], 15),
        ("r", 1): 16,
        **dict.fromkeys([("r", 1, "sub"), ("r", 1, "sub", 0)], 17),
        ("r", 1, "sub", 0, "q"): 18,
        ("r", 1, "sub", 1): 19,
    }
    assert toml_lines.line_of(lines, ("c", "d", 3)) == 5
    assert toml_lines.line_of(lines, ("nowhere",)) == 0


@given(st.text(alphabet="ab=.[]{}\"'\\#\n 1,"))
def test_no_text_hangs_the_search_for_lines(text: str) -> None:
    """Any text ends the scan, although only accepted TOML is ever given."""
    toml_lines.key_lines(text)


def test_a_large_file_is_scanned_in_time() -> None:
    """A megabyte of keys is a matter of a second, not of minutes."""
    text = "".join(f'k{n} = "{"x" * 20}"\n' for n in range(30_000))
    start = time.monotonic()
    assert len(toml_lines.key_lines(text)) == 30_000
    assert time.monotonic() - start < 10


@given(st.binary(max_size=200))
def test_no_file_raises(data: bytes) -> None:
    """Whatever the file holds becomes mistakes."""
    descriptor = os.memfd_create("unlatch.toml")
    try:
        os.write(descriptor, data)
        os.fchmod(descriptor, 0o600)
        load(f"/proc/self/fd/{descriptor}", {}, os.getuid())
    finally:
        os.close(descriptor)
