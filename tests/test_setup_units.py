"""What setup looks at before it names a pinentry, and the units of a user's own broker under a real systemd."""

from pathlib import Path

import private_systemd
import pytest
from house import PINENTRY, UNLATCH
from real import real

from unlatch.setup import pinentry_program, program_paths, unit_files, units_step
from unlatch.setup.places import Places

ENVIRON = {"PATH": "/usr/bin:/bin", "HOME": "/"}


def test_a_pinentry_that_works(tmp_path: Path) -> None:
    """This installation's; also through a link, and at a path with spaces."""
    assert pinentry_program.fault(str(PINENTRY), ENVIRON) == ""
    link = tmp_path / "a link with spaces"
    link.symlink_to(PINENTRY)
    assert pinentry_program.fault(str(link), ENVIRON) == ""


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("~/pinentry-unlatch", "does not know ~"),
        ("pinentry-unlatch", "must be absolute"),
        (f"{PINENTRY} ", "cannot read such a path back"),
        (f"{PINENTRY}\n", "cannot read such a path back"),
        ("/no/such/pinentry", "there is no such file"),
        (f"{PINENTRY} --option", "would belong to its name, as an argument or a comment"),
        (f"{PINENTRY} # comment", "would belong to its name, as an argument or a comment"),
        (str(PINENTRY.parent), "not a regular file"),
        ("/etc/passwd", "cannot execute it"),
        ("/usr/bin/pinentry-curses", "another pinentry"),
        ("/usr/bin/false", "ends at once"),
    ],
)
def test_a_pinentry_that_gpg_agent_could_not_use(path: str, why: str) -> None:
    """Each way to get "No pinentry" is found before the line is written, and said in words."""
    assert why in pinentry_program.fault(path, ENVIRON)


def test_a_pinentry_whose_interpreter_is_gone(tmp_path: Path) -> None:
    """As after an upgrade of the system's Python."""
    program = tmp_path / "pinentry-unlatch"
    program.write_text("#!/no/such/python\n")
    program.chmod(0o755)
    assert "interpreter is gone" in pinentry_program.fault(str(program), ENVIRON)
    program.write_text('#!/bin/sh\necho "OK"\nexec /no/such/python\n')
    assert pinentry_program.fault(str(program), ENVIRON)


def test_the_stable_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link of the system's to this very installation is taken; another installation's is not."""
    ours, system = tmp_path / "ours", tmp_path / "system"
    for folder in (ours, system):
        folder.mkdir()
        (folder / "unlatch").touch()
    monkeypatch.setattr(program_paths, "_STABLE", (str(system),))
    assert program_paths.find("unlatch", str(ours)) == f"{ours}/unlatch"
    (system / "unlatch").unlink()
    (system / "unlatch").symlink_to(ours / "unlatch")
    assert program_paths.find("unlatch", str(ours)) == f"{system}/unlatch"
    with pytest.raises(program_paths.NotInstalled):
        program_paths.find("pinentry-unlatch", str(ours))


@pytest.mark.parametrize("manager", ["system", "user"])
def test_the_units_that_are_written_start_this_installation(manager: str) -> None:
    """All of them; nothing of the source tree's own path is left."""
    texts = unit_files.units(manager, "/opt/unlatch/bin/unlatch")
    folder = Path(__file__).parents[1] / "systemd" / manager
    assert texts.keys() == {path.name for path in folder.glob("unlatch*")}
    assert {"unlatch.service", "unlatch.socket", "unlatch-admin.socket", "unlatch-key@.service"} <= texts.keys()
    assert "ExecStart=/opt/unlatch/bin/unlatch serve" in texts["unlatch.service"]
    assert not any("/usr/local/bin" in text for text in texts.values())


def test_the_same_units_of_others_are_extended_as_by_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the one agent of each user; what extends them is installed with the units."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "tools"))
    import deb

    wanted = {f"{unit}.d/unlatch.conf" for units in deb.DROP_INS.values() for unit in units}
    assert unit_files.drop_ins().keys() == wanted


def places(folder: Path, scope: str = "host") -> Places:
    return Places(scope, f"{folder}/unlatch.toml", f"{folder}/state", f"{folder}/units", (), f"{folder}/none",  # type: ignore[arg-type]
                  f"{folder}/sysusers.conf")  # fmt: skip


def test_what_lies_in_a_home_is_no_program_for_a_service(tmp_path: Path) -> None:
    """The broker's sandbox does not see it; that is said before anything is written."""
    with pytest.raises(units_step.NotForService, match="in somebody's home"):
        units_step.plan_files(places(tmp_path), "/home/alex/venv/bin/unlatch")


def test_systemd_is_asked_about_the_units(tmp_path: Path) -> None:
    """A program that is not there is what it would complain of; nothing is written then."""
    real("systemd-analyze")
    with pytest.raises(units_step.BadUnits, match="not executable"):
        units_step.plan_files(places(tmp_path), "/no/such/unlatch")
    step = units_step.plan_files(places(tmp_path), str(UNLATCH))
    assert {Path(change.path).name for change in step.changes} >= {"unlatch.service", "unlatch.socket", "units"}
    assert not (tmp_path / "units").exists()


ENABLED = """
os.makedirs(sys.argv[2] + "/gnupg", mode=0o700)
# A page that no other test can be in the way of.
os.makedirs(sys.argv[2] + "/.config/unlatch")
with open(sys.argv[2] + "/.config/unlatch/unlatch.toml", "w") as file:
    print('public_url = "https://unlock.test/"\\nlisten = "unix:' + sys.argv[2] + '/page.sock"', file=file)
# UNLATCH_RUNTIME_DIR makes even root one of many users; the units do not hear of it.
known = {{"HOME": environ["HOME"], "PATH": environ["PATH"], "GNUPGHOME": sys.argv[2] + "/gnupg",
         "UNLATCH_RUNTIME_DIR": sys.argv[2] + "/run"}}

def setup(*options):
    done = subprocess.run([{unlatch!r}, "setup", *options, "--yes"], env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout

def active():
    return systemctl("is-active", "unlatch.service", "unlatch.socket", "unlatch-admin.socket").split()

options = ("--units", "--notify", "none", "--cache-hours", "0")
setup(*options)
running = active()
again = setup(*options)
undone = setup("--undo")
print(json.dumps({{"running": running, "again": again, "undone": undone, "stopped": active(),
                  "left": os.listdir(environ["HOME"] + "/.config")}}))
"""


def test_a_users_own_units_run_under_their_systemd(tmp_path: Path) -> None:
    """Written, started, found to be there by a second run; undone, they are stopped and gone."""
    said = private_systemd.run(ENABLED.format(unlatch=str(UNLATCH)), tmp_path)
    assert said == {
        "running": ["active"] * 3,
        "again": "nothing to do\n",
        "undone": "undone\n",
        "stopped": ["inactive"] * 3,
        "left": ["unlatch"],
    }
