"""Nothing half-written under a final name, one holder at a time, and downloads that can be cut and continued."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convnext import files
from convnext.errors import UserError

PAYLOAD = bytes(range(256)) * 40
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(target: Path, failure: BaseException) -> None:
    with files.atomic(target) as temporary:
        temporary.write_text("half of the n")
        raise failure


def test_text_is_written_as_utf8_and_replaces_the_old(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "classes.json"
    files.write_text(target, "old")
    files.write_text(target, "Zürich\n")
    assert target.read_bytes() == "Zürich\n".encode()
    assert names(target.parent) == ["classes.json"]


@pytest.mark.parametrize("failure", [ValueError("bad value"), KeyboardInterrupt()])
def test_the_old_file_stays_when_the_writer_fails(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "last"
    target.write_text("old")
    with pytest.raises(type(failure)):
        write_half(target, failure)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["last"]


def test_the_final_name_appears_only_when_all_is_written(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with files.atomic(target) as temporary:
        temporary.write_text("all")
        assert temporary.parent == tmp_path  # a rename must not cross file systems
        assert not target.exists()
    assert target.read_text() == "all"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path: Path, number: int) -> None:
    target = tmp_path / "state"
    target.write_text("old")
    with pytest.raises(UserError, match=r"the disk is full at .*state"):
        write_half(target, OSError(number, os.strerror(number)))
    assert target.read_text() == "old"
    assert names(tmp_path) == ["state"]


def test_a_folder_in_the_way_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*log"):
        files.write_text(tmp_path / "log", "text")
    assert names(tmp_path) == ["log"]


def test_a_file_where_the_folder_should_be_is_reported(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(UserError, match="cannot write"):
        files.write_text(tmp_path / "run" / "log", "text")


def test_the_hash_is_sha256_of_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    for content in (b"", PAYLOAD):
        path.write_bytes(content)
        assert files.sha256(path) == hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(files, "CHUNK", 7)  # several reads, the last one short
    assert files.sha256(path) == DIGEST


def test_a_second_holder_is_refused_and_the_next_one_welcome(tmp_path: Path) -> None:
    with files.locked(tmp_path):
        with pytest.raises(UserError, match="is in use by another run"), files.locked(tmp_path):
            pytest.fail("two at once")
        with pytest.raises(UserError), files.locked(tmp_path):  # the refused one has not freed it
            pytest.fail("two at once")
    with files.locked(tmp_path):
        pass


def test_the_lock_is_freed_when_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), files.locked(tmp_path):
        raise ZeroDivisionError
    with files.locked(tmp_path):
        pass


@pytest.mark.fault
def test_another_process_is_refused_until_the_holder_is_killed(tmp_path: Path) -> None:
    hold = (
        "import sys, pathlib, convnext.files as f\n"
        "with f.locked(pathlib.Path(sys.argv[1])): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="choose another --out"), files.locked(tmp_path):
            pytest.fail("two at once")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with files.locked(tmp_path):
        pass


@pytest.mark.fault
def test_a_child_of_a_killed_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    hold = (
        "import os, sys, time, pathlib, convnext.files as f\n"
        "with f.locked(pathlib.Path(sys.argv[1])):\n"
        "    child = os.fork()\n"
        "    print(os.getpid(), flush=True) if not child else None\n"
        "    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        with pytest.raises(UserError, match="in use"), files.locked(tmp_path):
            pytest.fail("two at once")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        try:
            with files.locked(tmp_path):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for _ in range(2):
        files.make_writable_folder(folder)
        assert names(folder) == []


@pytest.mark.parametrize("below", [".", "deeper"])
def test_a_file_is_no_folder_to_write_in(tmp_path: Path, below: str) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="choose another --out"):
        files.make_writable_folder(tmp_path / "out" / below)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        for folder in (tmp_path, tmp_path / "new"):
            with pytest.raises(UserError, match=r"cannot write in .*: Permission denied"):
                files.make_writable_folder(folder)
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_takes_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(**options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", read_only)
    with pytest.raises(UserError, match="Read-only file system"):
        files.make_writable_folder(tmp_path)


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/cache")
    monkeypatch.delenv("CONVNEXT_HOME", raising=False)
    assert files.cache_folder() == Path("/somewhere/cache/convnext")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_folder() == Path.home() / ".cache" / "convnext"
    monkeypatch.setenv("CONVNEXT_HOME", "~/mine")
    assert files.cache_folder() == Path.home() / "mine"


class Web(ThreadingHTTPServer):
    """Serves PAYLOAD; breaks off after `cut` bytes, takes no notice of ranges or is slow, when told to."""

    cut: int | None = None
    ranges = True
    slow_s = 0.0
    version = '"one"'
    garbled = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/weights.pth"


class Answer(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.garbled:
            self.wfile.write(b"<html>a captive portal\r\n\r\n")
            return
        if "missing" in self.path:
            self.send_error(404)
            return
        same = self.headers.get("If-Range") == self.server.version
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges and same else 0
        if start >= len(PAYLOAD):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(PAYLOAD)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        time.sleep(self.server.slow_s)
        self.send_response(206 if start else 200)
        if self.server.version:
            self.send_header("ETag", self.server.version)
        self.send_header("Content-Length", str(len(PAYLOAD) - start))
        self.end_headers()
        self.wfile.write(PAYLOAD[start:][: self.server.cut])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Web() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_download_arrives_whole_and_is_not_repeated(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "new" / "weights.pth"
    for _ in range(2):
        assert files.download(web.url, target, expected_sha256=DIGEST) == target
    assert target.read_bytes() == PAYLOAD
    assert names(target.parent) == ["weights.pth"]
    assert web.asked == [None]


def test_a_download_that_is_cut_short_goes_on_where_it_stopped(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "weights.pth"
    web.cut = 3000
    with pytest.raises(UserError, match=f"got 3000 of {len(PAYLOAD)} bytes; run again to continue"):
        files.download(web.url, target)
    assert not target.exists()
    web.cut = None
    files.download(web.url, target, expected_sha256=DIGEST)
    assert target.read_bytes() == PAYLOAD
    assert web.asked == [None, "bytes=3000-"]
    assert names(tmp_path) == ["weights.pth"]


def part_of(target: Path, content: bytes) -> None:
    target.with_name(target.name + ".part").write_bytes(content)
    target.with_name(target.name + ".part.version").write_text(Web.version)


def test_a_server_without_ranges_starts_over(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "weights.pth"
    part_of(target, PAYLOAD[:100])
    web.ranges = False
    assert files.download(web.url, target, expected_sha256=DIGEST).read_bytes() == PAYLOAD


def test_a_part_file_that_is_whole_already_is_taken(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "weights.pth"
    part_of(target, PAYLOAD)
    assert files.download(web.url, target, expected_sha256=DIGEST).read_bytes() == PAYLOAD
    assert web.asked == [f"bytes={len(PAYLOAD)}-"]


@pytest.mark.parametrize("length", [400, len(PAYLOAD), len(PAYLOAD) + 500])
@pytest.mark.parametrize("version", ['"two"', ""])
def test_a_part_of_another_version_is_not_continued(web: Web, tmp_path: Path, length: int, version: str) -> None:
    target = tmp_path / "weights.pth"
    part_of(target, b"x" * length)
    web.version = version
    assert files.download(web.url, target).read_bytes() == PAYLOAD
    assert names(tmp_path) == ["weights.pth"]


def test_a_part_that_is_too_long_is_begun_anew(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "weights.pth"
    part_of(target, PAYLOAD + b"x")
    assert files.download(web.url, target).read_bytes() == PAYLOAD


def test_a_part_that_no_version_vouches_for_is_begun_anew(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "weights.pth"
    target.with_name("weights.pth.part").write_bytes(b"x" * 400)
    assert files.download(web.url, target).read_bytes() == PAYLOAD
    assert web.asked == [None]


def test_two_that_want_the_same_file_fetch_it_once(web: Web, tmp_path: Path) -> None:
    web.slow_s = 0.2
    code = "import sys, pathlib, convnext.files as f; f.download(sys.argv[1], pathlib.Path(sys.argv[2]))"
    target = tmp_path / "weights.pth"
    fetching = [subprocess.Popen([sys.executable, "-c", code, web.url, str(target)]) for _ in range(2)]
    assert [process.wait() for process in fetching] == [0, 0]
    assert target.read_bytes() == PAYLOAD
    assert len(web.asked) == 1
    assert names(tmp_path) == ["weights.pth"]


def test_a_wrong_hash_is_refused_and_nothing_of_it_stays(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "weights.pth"
    with pytest.raises(UserError, match=f"arrived with sha256 {DIGEST}, expected 00ff"):
        files.download(web.url, target, expected_sha256="00ff")
    assert names(tmp_path) == [".weights.pth.lock"]


def test_a_spoilt_part_file_is_thrown_away_so_that_trying_again_helps(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "weights.pth"
    part_of(target, b"x" * 500)
    with pytest.raises(UserError, match="removed, try again"):
        files.download(web.url, target, expected_sha256=DIGEST)
    assert files.download(web.url, target, expected_sha256=DIGEST).read_bytes() == PAYLOAD


def closed_port() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}/weights.pth"


@pytest.mark.parametrize(
    ("url_of", "reason"),
    [
        (lambda web: closed_port(), "Connection refused"),
        (lambda web: "http://nowhere.invalid/weights.pth", ""),
        (lambda web: web.url + "/missing", "Not Found"),
    ],
    ids=["refused", "no such host", "no such file"],
)
def test_what_cannot_be_fetched_is_one_sentence_with_the_remedy(
    web: Web, tmp_path: Path, url_of: Callable[[Web], str], reason: str
) -> None:
    target = tmp_path / "weights.pth"
    with pytest.raises(UserError, match=f"cannot download .*{reason}.*place it at {target}"):
        files.download(url_of(web), target)
    assert not target.exists()


def test_an_answer_that_is_not_http_is_one_sentence_too(web: Web, tmp_path: Path) -> None:
    web.garbled = True
    with pytest.raises(UserError, match="cannot download"):
        files.download(web.url, tmp_path / "weights.pth")


def test_every_written_file_gets_the_permissions_of_a_new_one(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with files.atomic(tmp_path / "shut") as temporary:
            save_file({"a": torch.zeros(1)}, temporary)
        files.write_text(tmp_path / "text", "a")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("shut", "text")] == [0o640, 0o640]
