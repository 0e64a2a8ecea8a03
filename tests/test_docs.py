"""What README and docs say, held against the code: settings, commands, links, scripts, proxy snippets, named tests."""

import http.server
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from unlatch import config
from unlatch.broker.records import State
from unlatch.cli.main import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/**/*.md"))]


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str


def blocks(language: str) -> list[Block]:
    """All fenced blocks of one language, in README and docs."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in fence.finditer(text):
            if match[1] == language:
                found.append(Block(page.name, text.count("\n", 0, match.start()) + 1, language, match[2]))
    return found


def named(block: Block) -> str:
    return f"{block.page}:{block.line}"


@pytest.mark.parametrize("block", blocks("toml"), ids=named)
def test_settings(block: Block, tmp_path: Path) -> None:
    """Every example of unlatch.toml is accepted without a single mistake."""
    text = block.text
    for program in re.findall(r'command = \["(/[^"]+)"', text):
        stand_in = tmp_path / Path(program).name  # config.load wants the program to exist
        stand_in.write_text("#!/bin/sh\n")
        stand_in.chmod(0o755)
        text = text.replace(program, str(stand_in))
    file = tmp_path / "unlatch.toml"
    file.write_text(text)
    assert [str(mistake) for mistake in config.load(str(file), {}, os.getuid()).mistakes] == []


COMMAND = r"(?:^|[\s/|(\"])(unlatch(?: +[a-z-][\w=-]*)+)"


def commands() -> list[tuple[str, str]]:
    """Every ``unlatch ...`` in a code span, a fenced shell block or an indented block, with its page."""
    found = set()
    for page in PAGES:
        text = page.read_text()
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        code = re.findall(r"`([^`]+)`", prose) + re.findall(r"^    (\S.*)$", prose, re.MULTILINE)
        code += [line for fenced in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S) for line in fenced.split("\n")]
        for line in code:
            if not line.startswith(("#", "install ", "ln ", "rm ", "systemctl ")):
                found |= {(page.name, match) for match in re.findall(COMMAND, line.split(" #")[0])}
    return sorted(found)


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands(page: str, line: str) -> None:
    """Every command that is named exists and has the options that are named."""
    command: click.Command = cli
    path = []
    for word in re.findall(r"[^\s\[\]]+", line)[1:]:
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        if word.startswith("-"):
            assert word.split("=")[0] in options | {"--help"}, f"{line}: {' '.join(path)} has no {word}"
        elif isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
            assert found is not None, f"{line}: there is no command {word}"
            command = found
            path.append(word)


def slug(heading: str) -> str:
    """The anchor that forges make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Every relative link leads to a file of this repository, and to a heading that is there."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.is_relative_to(ROOT), target
        assert file.exists(), target
        if anchor:
            assert anchor in {slug(line) for line in re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)}, target


@pytest.mark.parametrize("block", blocks("sh"), ids=named)
def test_shell(block: Block) -> None:
    """Every shell block is at least a shell's syntax."""
    subprocess.run(["sh", "-n"], input=block.text, text=True, check=True, timeout=10)


