"""Atomic write, hash, lock, download with resume, and the package's own data: the only file that does them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from .errors import UserError

CHUNK = 1 << 20  # bytes per read when hashing and downloading
TIMEOUT_S = 30  # of silence from a server before a download is given up
LOCK_NAME = ".lock"


def asset(name: str) -> str:
    """The text of one of the files in convnext/assets."""
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed and renamed, on failure removed.

    Raises UserError when the disk is full or the folder cannot be written, saying which.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


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
    handle = (folder / LOCK_NAME).open("a")
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise UserError(f"{folder} is in use by another run; wait for it or choose another --out") from None
        yield
    finally:
        handle.close()


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

    Raises UserError when the server cannot be reached, the answer is cut short or the hash differs.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / (target.name + ".part")
    try:
        _fetch(url, part)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"cannot download {url} ({reason}); fetch it elsewhere and place it at {target}") from None
    if expected_sha256 is not None and (found := sha256(part)) != expected_sha256:
        part.unlink()
        raise UserError(f"{url} arrived with sha256 {found}, expected {expected_sha256}; removed, try again")
    part.replace(target)
    return target


def _fetch(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part file already holds everything
            return
        raise
    with response, part.open("ab" if response.status == 206 else "wb") as handle:
        expected = int(response.headers.get("Content-Length", -1))
        received = 0
        while chunk := response.read(CHUNK):
            received += handle.write(chunk)
    if expected >= 0 and received != expected:
        raise OSError(f"got {received} of {expected} bytes; run again to continue")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explained(error: OSError, path: Path) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UserError(f"the disk is full at {path}; free some space, nothing already saved was touched")
    return UserError(f"cannot write {path}: {error.strerror or error}")
