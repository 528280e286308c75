"""Files that are read once their kind is known, and written whole or not at all, by one process at a time."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

_BLOCK = 1 << 20  # bytes that are read or written at a time
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # opening a pipe that nobody writes into would wait
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class FileError(OSError):
    """What a file is, or who has it, keeps it from being used; the message says what."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EINVAL, message)


class FormatError(ValueError):
    """A file isn't what it should be, or is damaged; the message says what was found and what was expected."""


def reason(error: OSError) -> str:
    """Return what went wrong, in the system's words or in those of a `FileError`."""
    return error.strerror or str(error)


@contextmanager
def reading(path: str | os.PathLike[str], what: str = "the file") -> Iterator[None]:
    """Say in an error of the system's which file can't be read."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, f"can't read {what} {path}: {reason(error)}") from error


def open_file(path: str | Path) -> BinaryIO:
    """Open a file to read its bytes.

    Raises
    ------
    OSError
        It can't be opened, or is a directory, pipe, socket or device, which isn't opened at all: that might wait, and
        reading might never end.
    """
    return _open(path, pipes=False)


def read_bytes(path: str | Path, most: int) -> bytes:
    """Read a file, or a pipe that somebody writes into, of at most ``most`` bytes.

    Raises
    ------
    OSError
        It can't be read, is neither, or has more bytes.
    """
    with _open(path, pipes=True) as file:
        return read_stream(file, most)


def read_stream(file: BinaryIO, most: int) -> bytes:
    """Read what is left of an open file, pipe or terminal, at most ``most`` bytes.

    Raises
    ------
    OSError
        It can't be read, is a device other than a terminal, or has more bytes.
    """
    status = os.fstat(file.fileno())
    if stat.S_ISBLK(status.st_mode) or (stat.S_ISCHR(status.st_mode) and not file.isatty()):
        raise FileError(f"it is {_kind(status.st_mode)}, not a file")
    too_long = FileError(f"it has more than {most:,} bytes")
    if stat.S_ISREG(status.st_mode) and status.st_size > most:
        raise too_long
    data = bytearray()
    while block := file.read(_BLOCK):
        data += block
        if len(data) > most:
            raise too_long
    return bytes(data)


def _open(path: str | Path, *, pipes: bool) -> BinaryIO:
    try:
        _check_kind(Path(path).stat().st_mode, pipes)
    except ValueError as error:  # a NUL in the name
        raise FileError(str(error)) from error
    number = os.open(path, os.O_RDONLY | _FLAGS | _AT_ONCE)
    try:
        _check_kind(os.fstat(number).st_mode, pipes)  # it may be another one by now
        if _AT_ONCE:
            os.set_blocking(number, True)
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def _check_kind(mode: int, pipes: bool) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not (stat.S_ISREG(mode) or (pipes and stat.S_ISFIFO(mode))):
        raise FileError(f"it is {_kind(mode)}, not a file")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


class Destination:
    """A file to write, once or again and again, that is this process's alone while it is entered.

    At every moment, also of a crash or a kill, the file is the whole former one or the whole new one: bytes go to
    a temporary file beside it, are flushed to the disk, and are then renamed into place. A symbolic link is followed.
    The new file has the former one's permissions, and its owner and group where that is allowed.

    Others are kept off by a lock that the system takes from a process that ends, however it ends. What a killed one
    leaves, an unfinished temporary file and the empty one that the lock was on, goes when the next enters.

    Parameters
    ----------
    path : path-like
        Where to.

    Attributes
    ----------
    path : Path
        The file itself, without symbolic links.

    Raises
    ------
    OSError
        From any method: the file can't be written, the former one being untouched; on entering also, as `FileError`,
        that another process is writing it, or that something is there that isn't a file or is read-only.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from recurray.files import Destination
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "notes")
    ...     with Destination(path) as destination:
    ...         destination.check(size=10)
    ...         destination.replace(b"first")
    ...         destination.replace(b"second")
    ...     path.read_bytes(), len(list(Path(folder).iterdir()))
    (b'second', 1)
    """

    def __init__(self, path: str | Path) -> None:
        try:
            self.path = Path(path).resolve()
        except (ValueError, RuntimeError) as error:  # a NUL in the name, links in a circle
            raise FileError(str(error)) from error
        self._lock: Lock | None = None

    def __enter__(self) -> Self:
        self._check_target()
        self._lock = Lock(self.path.with_name(f".{self.path.name}.lock"))
        self._remove_unfinished()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def check(self, size: int) -> None:
        """Do all that `replace` will do with ``size`` bytes: write them beside the file, and rename over it.

        What is renamed over it is a copy of itself, so that it stays what it is.
        """
        self._check_target()
        trial = self._temporary()
        try:
            self._put((bytes(min(_BLOCK, size - begin)) for begin in range(0, size, _BLOCK)), trial)
        finally:
            trial.unlink(missing_ok=True)
        if self.path.exists():
            with open_file(self.path) as file:
                status = os.fstat(file.fileno())
                self._put(iter(lambda: file.read(_BLOCK), b""), self.path)
            os.utime(self.path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def replace(self, data: bytes) -> None:
        """Make ``data`` the file's content, or leave it as it is."""
        self._check_target()
        self._put([data], self.path)

    def _check_target(self) -> None:
        try:
            mode = self.path.stat().st_mode
        except FileNotFoundError:
            return
        _check_kind(mode, pipes=False)
        if not mode & stat.S_IWUSR:  # renaming over it would be allowed
            raise FileError("it is read-only")

    def _put(self, blocks: Iterable[bytes], path: Path) -> None:
        former = self.path.stat() if self.path.exists() else None
        temporary = self._temporary()
        try:
            # Nobody else may read it before it has the former one's permissions. Without one, the umask decides.
            number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600 if former else 0o666)
            with os.fdopen(number, "wb") as file:
                for block in blocks:
                    file.write(block)
                if former is not None:
                    _take_permissions(temporary, self.path, former)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:  # KeyboardInterrupt too
            temporary.unlink(missing_ok=True)
            raise
        _flush_directory(path.parent)

    def _temporary(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")

    def _remove_unfinished(self) -> None:
        """Remove what processes left that were killed; the lock says that none is writing now."""
        pattern = re.compile(rf"\.{re.escape(self.path.name)}\.[0-9a-f]{{8}}\.tmp")
        with suppress(OSError):
            for entry in self.path.parent.iterdir():
                if pattern.fullmatch(entry.name):
                    with suppress(OSError):
                        entry.unlink()


class Lock:
    """The exclusive use of something that a file stands for, held until `release` or the process's end.

    Raises
    ------
    FileError
        Another process, or another one of this process's locks, has it.
    OSError
        The file can't be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        while True:
            number = _open_lock(path)
            try:
                _lock(number)
                # Whoever had it last may have removed the file that was opened here.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(number), path.stat()):
                        break
            except BaseException:
                os.close(number)
                raise
            os.close(number)
        self._number = number
        import socket  # costs as much as all else that reading a file takes

        with suppress(OSError):
            os.ftruncate(number, 0)
            os.write(number, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def release(self) -> None:
        """Give it up."""
        if sys.platform == "win32":  # where nothing that is open can be removed
            os.close(self._number)
            self._remove()
        else:
            self._remove()
            os.close(self._number)

    def _remove(self) -> None:
        with suppress(OSError):  # it may be another user's
            self._path.unlink()


def _open_lock(path: Path) -> int:
    flags = _FLAGS | _AT_ONCE | getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY | flags)  # another user's, who was killed


def _lock(number: int) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(number, 1 << 30, os.SEEK_SET)  # beyond what is read
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return  # a file system without locks
        os.lseek(number, 0, os.SEEK_SET)
        holder = os.read(number, 200).decode(errors="replace") or "another process"
        raise FileError(f"{holder} is writing it") from error


def _take_permissions(path: Path, like: Path, status: os.stat_result) -> None:
    """Give a file another's owner, group, mode and access list, as far as the system allows."""
    mode = stat.S_IMODE(status.st_mode)
    if hasattr(os, "chown"):
        try:
            os.chown(path, status.st_uid, status.st_gid)
        except OSError:
            try:
                os.chown(path, -1, status.st_gid)
            except OSError:
                mode &= ~stat.S_IRWXG  # they were another group's
    path.chmod(mode)
    if hasattr(os, "listxattr"):
        with suppress(OSError):
            for name in os.listxattr(like):
                with suppress(OSError):
                    os.setxattr(path, name, os.getxattr(like, name))


def _flush_directory(path: Path) -> None:
    """Make the renaming itself last through a power cut, where the system can."""
    if os.name != "posix":
        return
    try:
        directory = os.open(path, os.O_RDONLY | _FLAGS)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        # The new file is complete and in place; some file systems just can't flush a directory.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM):
            raise FileError(f"it is written, but its folder can't be flushed to the disk: {reason(error)}") from error
