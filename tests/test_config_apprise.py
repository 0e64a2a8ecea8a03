"""[notify.NAME] with Apprise: which URLs may stand in a file that everybody reads, and where the others belong."""

import json
from pathlib import Path

import pytest

from unlatch.config import Loaded, NotifierSettings, load

CANARY = "tk_canary77"


def read(tmp_path: Path, line: str) -> Loaded:
    file = tmp_path / "unlatch.toml"
    file.write_text(f"[notify.phone]\n{line}\n")
    return load(str(file), {"PATH": "/usr/bin:/bin"}, 1000)


@pytest.mark.parametrize(
    "url",
    [
        "ntfy://localhost/topic",
        "ntfys://ntfy.example.org:8443/unlatch-alex?priority=max&tags=key",
        "mailto://mail.example.org:25?from=unlatch@example.org&to=alex@example.org",
        "mailtos://alex@mail.example.org?mode=starttls",
    ],
)
def test_a_url_without_a_credential_may_stand_in_the_file(tmp_path: Path, url: str) -> None:
    """It is no more secret than the rest of it."""
    loaded = read(tmp_path, f"apprise = {json.dumps(url)}")
    assert loaded.mistakes == ()
    options = {"apprise": url, "seconds": 10}
    assert loaded.settings.notifiers == (NotifierSettings("phone", "apprise", options, False),)


@pytest.mark.parametrize(
    "url",
    [
        f"ntfy://{CANARY}@localhost/topic",
        f"ntfy://alex:{CANARY}@localhost/topic",
        f"ntfy://localhost/topic?token={CANARY}",
        f"ntfy://localhost/topic?AUTH={CANARY}",
        f"ntfy://localhost/topic?+X-Token={CANARY}",
        f"mailto://alex:{CANARY}@example.org",
        f"mailto://example.org?from=a@example.org&pass={CANARY}",
        f"tgram://{CANARY}/1234",
        f"slack://{CANARY}/b/c",
        f"gotify://localhost/{CANARY}",
        f"pover://user@{CANARY}",
        f"json://localhost/{CANARY}",
        f"https://hooks.slack.com/services/{CANARY}/b/c",
    ],
)
def test_a_url_with_a_credential_may_not(tmp_path: Path, url: str) -> None:
    """Most services want a token, each in another place: what is not known to have none belongs into a file. The
    mistake says so, disables this notifier only, and does not repeat the URL.
    """
    loaded = read(tmp_path, f"apprise = {json.dumps(url)}")
    (mistake,) = loaded.mistakes
    assert 'apprise_file = "/etc/unlatch/NAME.url"' in mistake.text
    assert CANARY not in str(mistake)
    assert not mistake.fatal
    assert loaded.settings.notifiers == ()


@pytest.mark.parametrize(
    "url", ["matrix://u:p@localhost/!r", "Matrixs://localhost", "https://webhooks.t2bot.io/api/v1/matrix/hook/x"]
)
def test_apprises_matrix_plugin_is_refused(tmp_path: Path, url: str) -> None:
    """With the reason, and what to use instead."""
    (mistake,) = read(tmp_path, f"apprise = {json.dumps(url)}").mistakes
    assert "it can fall back to plaintext in an encrypted room and still report success" in mistake.text


@pytest.mark.parametrize(
    "line",
    [
        'apprise = ""',
        'apprise = "localhost"',
        'apprise = "ntfy://a/b ntfy://c/d"',
        'apprise = ["ntfy://a/b"]',
        'apprise = "syslog://"',
        'apprise_file = "relative.url"',
        'apprise_credential = "../escape"',
        'apprise_credential = ".."',
        'apprise_command = ["no-such-program-anywhere"]',
        'apprise_command = "cat x"',
        'apprise = "ntfy://localhost/topic"\ncommand = ["cat"]',
    ],
)
def test_other_mistakes(tmp_path: Path, line: str) -> None:
    """One each, and no notifier."""
    loaded = read(tmp_path, line)
    assert len(loaded.mistakes) == 1
    assert loaded.settings.notifiers == ()


def test_a_file_that_everybody_may_read_is_a_mistake(tmp_path: Path) -> None:
    """Found when the settings are read; a file that is not there yet, or not to be seen, is none."""
    kept = tmp_path / "alex.url"
    line = f'apprise_file = "{kept}"'
    assert read(tmp_path, line).mistakes == ()
    kept.write_text(f"tgram://{CANARY}/1234\n")
    kept.chmod(0o644)
    (mistake,) = read(tmp_path, line).mistakes
    assert mistake.text.startswith(f'everybody may read {kept}; run "chmod o= {kept}"')
    kept.chmod(0o640)
    assert read(tmp_path, line).mistakes == ()


def test_the_other_places(tmp_path: Path) -> None:
    """A command is found on $PATH; a credential is a name."""
    (notifier,) = read(tmp_path, 'apprise_command = ["cat", "/etc/unlatch/alex"]\nseconds = 30').settings.notifiers
    assert notifier.options == {"apprise_command": ("/usr/bin/cat", "/etc/unlatch/alex"), "seconds": 30}
    (notifier,) = read(tmp_path, 'apprise_credential = "alex.url"').settings.notifiers
    assert (notifier.kind, notifier.end_to_end) == ("apprise_credential", False)
