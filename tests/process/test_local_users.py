"""Other users of the machine: none can read what we record, keep us from it, lead us elsewhere or speak for us.

Each user is a process of its own that has become that user. Only root can arrange that.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyjama_instrument.errors import StoreUnavailable
from pyjama_instrument.reader import get_dashboard_data
from pyjama_instrument.storage.store_directory import Store
from tests.conftest import RunPython
from tests.process.children import HANG_SECONDS, line_from, started, tell
from tests.stores import Writer

ANN, EVE = 65534, 12345

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")

RECORD = """
import os, sys
os.umask(int(os.environ.get("UMASK", "022"), 8))
from pyjama_instrument import agent_session, flush, tool
from pyjama_instrument.storage import compaction  # the interpreter's own files are out of reach from now on
import hashlib, json, socket, encodings.idna
os.setgroups([])
os.setgid(int(os.environ["BECOME"]))
os.setuid(int(os.environ["BECOME"]))

@tool
def work(x):
    return x

with agent_session("ann's"):
    assert [work(n) for n in range(5)] == list(range(5))
    flush(5)
flush(5)
"""

ATTACK = """
import fcntl, os, sys
os.setgroups([])
os.setgid(int(os.environ["BECOME"]))
os.setuid(int(os.environ["BECOME"]))
store = os.environ["PYJAMA_HOME"]
done = []

def attempt(what, *arguments, **options):
    try:
        what(*arguments, **options)
    except (PermissionError, IsADirectoryError):
        return
    done.append((what.__name__, arguments))

names = ["", "journal", "history", "metrics.json", "metrics.json.prev", "metrics.json.lock", *sys.argv[1:]]
for name in names:
    path = os.path.join(store, name)
    attempt(os.listdir, path)
    attempt(os.open, path, os.O_RDONLY)
    attempt(os.open, path, os.O_WRONLY)
    attempt(os.unlink, path)
    attempt(os.rename, path, path + ".moved")
    attempt(os.chmod, path, 0o777)
    attempt(os.utime, path)
    attempt(os.link, path, "/tmp/eve-was-here")
for path in ("metrics.lock", "journal/00000000000000ee-1.jsonl", "journal/.x.tmp", "metrics.json.new"):
    attempt(os.open, os.path.join(store, path), os.O_WRONLY | os.O_CREAT, 0o666)
    attempt(os.symlink, "/etc/passwd", os.path.join(store, path))
print(done)
"""


def _run(source: str, user: int, home: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"BECOME": str(user), "PYJAMA_HOME": str(home)} | env
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", source, *args],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.fixture
def public() -> Iterator[Path]:
    """A place like /tmp: anybody may make files there."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o1777)
        yield Path(place)


def _modes(store: Path) -> dict[str, int]:
    return {str(path.relative_to(store)): stat.S_IMODE(path.lstat().st_mode) for path in (store, *store.rglob("*"))}


@needs_root
@pytest.mark.parametrize("umask", ["000", "022", "077", "277", "777"])
def test_everything_is_its_owner_s_alone_under_any_umask(public: Path, umask: str) -> None:
    store = public / "not" / "there" / "yet"
    done = _run(RECORD, ANN, store, UMASK=umask)
    assert done.stderr == ""
    modes = _modes(public / "not")
    assert {"there/yet/journal", "there/yet/metrics.json", "there/yet/metrics.json.lock"} <= set(modes)
    directories = {name for name in modes if (public / "not" / name).is_dir()}
    assert {name: oct(mode) for name, mode in modes.items() if mode != (0o700 if name in directories else 0o600)} == {}
    assert get_dashboard_data(store).metrics.global_.count == 5


@needs_root
def test_another_user_can_neither_read_nor_block_nor_change_nor_add_anything(public: Path) -> None:
    store = public / "store"
    _run(RECORD, ANN, store)
    files = [str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()]
    before = {name: (store / name).read_bytes() for name in files}
    assert _run(ATTACK, EVE, store, *files).stdout == "[]\n"
    assert {name: (store / name).read_bytes() for name in files} == before
    assert sorted(files) == sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file())
    assert _run(RECORD, ANN, store).stderr == ""
    assert get_dashboard_data(store).metrics.global_.count == 10


