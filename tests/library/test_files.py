"""Files: which are read at all, and what is left by those who write at the same time, are killed, or may not."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.needs import needs
from recurray import files
from recurray.files import Destination, FileError

pytestmark = needs("POSIX")

HOLD = """
import sys
from recurray.files import Destination
with Destination(sys.argv[1]) as destination:
    destination.replace(b"theirs")
    print("has it", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, data: bytes = b"new") -> None:
    with Destination(path) as destination:
        destination.replace(data)


# Reading


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, Path]:
    """What isn't a file, by its kind."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as here:
        before = Path.cwd()
        os.chdir(tmp_path)  # as the whole path may be too long for a socket
        here.bind("socket")
        os.chdir(before)
    return {
        "Is a directory": tmp_path / "folder",
        "it is a pipe": tmp_path / "pipe",
        "it is a socket": tmp_path / "socket",
        "it is a device": Path("/dev/zero"),
        "null": Path("nul\0"),
        "No such file": tmp_path / "missing",
    }


def test_what_is_not_a_file_is_refused_without_opening_it(odd, monkeypatch):
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *args: (opened.append(args), real(*args))[1])
    for message, path in odd.items():
        with pytest.raises(OSError, match=message):
            files.open_file(path)
        if message != "it is a pipe":
            with pytest.raises(OSError, match=message):
                files.read_bytes(path, 100)
    assert opened == []


def test_a_file_that_has_become_a_pipe_is_refused(path, monkeypatch):
    path.write_bytes(b"abc")
    real = os.open

    def swapped(*args):
        path.unlink()
        os.mkfifo(path)
        return real(*args)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(FileError, match="it is a pipe"):
        files.open_file(path)


def test_a_pipe_is_read_to_its_end_and_one_without_a_writer_is_empty(path):
    os.mkfifo(path)
    assert files.read_bytes(path, 100) == b""
    ours = os.open(path, os.O_RDWR)

    def fill() -> None:
        os.write(ours, b"a" * 70)
        os.close(ours)

    timer = threading.Timer(0.2, fill)
    timer.start()
    assert files.read_bytes(path, 100) == b"a" * 70
    timer.join()


@pytest.mark.parametrize("piped", [False, True])
def test_no_more_is_read_than_is_allowed(path, piped):
    path.write_bytes(b"a" * 101)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat, path.open("rb") as file:
        stream = cat.stdout if piped else file
        with pytest.raises(FileError, match="more than 100 bytes"):
            files.read_stream(stream, 100)
    assert files.read_bytes(path, 101) == b"a" * 101


def test_a_file_that_is_too_large_is_not_read_at_all(path):
    path.write_bytes(b"a" * 101)

    class Unread:
        def __init__(self, file):
            self.fileno = file.fileno

    with path.open("rb") as file, pytest.raises(FileError, match="more than 100 bytes"):
        files.read_stream(Unread(file), 100)


def test_a_device_is_not_read_for_ever():
    with Path("/dev/zero").open("rb") as zero, pytest.raises(FileError, match="it is a device"):
        files.read_stream(zero, 10**15)


# Writing


@pytest.mark.parametrize("wanted", [0o600, 0o640, 0o644, 0o666, 0o755])
def test_permissions_stay(path, wanted, monkeypatch):
    path.write_bytes(b"old")
    path.chmod(wanted)
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: (seen.append(stat.S_IMODE(os.fstat(number).st_mode)), fsync(number))
    )
    write(path)
    assert path.read_bytes() == b"new"
    assert mode(path) == wanted
    assert seen[0] == wanted


def test_nobody_else_may_read_what_is_written_over_a_private_file(path, monkeypatch):
    path.write_bytes(b"old")
    path.chmod(0o600)
    seen = []
    fdopen = os.fdopen
    monkeypatch.setattr(
        os, "fdopen", lambda number, how: (seen.append(stat.S_IMODE(os.fstat(number).st_mode)), fdopen(number, how))[1]
    )
    write(path)
    assert seen == [0o600]


def test_a_new_file_has_the_permissions_of_the_umask(path):
    former = os.umask(0o027)
    try:
        write(path)
    finally:
        os.umask(former)
    assert mode(path) == 0o640


@needs("root")
def test_owner_and_group_stay(path):
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_where_the_group_cannot_stay_the_group_may_not_read(path, monkeypatch):
    path.write_bytes(b"old")
    path.chmod(0o664)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    write(path)
    assert mode(path) == 0o604


def test_extended_attributes_stay(path):
    path.write_bytes(b"old")
    try:
        os.setxattr(path, "user.origin", b"here")
    except (OSError, AttributeError):
        pytest.skip("this file system keeps no extended attributes")
    write(path)
    assert os.getxattr(path, "user.origin") == b"here"


def test_a_read_only_file_is_refused_before_anything_is_written(path):
    path.write_bytes(b"precious")
    path.chmod(0o444)
    with pytest.raises(FileError, match="it is read-only"):
        write(path)
    assert path.read_bytes() == b"precious"
    assert mode(path) == 0o444
    assert names(path.parent) == ["x"]


def test_one_that_has_become_read_only_is_kept(path):
    path.write_bytes(b"precious")
    with Destination(path) as destination:
        path.chmod(0o444)
        for attempt in (lambda: destination.check(5), lambda: destination.replace(b"new")):
            with pytest.raises(FileError, match="it is read-only"):
                attempt()
    assert path.read_bytes() == b"precious"


def test_file_then_folder_are_flushed_to_the_disk(path, monkeypatch):
    order = []
    fsync, rename = os.fsync, Path.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda number: (order.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file"), fsync(number)),
    )
    monkeypatch.setattr(Path, "replace", lambda *args: (order.append("rename"), rename(*args)))
    write(path)
    assert order == ["file", "rename", "folder"]


@pytest.mark.parametrize(("number", "raises"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_flushed(path, monkeypatch, number, raises):
    fsync = os.fsync

    def on_folders(file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(file)

    monkeypatch.setattr(os, "fsync", on_folders)
    if raises:
        with pytest.raises(FileError, match=r"it is written, but its folder can't be flushed .*Input/output error"):
            write(path)
    else:
        write(path)
    assert path.read_bytes() == b"new"


def test_temporary_names_are_not_to_be_guessed(path, monkeypatch):
    seen = []
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda *args: (seen.append(args[0].name), rename(*args)))
    for _ in range(50):
        write(path)
    assert len(set(seen)) == 50


# Checking beforehand


@pytest.mark.parametrize("there", [True, False])
def test_the_check_renames_as_the_writing_does(path, monkeypatch, there):
    if there:
        path.write_bytes(b"old")

    rename = Path.replace

    def refuse(self, target):
        if target == path or not there:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        rename(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with Destination(path) as destination:
        for attempt in (lambda: destination.check(5), lambda: destination.replace(b"new")):
            with pytest.raises(PermissionError):
                attempt()
    assert names(path.parent) == ["x"] * there


def test_the_check_writes_as_much_as_will_be_written(path):
    code = """