@pytest.mark.parametrize("block", blocks("caddyfile"), ids=named)
def test_caddyfile(block: Block, tmp_path: Path) -> None:
    """Every Caddyfile block is one that Caddy would load."""
    file = tmp_path / "Caddyfile"
    file.write_text(block.text)
    places = {name: str(tmp_path / name) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    command = ["caddy", "validate", "--adapter", "caddyfile", "--config", str(file)]
    done = subprocess.run(command, env=os.environ | places, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_make_words() -> None:
    """Every make word that is named is one of the Makefile's."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for line in re.findall(r"`make ([^`]+)`|^    make (.+)$", page.read_text(), re.MULTILINE):
            words = "".join(line).split()
            assert {word for word in words if "=" not in word} <= targets, f"{page.name}: make {''.join(line)}"


def test_named_files() -> None:
    """Every file of this repository that a shell block installs or a text names is there."""
    for page in PAGES:
        for name in re.findall(
            r"(?<![\w/.])((?:systemd|man|tests|src|tools|scripts)/[\w./*-]*[\w*])", page.read_text()
        ):
            assert list(ROOT.glob(name)) or "KIND" in name, f"{page.name}: {name}"


def test_named_tests() -> None:
    """Every test that the threat model calls a witness exists."""
    text = (ROOT / "docs/threat-model.md").read_text()
    witnesses = re.findall(r"`(tests/[\w.]+\.py)(?:::(\w+))?`", text)
    assert len(witnesses) >= 15
    for file, name in witnesses:
        assert (ROOT / file).exists(), file
        assert not name or re.search(rf"def {name}\(", (ROOT / file).read_text()), f"{file}::{name}"


def test_states() -> None:
    """The design's table of states has the states of the code, in their order."""
    text = (ROOT / "docs/design.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [state.value for state in State]


class _Inbox(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.headers, json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def inbox() -> Iterator[http.server.HTTPServer]:
    """A stand-in for an ntfy server on loopback."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Inbox) as server:
        server.received = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


NOTICE = {
    "event": "ring", "id": "1", "link": "https://unlock.example.org/web03/TICKET#FRAGMENT", "words": ["acorn", "zebra"],
    "host": "web03", "user": "postgres", "uid": 999, "person": "alex", "kind": "passphrase", "title": 'Key "sql" \\ ü',
    "text": "line\nline", "command": "pass", "unit": "db.service", "expires": "2026-01-01T03:00:00Z", "quiet": False,
    "outcome": "",
}  # fmt: skip


def test_notifier_script(inbox: http.server.HTTPServer, tmp_path: Path) -> None:
    """The ntfy script sends link and words in its body, tells of the end, and never puts the link into an argument."""
    script = next(block.text for block in blocks("sh") if "ntfy.headers" in block.text and block.text.startswith("#!"))
    headers = tmp_path / "headers"
    headers.write_text("Authorization: Bearer tk_example\n")
    script = script.replace("https://ntfy.example.org", f"http://127.0.0.1:{inbox.server_port}")
    script = script.replace("/etc/unlatch/ntfy.headers", str(headers))
    program = tmp_path / "notify-ntfy"
    program.write_text(script)
    # In place of the two programs that it calls: one that writes its arguments down first.
    for name in ("jq", "curl"):
        spy = tmp_path / "bin" / name
        spy.parent.mkdir(exist_ok=True)
        spy.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/argv\nexec /usr/bin/{name} "$@"\n')
        spy.chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    other = {"link": "https://unlock.example.org/web03/OTHER#FRAGMENT", "words": ["beach", "yodel"], "user": "mail",
             "title": "Key mail", "command": "", "unit": "", "outcome": ""}  # fmt: skip
    listed = {"more": [other, other | {"link": "", "outcome": "denied"}], "page_trouble": "name: unknown"}
    for notice in (NOTICE | listed, NOTICE | {"event": "end", "link": "", "outcome": "accepted"}):
        subprocess.run(["sh", str(program)], input=json.dumps(notice), text=True, env=environ, timeout=30, check=True)
    (sent, ring), (_, end) = inbox.received  # type: ignore[attr-defined]
    assert sent["Authorization"] == "Bearer tk_example"
    assert ring["click"] == NOTICE["link"]
    assert ring["title"] == 'postgres@web03: Key "sql" \\ ü'
    assert "acorn zebra" in ring["message"]
    assert "beach yodel https://unlock.example.org/web03/OTHER#FRAGMENT" in ring["message"]
    assert "mail: Key mail: denied" in ring["message"]
    assert "page not reachable yet: name: unknown" in ring["message"]
    assert end["message"] == "acorn zebra: accepted"
    arguments = (tmp_path / "argv").read_text()
    assert "curl" in arguments
    assert "FRAGMENT" not in arguments


def test_faults() -> None:
    """What is said of a damaged secret stands in its page, for each of the faults that are tested."""
    text = (ROOT / "docs/secrets.md").read_text()
    faults = json.loads((ROOT / "tests/vectors/secrets/faults.json").read_text())
    assert len(faults) >= 40
    for said in {fault["says"] for fault in faults}:
        assert said.removeprefix("malformed") != said or said in text, said
