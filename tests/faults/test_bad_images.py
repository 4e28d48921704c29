"""No file, whatever its bytes, blocks, warns or raises anything but a sentence that names it."""

import contextlib
import io
import os
import random
import resource
import socket
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from picture_cases import png_that_claims
from PIL import Image

from convnext.data import images
from convnext.data.images import BadImage, open_image
from convnext.errors import UserError

pytestmark = pytest.mark.fault

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
KINDS = ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"]


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def refused(source: Path | bytes, kind: str) -> str:
    with pytest.raises(BadImage) as caught:
        open_image(source)
    assert caught.value.kind == kind
    message = str(caught.value)
    assert "\n" not in message
    if isinstance(source, Path):
        assert images.readable(source) in message
    return message


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    asked = threading.Thread(target=refused, args=(path, "not regular"), daemon=True)
    asked.start()
    asked.join(timeout=4)
    assert not asked.is_alive()
    refused(path, "not regular")


def test_sockets_folders_and_devices_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("s.png")
        refused(tmp_path / "s.png", "not regular")
    (tmp_path / "d.png").mkdir()
    refused(tmp_path / "d.png", "not regular")
    refused(Path("/dev/zero"), "not regular")


def test_missing_files_dangling_and_circular_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    for name in ("none.png", "gone.png", "round.png", "x" * 300, "nul\0.png"):
        refused(tmp_path / name, "missing")


def test_empty_files_and_other_contents_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.touch()
    refused(path, "empty")
    refused(b"", "empty")
    for content in (b"not an image", b"%PDF-1.7\n" + bytes(200), b"\0" * 1000, b"\xff\xd8\xff", b"<html></html>"):
        path.write_bytes(content)
        refused(path, "corrupt")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_in_half_is_refused(kind: str, tmp_path: Path) -> None:
    whole = encoded(NOISE, kind)
    path = tmp_path / "half.img"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadImage, match=r"half\.img") as caught:
        open_image(path)
    assert caught.value.kind in ("truncated", "corrupt")
    if kind in ("PNG", "JPEG", "GIF", "BMP"):
        assert caught.value.kind == "truncated"


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes_give_a_picture_or_a_sentence(kind: str) -> None:
    whole, draw = encoded(NOISE, kind), random.Random(kind)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 3, 20))):
            data[draw.randrange(min(len(data), draw.choice((60, len(data)))))] = draw.randrange(256)
        with contextlib.suppress(UserError):
            assert open_image(bytes(data)).mode == "RGB"


@pytest.mark.parametrize("size", [(100_000, 100_000), (20_000, 20_000), (89_478_485, 1), (1, 70_000), (2**31 - 1, 1)])
def test_a_picture_that_claims_to_be_huge_is_refused(size: tuple[int, int]) -> None:
    assert f"{size[0]:,} x {size[1]:,} pixels" in refused(png_that_claims(*size), "bomb")


def test_the_limit_holds_where_pillow_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    refused(png_that_claims(20_000, 20_000), "bomb")


def test_a_real_bomb_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (15_000, 15_000)).save(path)
    assert path.stat().st_size < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "bomb")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_opening_in_threads_leaves_the_warning_filters_alone() -> None:
    data = encoded(NOISE, "TIFF")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: open_image(data), range(300)))) == 300
    assert warnings.filters == before


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "locked.png"
    NOISE.save(path)
    path.chmod(0)
    tmp_path.chmod(0o755)
    # Pillow's plug-ins are loaded before the change of user, who may not reach where they are installed.
    code = (
        "import os\nfrom PIL import Image\nImage.init()\nfrom convnext.data.images import open_image\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: open_image('locked.png')\nexcept ValueError as error: print(error)"
    )
    # Run inside the folder: the folders above are closed to others, and not ours to open.
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout.startswith("locked.png cannot be read (Permission denied)"), run.stderr
