"""The proxy's step, with the real programs, in directories like theirs: what is added, and what is left to people."""

import os
import subprocess
from pathlib import Path

import pytest
from real import real

from unlatch.settings import Tcp, Unix
from unlatch.setup import performing, proxy_step
from unlatch.setup.files import look
from unlatch.setup.journal import Journal
from unlatch.setup.places import Places
from unlatch.setup.snippets import page_at
from unlatch.setup.steps import Step

PAGE = page_at("https://unlock.example.org/web03/", Unix("/run/unlatch-page/page.sock"))
ELSEWHERE = "other.example.org {\n\trespond hello\n}\n"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A host's, with Debian's directories of both proxies, and no units of a package."""
    for program in ("caddy", "nginx"):
        real(program)
    (tmp_path / "caddy").mkdir()
    (tmp_path / "caddy" / "Caddyfile").write_text(ELSEWHERE)
    (tmp_path / "nginx" / "sites-enabled").mkdir(parents=True)
    return Places("host", str(tmp_path / "unlatch.toml"), str(tmp_path / "state"), str(tmp_path / "units"), (), "",
                  caddy=str(tmp_path / "caddy"), nginx=str(tmp_path / "nginx"))  # fmt: skip


def plan(places: Places, proxy: str = "caddy") -> Step:
    return proxy_step.plan(proxy, PAGE, places, group="caddy", reload=False)


def do(places: Places, step: Step) -> None:
    kept = Journal(places.journal)
    with kept.held():
        performing.perform([step], kept)


def adapted(places: Places) -> str:
    """What Caddy makes of the whole configuration."""
    config = f"{places.caddy}/Caddyfile"
    command = ["caddy", "adapt", "--adapter", "caddyfile", "--config", config]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_caddy_gets_a_site_of_its_own(places: Places) -> None:
    """A file beside the Caddyfile, one line that imports it; all else stays, and Caddy serves both. Once only."""
    do(places, plan(places))
    assert Path(places.caddy, "Caddyfile").read_text() == ELSEWHERE + "import unlatch.caddyfile\n"
    for name in ("other.example.org", "unlock.example.org", "unix//run/unlatch-page/page.sock"):
        assert name in adapted(places)
    assert "SocketGroup=caddy\n" in Path(places.socket_drop_in).read_text()
    assert plan(places).idle
    assert plan(places).notes == ()


def test_a_caddyfile_without_a_last_line_end_gets_one_in_between(places: Places) -> None:
    """Else the import would be a part of the last line."""
    Path(places.caddy, "Caddyfile").write_text(ELSEWHERE.rstrip("\n"))
    do(places, plan(places))
    assert Path(places.caddy, "Caddyfile").read_text() == ELSEWHERE + "import unlatch.caddyfile\n"
    assert "unlock.example.org" in adapted(places)


def test_a_site_of_that_name_that_is_there_is_not_touched(places: Places) -> None:
    """Two sites of one name are none to Caddy: the block for the existing one is shown, and where it goes."""
    mine = "unlock.example.org {\n\trespond hello\n}\n"
    Path(places.caddy, "Caddyfile").write_text(mine)
    step = plan(places)
    assert [change.path for change in step.changes if "caddy" in change.path] == []
    assert step.shown == "handle_path /web03/* {\n\treverse_proxy unix//run/unlatch-page/page.sock\n}\n"
    assert "ambiguous site definition" in step.notes[0]
    # The person does that; then it is settled.
    Path(places.caddy, "Caddyfile").write_text(mine.replace("\trespond hello\n", step.shown))
    step = plan(places)
    assert (step.shown, step.notes) == ("", ())


def test_a_caddyfile_that_imports_others_is_seen_whole(places: Places) -> None:
    """The same name may stand in a file that it imports."""
    Path(places.caddy, "sites").mkdir()
    Path(places.caddy, "sites", "mine").write_text("unlock.example.org {\n\trespond hello\n}\n")
    Path(places.caddy, "Caddyfile").write_text("import sites/*\n")
    assert "ambiguous site definition" in plan(places).notes[0]


def test_without_a_caddyfile_the_site_is_shown(places: Places) -> None:
    """Whoever runs Caddy otherwise knows where it belongs."""
    Path(places.caddy, "Caddyfile").unlink()
    step = plan(places)
    assert step.shown.startswith("unlock.example.org {\n")
    assert "put this into" in step.notes[0]


def test_nginx_gets_a_snippet(places: Places) -> None:
    """The server block, and its certificate, are the administrator's: the line to add is said until it is there."""
    step = plan(places, "nginx")
    do(places, step)
    snippet = Path(places.nginx, "snippets", "unlatch.conf")
    assert "proxy_pass http://unix:/run/unlatch-page/page.sock:/;" in snippet.read_text()
    assert 'add "include snippets/unlatch.conf;" to the server block' in step.notes[0]
    again = plan(places, "nginx")
    assert again.idle
    assert len(again.notes) == 1
    Path(places.nginx, "sites-enabled", "unlock").write_text("server { include snippets/unlatch.conf; }\n")
    assert plan(places, "nginx").notes == ()
    snippet.write_text("old")
    assert "$ systemctl reload nginx" in plan(places, "nginx").notes[0]


@pytest.mark.parametrize(
    ("conf", "group"),
    [("user www-data;\n", "www-data"), ("  user  nobody   daemon ;\n", "daemon"), ("events {}\n", "www-data")],
)
def test_nginx_says_as_whom_it_runs(places: Places, conf: str, group: str) -> None:
    """That group may open the page's socket."""
    Path(places.nginx, "nginx.conf").write_text(conf)
    assert proxy_step.group_of("nginx", places) == group


def test_another_users_own_proxy_configuration_is_only_shown(places: Places) -> None:
    """Without root nothing of the proxy's can be written."""
    own = places._replace(scope="own")
    for proxy in ("caddy", "nginx"):
        page = PAGE._replace(place=Tcp("127.0.0.1", 8420))
        step = proxy_step.plan(proxy, page, own, group="", reload=True)
        assert step.changes == ()
        assert "127.0.0.1:8420" in step.shown


def test_a_link_in_place_of_the_caddyfile_is_told_of(places: Places, tmp_path: Path) -> None:
    """It is not replaced by a file, and what it leads to is not written to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(ELSEWHERE)
    Path(places.caddy, "Caddyfile").unlink()
    Path(places.caddy, "Caddyfile").symlink_to(elsewhere)
    with pytest.raises(Exception, match="is a symbolic link"):
        plan(places)
    assert elsewhere.read_text() == ELSEWHERE


def test_validating_leaves_nothing_behind(places: Places) -> None:
    """Caddy makes the log files that a configuration names when it validates one, as whoever asks; it is not asked."""
    log = f"{places.caddy}/access.log"
    Path(places.caddy, "Caddyfile").write_text(f"other.example.org {{\n\tlog {{\n\t\toutput file {log}\n\t}}\n}}\n")
    before = {path: look(path) for path in (f"{places.caddy}/Caddyfile",)}
    plan(places)
    assert os.listdir(places.caddy) == ["Caddyfile"]
    assert {path: look(path) for path in before} == before
