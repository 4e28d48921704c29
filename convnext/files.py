"""Atomic write, hash, lock, download with resume, and the package's own data: the only file that does them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import os
import re
import stat
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import IO

from .errors import UserError

CHUNK = 1 << 20  # bytes per read when hashing and downloading
TIMEOUT_S = 30  # of silence from a server before a download is given up
LOCK_NAME = ".lock"


def asset(name: str) -> str:
    """The text of one of the files in convnext/assets."""
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def asset_path(name: str) -> Path:
    """Where one of the files in convnext/assets lies; the package is installed as files."""
    return Path(__file__).parent / "assets" / name


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary file beside `path`; on success it is flushed and renamed, on failure removed.

    It gets the permissions of any new file, whatever the library that writes it thinks of them.

    Raises UserError when the disk is full or the folder cannot be written, saying which.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        with explained_writes(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with usual_permissions(temporary):
                yield temporary
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def usual_permissions(path: Path) -> Iterator[None]:
    """Makes `path`, and gives it afterwards the permissions that it had as a new file: safetensors shuts everybody else
    out."""
    path.touch()
    usual = path.stat().st_mode
    yield
    if path.stat().st_mode != usual:
        path.chmod(stat.S_IMODE(usual))


@contextlib.contextmanager
def explained_writes(path: Path) -> Iterator[None]:
    """Turns a failure to write, in whichever library it is noticed, into the UserError that says what and where."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (cause := _system_error(error)) is None:
            raise
        raise _explained(cause, path) from error


def write_text(path: Path, text: str) -> None:
    """Atomic write of UTF-8 text."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder` for this process; UserError when another does. A killed holder leaves nothing behind."""
    with (folder / LOCK_NAME).open("a") as handle:
        if not _lock(handle, wait=False):
            raise UserError(f"{folder} is in use by another run; wait for it or choose another --out")
        _held.add(handle)
        try:
            yield
        finally:
            _held.discard(handle)


def _lock(handle: IO[str], *, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return True
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False


# A forked child, such as a loader process, shares its parent's locks and would hold them some seconds after its death.
_held: set[IO[str]] = set()
os.register_at_fork(after_in_child=lambda: [handle.close() for handle in _held])


def make_writable_folder(folder: Path) -> None:
    """Creates `folder` and proves that a file can be written there; UserError otherwise, before any work starts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise UserError(f"{folder} is a file, not a folder; choose another --out") from None
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}; choose another --out") from None


def cache_folder() -> Path:
    """Where downloads go: $CONVNEXT_HOME, or convnext under the user's cache folder."""
    if home := os.environ.get("CONVNEXT_HOME"):
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "convnext"


def download(url: str, target: Path, *, expected_sha256: str | None = None) -> Path:
    """Fetches `url` to `target` unless it is there, continuing a part file; checks the hash where one is known.

    Of several processes one fetches, the others wait for it. Raises UserError when the server cannot be reached, the
    answer is cut short or the hash differs.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    with lock.open("a") as handle:
        _lock(handle, wait=True)
        if not target.exists():
            _fetch_whole(url, target, expected_sha256)
            lock.unlink(missing_ok=True)
    return target


def _fetch_whole(url: str, target: Path, expected_sha256: str | None) -> None:
    part = target.with_name(f"{target.name}.part")
    stamp = target.with_name(f"{target.name}.part.version")  # which version of the file on the server it is part of
    try:
        _fetch(url, part, stamp)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"cannot download {url} ({reason}); fetch it elsewhere and place it at {target}") from None
    stamp.unlink(missing_ok=True)
    if expected_sha256 is not None and (found := sha256(part)) != expected_sha256:
        part.unlink()
        raise UserError(f"{url} arrived with sha256 {found}, expected {expected_sha256}; removed, try again")
    part.replace(target)


def _fetch(url: str, part: Path, stamp: Path) -> None:
    """Continues `part` where the server still has the version that `stamp` names; begins anew in any other case."""
    version = stamp.read_text(encoding="utf-8") if stamp.exists() and part.exists() else ""
    have = part.stat().st_size if version else 0
    headers = {"Range": f"bytes={have}-", "If-Range": version} if have else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing lies behind what is there
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{have}"):
            return
        stamp.unlink()
        _fetch(url, part, stamp)
        return
    with response:
        if response.status != 206:
            part.unlink(missing_ok=True)
            write_text(stamp, _version(response.headers))
        expected = int(response.headers.get("Content-Length", -1))
        received = 0
        with part.open("ab") as handle:
            while chunk := response.read(CHUNK):
                received += handle.write(chunk)
    if expected >= 0 and received != expected:
        raise OSError(f"got {received} of {expected} bytes; run again to continue")


def _version(headers: http.client.HTTPMessage) -> str:
    """What tells one version of a file on a server from another; "" where the server does not say."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _system_error(error: BaseException | None) -> OSError | None:
    """What the system said, where that is behind an error: safetensors writes it down as text, torch raises over it."""
    if error is None or isinstance(error, OSError):
        return error
    if number := re.search(r"\(os error (\d+)\)", str(error)):
        return OSError(int(number[1]), os.strerror(int(number[1])))
    return _system_error(error.__cause__ or error.__context__)


def _explained(error: OSError, path: Path) -> UserError:
    reason = error.strerror or error
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UserError(f"the disk is full at {path} ({reason}); free some space, nothing already saved was touched")
    return UserError(f"cannot write {path}: {reason}")
