"""What setup writes: unlatch.toml, notifiers, the proxy's configuration. Texts in, texts out."""

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real import real

from unlatch import config
from unlatch.settings import Tcp, Unix, public_url
from unlatch.setup import config_step, new_notifiers, proxy_check, snippets, toml_edit
from unlatch.setup.config_step import Wanted, merge
from unlatch.setup.new_notifiers import NewNotifier

NTFY = NewNotifier("ntfy", {"apprise": "ntfys://ntfy.example.org/alex?priority=max"})
EVERYTHING = Wanted("https://unlock.example.org/web03/", "unix:/srv/a/page.sock", "alex", (NTFY,), ("172.17.0.0/16",))


def mistakes(text: str, tmp_path: Path) -> list[str]:
    file = tmp_path / "unlatch.toml"
    file.write_text(text)
    return [str(mistake) for mistake in config.load(str(file), os.environ, os.getuid()).mistakes]


def test_a_new_file_says_all_that_was_asked_for(tmp_path: Path) -> None:
    """And the broker takes it."""
    text = merge("", EVERYTHING).text
    assert mistakes(text, tmp_path) == []
    assert tomllib.loads(text) == {
        "public_url": "https://unlock.example.org/web03/",
        "listen": "unix:/srv/a/page.sock",
        "allow_from": ["127.0.0.0/8", "::1/128", "172.17.0.0/16"],
        "people": {"alex": {"users": ["*"], "notify": ["ntfy"]}},
        "notify": {"ntfy": {"apprise": "ntfys://ntfy.example.org/alex?priority=max"}},
    }
    assert text.startswith("# ")


def test_nothing_asked_for_is_no_file() -> None:
    """A file of defaults would only be one more thing to read."""
    assert merge("", Wanted()).text == ""


EXISTING = """\
# our unlock page
link = { seconds = 60 }
public_url = "https://other.example.org/"   # by hand

# the night shift
[people.alex]
users = ["deploy"]
notify = ["mail"]  # for now

[notify.mail]
command = ["/bin/true"]
"""


def test_an_existing_file_only_gets_what_is_missing() -> None:
    """Every line of it stays, comments and all; what is different is told and stays."""
    merged = merge(EXISTING, EVERYTHING)
    assert merged.notes == ("public_url is 'https://other.example.org/' there already, and stays so",)
    assert merged.text == EXISTING.replace(
        "# by hand\n",
        '# by hand\nlisten = "unix:/srv/a/page.sock"\nallow_from = ["127.0.0.0/8", "::1/128", "172.17.0.0/16"]\n',
    ).replace('["mail"]', '["mail", "ntfy"]') + (
        '\n[notify.ntfy]\napprise = "ntfys://ntfy.example.org/alex?priority=max"\n'
    )


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("people = { alex = { users = ['*'], notify = [] } }\nnotify = {}\n", "add ntfy in notify of [people.alex]"),
        ('[people.alex]\nusers = ["*"]\nnotify = [\n "mail",\n]\n', "add ntfy in notify of [people.alex]"),
        ("allow_from = [\n]\n", "add 172.17.0.0/16 in allow_from"),
        ("[notify.ntfy]\nterminal = true\n", "[notify.ntfy] is there already, and stays as it is"),
    ],
)
def test_what_is_written_otherwise_is_left_to_the_person(text: str, note: str) -> None:
    """An edit that is not understood is not made; the note says what to add."""
    merged = merge(text, EVERYTHING)
    assert any(note in each for each in merged.notes), merged.notes
    assert all(line in merged.text.splitlines() for line in text.splitlines())


NAMES = st.text(st.characters(blacklist_categories=["C", "Z"]), min_size=1, max_size=8)
LINES = st.sampled_from(
    ['public_url = "https://a.example/"', "# [not.a.table]", "", "  # x", 'listen = "127.0.0.1:1"', "probe = false",
     'audit.file = "/x"', 'allow_from = ["10.0.0.0/8"]  # ours', "[link]", "seconds = 60", "[[rule]]",
     'action = "ring"', "[people.alex]", 'users = ["*"]', "notify = []", "notify = ['mail', ]", "[notify.mail]",
     "terminal = true", 'command = ["/bin/true", """\n[x]\n"""]']
)  # fmt: skip


@given(st.lists(LINES, max_size=9).map("\n".join), st.sampled_from(["", "\n"]), NAMES, st.sampled_from(["\n", "\r\n"]))
def test_for_any_file(text: str, end: str, person: str, ending: str) -> None:
    """Merging again changes nothing; no line is lost or reordered; what was there means what it meant."""
    text = (text + end).replace("\n", ending)
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    if not all(isinstance(before.get(name, {}), dict) for name in ("people", "notify")):
        return
    merged = merge(text, EVERYTHING._replace(person=person))
    after = tomllib.loads(merged.text)
    assert merge(merged.text, EVERYTHING._replace(person=person)).text == merged.text
    assert {**after, **{key: value for key, value in before.items() if not isinstance(value, dict | list)}} == after
    lines = iter(merged.text.split("\n"))
    assert all(
        any(line.rstrip("\r") == other.rstrip("\r") or "notify" in line or "allow_from" in line for other in lines)
        for line in text.split("\n")
        if line.strip()
    )