import resource, sys
from recurray.files import Destination
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with Destination(sys.argv[1]) as destination:
    destination.check(100_000)
    try:
        destination.check(100_001)
    except OSError as error:
        print(error.strerror)
"""
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert result.stdout == "File too large\n"
    assert names(path.parent) == []


@needs("root")
@pytest.mark.parametrize("place", ["sticky", "read-only", "another's folder"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_places_where_the_file_cannot_be_replaced_are_found_by_the_check(place):
    """Root may write everywhere, so that a child that is nobody tries."""
    import fcntl  # noqa: F401 - which a child may not be allowed to read
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        path = folder / "x"
        path.write_bytes(b"root's")
        path.chmod(0o666)
        folder.chmod({"sticky": 0o1777, "read-only": 0o555, "another's folder": 0o755}[place])
        child = os.fork()
        if not child:
            code = 1
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                try:
                    with Destination(path) as destination:
                        destination.check(10)
                except PermissionError:
                    code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert path.read_bytes() == b"root's"
        assert names(folder) == ["x"]


# Several at once, and killed ones


def test_two_cannot_write_the_same_file_at_the_same_time(path):
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"has it\n"
        with pytest.raises(FileError, match=rf"process {other.pid} on .+ is writing it"):
            write(path)
        (path.parent / "link").symlink_to(path)
        with pytest.raises(FileError, match="is writing it"):
            write(path.parent / "link")
        write(path.parent / "y")
        assert path.read_bytes() == b"theirs"
        other.stdin.close()
        assert other.wait(30) == 0
    write(path)
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["link", "x", "y"]


def test_two_threads_cannot_either(path):
    with Destination(path), pytest.raises(FileError, match=rf"process {os.getpid()} "):
        write(path)
    write(path)


def test_a_killed_process_keeps_nobody_off_and_its_files_go(path):
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"has it\n"
        other.send_signal(signal.SIGKILL)
    (path.parent / ".x.0123abcd.tmp").write_bytes(b"unfinished")
    others = [".x.0123abcd.tmp.keep", ".xy.0123abcd.tmp", ".x.012.tmp", "x.0123abcd.tmp"]
    for name in others:
        (path.parent / name).write_bytes(b"")
    write(path)
    assert names(path.parent) == sorted([*others, "x"])


def test_what_is_being_written_is_not_taken_for_left(path):
    """Only who has the lock removes: the other one, which doesn't get it, leaves the unfinished file alone."""
    with Destination(path):
        unfinished = path.parent / ".x.0123abcd.tmp"
        unfinished.write_bytes(b"half")
        with pytest.raises(FileError):
            write(path)
        assert unfinished.exists()


def test_many_who_want_it_at_once_get_it_one_after_the_other(path):
    has = threading.Lock()
    written = []

    def work(number: int) -> None:
        for k in range(20):
            while True:
                try:
                    with Destination(path) as destination:
                        assert has.acquire(blocking=False)
                        destination.replace(f"{number} {k}".encode())
                        written.append(path.read_bytes())
                        has.release()
                        break
                except FileError:
                    continue

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(written)) == 80
    assert names(path.parent) == ["x"]


def test_where_there_are_no_locks_it_is_written_without(path, monkeypatch):
    import fcntl

    def without(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without)
    write(path)
    assert names(path.parent) == ["x"]