@needs_root
def test_a_store_that_another_user_has_prepared_is_not_used(public: Path) -> None:
    store = public / "store"
    store.mkdir()
    store.chmod(0o777)
    os.chown(store, EVE, EVE)
    done = _run(RECORD, ANN, store)
    assert f"{store} belongs to another user; set PYJAMA_HOME" in done.stderr
    assert list(store.iterdir()) == []


@needs_root
def test_a_shared_volume_of_root_s_is_not_used_but_its_directory_that_the_message_names_is(public: Path) -> None:
    volume = public / "volume"
    volume.mkdir()
    os.chown(volume, 0, ANN)
    volume.chmod(0o2775)  # as a container platform makes it for a user of an arbitrary number
    said = _run(RECORD, ANN, volume).stderr
    assert f"{volume} belongs to root and is shared" in said
    assert list(volume.iterdir()) == []
    named = re.search(r"set PYJAMA_HOME=(\S+), a directory of your own", said)
    assert named is not None
    assert _run(RECORD, ANN, Path(named[1])).stderr == ""
    assert get_dashboard_data(Path(named[1])).metrics.global_.count == 5
    assert stat.S_IMODE((volume / "store").stat().st_mode) & 0o777 == 0o700


@needs_root
def test_a_link_of_another_user_is_not_followed_even_to_a_directory_of_ours(public: Path) -> None:
    private = public / "ann's"
    private.mkdir(mode=0o700)
    os.chown(private, ANN, ANN)
    link = public / "store"
    link.symlink_to(private)
    os.lchown(link, EVE, EVE)
    place = public
    place.chmod(0o777)  # in a sticky directory the kernel would not follow it either
    done = _run(RECORD, ANN, link)
    assert f"{link} is a link that belongs to another user" in done.stderr
    assert list(private.iterdir()) == []


@needs_root
@pytest.mark.parametrize("owner", [ANN, 0])
def test_a_link_of_ours_or_of_root_s_is_followed(public: Path, owner: int) -> None:
    disk = public / "disk"
    disk.mkdir(mode=0o700)
    os.chown(disk, ANN, ANN)
    link = public / "store"
    link.symlink_to(disk)
    os.lchown(link, owner, owner)
    assert _run(RECORD, ANN, link).stderr == ""
    assert get_dashboard_data(link).metrics.global_.count == 5


@needs_root
@pytest.mark.parametrize("part", ["journal", "history"])
def test_a_part_that_another_user_has_planted_is_not_used(public: Path, part: str) -> None:
    store = public / "store"
    (store / part).mkdir(parents=True)
    os.chown(store, ANN, ANN)
    store.chmod(0o777)
    os.chown(store / part, EVE, EVE)
    (store / part).chmod(0o777)
    done = _run(RECORD, ANN, store)
    assert "others can write into" in done.stderr
    store.chmod(0o700)  # as it advises
    done = _run(RECORD, ANN, store)
    assert "belongs to another user" in done.stderr
    assert list((store / part).iterdir()) == []