def test_a_text_that_would_mean_something_else_is_not_written() -> None:
    """A table that is there, a key that is there: nothing is written twice."""
    with pytest.raises(toml_edit.NotUnderstood):
        toml_edit.add_key("a = 1\n", "a", "x")
    with pytest.raises(toml_edit.NotUnderstood):
        toml_edit.add_table("[a.b]\n", ("a", "b"), {"c": "d"})
    with pytest.raises(toml_edit.NotUnderstood):
        toml_edit.add_table("a = 1\n", ("a", "b"), {"c": "d"})


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("ntfy=unlatch-alex", {"apprise": "ntfys://ntfy.sh/unlatch-alex?priority=max"}),
        ("ntfy=https://ntfy.example.org/alex", {"apprise": "ntfys://ntfy.example.org/alex?priority=max"}),
        ("ntfy=http://localhost:8080/alex", {"apprise": "ntfy://localhost:8080/alex?priority=max"}),
        (
            "ntfy=ntfys://ntfy.example.org/alex?priority=high",
            {"apprise": "ntfys://ntfy.example.org/alex?priority=high"},
        ),
        ("command=/bin/true --flag 'a b'", {"command": ["/bin/true", "--flag", "a b"]}),
        ("apprise=/etc/unlatch/phone.url", {"apprise_file": "/etc/unlatch/phone.url"}),
        ("matrix", {"matrix": True}),
        ("terminal", {"terminal": True}),
    ],
)
def test_notifiers_that_can_be_asked_for(text: str, table: dict[str, object], tmp_path: Path) -> None:
    """Each becomes a table that the broker takes."""
    made = new_notifiers.make(*new_notifiers.split(text))
    assert made.table == table
    assert mistakes(merge("", Wanted(person="alex", notifiers=(made,))).text, tmp_path) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pager", "no kind of notifier"),
        ("ntfy=tk_secret@ntfy.example.org/alex", "accepted: an ntfy topic"),
        ("ntfy=https://tk_secret@ntfy.example.org/alex", "credential"),
        ("ntfy=https://ntfy.example.org/", "accepted: an ntfy topic"),
        ("ntfy=https://ntfy.example.org/a/b", "accepted: an ntfy topic"),
        ("command=notify", "absolute path"),
        ("command=/no/such/program", "is no program"),
        ("command='", "absolute path"),
        ("apprise=tgram://TOKEN", "absolute path"),
    ],
)
def test_notifiers_that_cannot_be(text: str, why: str) -> None:
    """It is said why, before anything is done."""
    with pytest.raises(ValueError, match=why):
        new_notifiers.make(*new_notifiers.split(text))


def test_a_topic_is_not_guessed() -> None:
    """It has 120 bits, and the characters that ntfy allows."""
    assert new_notifiers.new_topic() != new_notifiers.new_topic()
    assert new_notifiers.make("ntfy", new_notifiers.new_topic(lambda count: b"\xff" * count))


PAGES = [
    (url, place)
    for url in (
        "https://unlock.example.org/web03/",
        "https://unlock.example.org/",
        "https://unlock.example.org:8443/a/b/",
    )
    for place in (Unix("/run/unlatch-page/page.sock"), Tcp("127.0.0.1", 8420), Tcp("::1", 8420))
]


@pytest.mark.parametrize(("url", "place"), PAGES)
def test_the_proxies_take_what_is_written_for_them(url: str, place: Tcp | Unix) -> None:
    """``caddy validate`` and ``nginx -t`` say so, and say what is wrong with a bad one."""
    real("caddy")
    real("nginx")
    page = snippets.page_at(public_url(url), place)
    assert proxy_check.caddy_site(snippets.caddy_site(page)) == ""
    assert proxy_check.nginx_location(snippets.nginx_location(page)) == ""


def test_a_proxy_that_does_not_take_it_says_why() -> None:
    """Its own last line is what people can search for."""
    assert "unrecognized directive" in proxy_check.caddy_site("a.example.org {\n\treverse_prox x\n}\n")
    assert "proxy_pas" in proxy_check.nginx_location("location / {\n    proxy_pas http://x;\n}\n")


def test_the_documentation_shows_the_same_snippets() -> None:
    """Who reads how to do it by hand gets what setup writes."""
    text = (Path(__file__).parents[1] / "docs" / "installation.md").read_text()
    page = snippets.page_at("https://unlock.example.org/web03/", Unix("/run/unlatch-page/page.sock"))
    assert snippets.caddy_site(page) in text
    assert snippets.nginx_location(page) in text


def test_the_broker_decides_what_a_good_file_is() -> None:
    """A text that it would not take is never planned; the mistake names the file that it would have been."""
    with pytest.raises(Exception, match="mistakes") as raised:
        config_step.check("/etc/unlatch/unlatch.toml", "listen = 5\n", os.environ, os.getuid())
    assert raised.value.mistakes[0].startswith("/etc/unlatch/unlatch.toml:1: listen")  # type: ignore[attr-defined]