@needs_root
def test_another_user_s_home_is_left_alone_when_nobody_asked_for_a_store_there(public: Path) -> None:
    home = public / "ann"
    home.mkdir(mode=0o755)
    os.chown(home, ANN, ANN)
    environment = {key: value for key, value in os.environ.items() if key != "PYJAMA_HOME"}
    environment |= {"HOME": str(home), "SUDO_UID": str(ANN), "SUDO_GID": str(ANN), "SUDO_USER": "ann", "BECOME": "0"}
    source = (
        RECORD
        + """
import subprocess, sys
with agent_session("parent") as run:
    assert subprocess.run([sys.executable, "-c", "from pyjama_instrument import tool; tool('t')(len)('')"],
        env=run.env(), stderr=subprocess.DEVNULL).returncode == 0
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", source], env=environment, cwd="/", capture_output=True, text=True, check=True
    )
    assert f"{home} is the home of another user" in done.stderr
    assert "set PYJAMA_HOME" in done.stderr
    assert list(home.iterdir()) == []
    asked = subprocess.run(
        [sys.executable, "-c", RECORD],
        env=environment | {"PYJAMA_HOME": str(home / "asked")},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stderr == ""
    assert get_dashboard_data(home / "asked").metrics.global_.count == 5


def test_a_home_of_root_s_may_hold_another_user_s_store(public: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become other users")
    environment = {key: value for key, value in os.environ.items() if key != "PYJAMA_HOME"}
    environment |= {"HOME": str(public), "BECOME": str(ANN)}  # as in containers that run as anybody
    done = subprocess.run(
        [sys.executable, "-c", RECORD], env=environment, cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert get_dashboard_data(public / ".pyjama").metrics.global_.count == 5


# -- what needs no second user


def test_a_store_that_a_lax_umask_left_open_is_closed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o775)
    Writer(store).die()
    assert stat.S_IMODE(store.stat().st_mode) == 0o755
    for part in ("journal", "history"):
        (store / part).chmod(0o777)
    store.chmod(0o777)
    Writer(store).die()
    assert _modes(store)["."] == 0o755
    assert _modes(store)["journal"] == _modes(store)["history"] == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_directory_that_others_may_use_for_other_things_is_not_touched(tmp_path: Path, mode: int) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "somebody's file").touch()
    shared.chmod(mode)
    with pytest.raises(StoreUnavailable, match=r"others can write into .*chmod go-w"):
        Store(str(shared))
    assert stat.S_IMODE(shared.stat().st_mode) == mode
    assert os.listdir(shared) == ["somebody's file"]


def test_a_directory_like_tmp_is_not_touched_even_when_it_is_empty(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(StoreUnavailable, match="others can write into"):
        Store(str(shared))
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


def test_a_refused_store_is_said_once_and_hurts_nobody(tmp_path: Path, run_python: RunPython) -> None:
    (tmp_path / "file").touch()
    tmp_path.chmod(0o777)
    source = "from pyjama_instrument import tool\nassert [tool('t')(abs)(-n) for n in range(9)] == list(range(9))"
    done = run_python(source, PYJAMA_HOME=str(tmp_path))
    assert done.stderr.count("others can write into") == 1


GIVES_UP = """
import os, sys, tempfile
from pyjama_instrument import agent_session, flush, tool
from pyjama_instrument.recording.recorder import recorder

@tool
def work(x):
    return x

with agent_session("daemon"):
    work(0)
    if len(sys.argv) > 1:
        os.chroot(tempfile.mkdtemp())
        os.chdir("/")
    os.setgroups([])
    os.setgid(int(os.environ["BECOME"]))
    os.setuid(int(os.environ["BECOME"]))
    assert [work(n) for n in range(50)] == list(range(50))
    recorder.tick()
    assert flush(0.1) is False
    assert [work(n) for n in range(50)] == list(range(50))
    print("recorded", flush=True)
    sys.stdin.readline()
"""


@needs_root
@pytest.mark.parametrize("jail", [[], ["chroot"]])
def test_a_process_that_gave_up_its_rights_goes_on_recording_and_is_not_taken_for_crashed(
    own_store: Path, jail: list[str]
) -> None:
    os.chmod(own_store.parent, 0o700)
    with started(GIVES_UP, *jail, env=os.environ | {"BECOME": str(ANN)}) as child:
        assert line_from(child) == "recorded"
        data = get_dashboard_data(own_store)
        assert (data.agents["daemon"].status, data.metrics.global_.count) == ("running", 101)
        tell(child)
        _, err = child.communicate(timeout=HANG_SECONDS)
    assert child.returncode == 0, err
    assert "Traceback" not in err
    data = get_dashboard_data(own_store)
    assert (data.agents["daemon"].status, data.metrics.global_.count) == ("completed", 101)
