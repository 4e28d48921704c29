"""Three hundred damaged pictures: each is a picture or a sentence that names it, in bounded memory and time.

The same three hundred every time: hypothesis draws without chance here.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import convnext
from convnext.data.images import BadImage, examined, open_image
from convnext.data.preprocess import Preprocess

pytestmark = pytest.mark.fault

MUTANTS = 300  # different ones, of the somewhat more that are drawn
MOST_MEMORY = 2 << 30  # bytes, of a process with torch, whatever the pictures claim
LIMIT_S = 120
PLAIN = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8))
GREY = np.arange(960, dtype=np.uint16).reshape(24, 40) * 60
SIZES = (0, 1, 255, 3_000, 16_383, 20_000, 65_535, 89_478_485, 2**31 - 1, 2**32 - 1)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
WHOLE = {
    "jpeg": encoded(PLAIN, "JPEG", exif=EXIF), "progressive": encoded(PLAIN, "JPEG", progressive=True),
    "cmyk": encoded(PLAIN.convert("CMYK"), "JPEG"), "png": encoded(PLAIN, "PNG"),
    "rgba": encoded(PLAIN.convert("RGBA"), "PNG"), "interlaced": encoded(PLAIN.convert("L"), "PNG"),
    "palette": encoded(PLAIN.quantize(16), "PNG", transparency=bytes(range(16))),
    "16 bits": encoded(Image.fromarray(GREY), "PNG"), "bits": encoded(PLAIN.convert("1"), "PNG"),
    "webp": encoded(PLAIN, "WEBP"), "lossless": encoded(PLAIN, "WEBP", lossless=True), "gif": encoded(PLAIN, "GIF"),
    "animation": encoded(PLAIN, "GIF", save_all=True, append_images=[PLAIN.rotate(90), PLAIN.rotate(180)]),
    "bmp": encoded(PLAIN, "BMP"), "tiff": encoded(PLAIN, "TIFF"), "lzw": encoded(PLAIN, "TIFF", compression="tiff_lzw"),
    "float": encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "ppm": encoded(PLAIN, "PPM"),
    "jpeg 2000": encoded(PLAIN, "JPEG2000"), "tga": encoded(PLAIN, "TGA"),
}  # fmt: skip
# Where each format keeps width and height: offset and struct format of the pair.
FIELDS = {"png": (16, ">II"), "rgba": (16, ">II"), "palette": (16, ">II"), "16 bits": (16, ">II"),
          "bits": (16, ">II"), "gif": (6, "<HH"), "animation": (6, "<HH"), "bmp": (18, "<ii"),
          "tga": (12, "<HH"), "jpeg 2000": (48, ">II")}  # fmt: skip


def resized(kind: str, data: bytearray, width: int, height: int) -> bytearray:
    """The file with another size in its header, and what the format has against that."""
    if kind in ("jpeg", "progressive", "cmyk"):
        marker = data.index(b"\xff\xc2" if kind == "progressive" else b"\xff\xc0")
        data[marker + 5 : marker + 9] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    elif kind == "ppm":
        data[:9] = f"P6\n{width} {height}\n".encode()
    elif kind in FIELDS:
        offset, form = FIELDS[kind]
        mask = 0xFFFF if "H" in form else 0x7FFFFFFF if "i" in form else 0xFFFFFFFF
        data[offset : offset + struct.calcsize(form)] = struct.pack(form, width & mask, height & mask)
    if data.startswith(b"\x89PNG"):
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return data


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(sorted(WHOLE)))
    data = bytearray(WHOLE[kind])
    for change in draw(st.lists(st.sampled_from(["size", "cut", "bits", "header", "zeros", "twice"]), max_size=3)):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        if change == "size":
            data = resized(kind, data, draw(st.sampled_from(SIZES)), draw(st.sampled_from(SIZES)))
        elif change == "cut":
            del data[place:]
        elif change == "twice":
            data[place:place] = data[place : place + 64]
        elif change == "zeros":
            data[place : place + 16] = bytes(len(data[place : place + 16]))
        elif data:
            for _ in range(draw(st.sampled_from([1, 3, 20]))):
                within = min(len(data), 64) if change == "header" else len(data)
                data[draw(st.integers(0, within - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


WARP, CROP = Preprocess(32, "warp"), Preprocess(32, "crop")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All mutants as files, each opened once on the way."""
    root = tmp_path_factory.mktemp("mutants")
    seen: set[bytes] = set()

    @settings(
        max_examples=MUTANTS + 80,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutants())
    def opened(data: bytes) -> None:
        try:
            image = open_image(data, name="a.img")
            assert image.mode == "RGB"
            assert WARP(image).shape == CROP(image).shape == (3, 32, 32)
            with examined(data, name="a.img") as (header, again):
                assert sorted(header.size) == sorted(again.size)
        except BadImage as error:
            message = str(error)
            assert message.startswith("a.img ")
            assert "\n" not in message
        if data not in seen:
            place = root / "ab"[len(seen) % 2] / f"{len(seen):03}.png"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)
            seen.add(data)

    opened()
    for i, name in enumerate(("a", "b")):
        Image.fromarray(np.asarray(PLAIN) // (i + 1)).save(root / name / "sound.png")
    return root


READ = """
import json, sys
import convnext
from convnext.system.machine import peak_memory  # of this program, not of the one that started it
report = convnext.check(sys.argv[1])
answers = convnext.predict(sys.argv[2], [sys.argv[1]], top=1)
bad = [answer.path for answer in answers if answer.error]
errors = [problem.path for problem in report.problems if problem.severity == "error"]
print(json.dumps({"total": report.total, "answers": len(answers), "bad": bad, "errors": errors, "peak": peak_memory()}))
"""


def test_check_and_predict_answer_for_each_and_agree_within_two_gigabytes(folder: Path, tmp_path: Path) -> None:
    network = convnext.create_model("convnext_atto", num_classes=2, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))
    convnext.save_weights(network, tmp_path / "model.safetensors")
    words = [sys.executable, "-c", READ, str(folder), str(tmp_path / "model.safetensors")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["total"] == found["answers"] >= MUTANTS
    assert sorted(str(folder / path) for path in found["errors"]) == sorted(found["bad"])
    assert 0.1 < len(found["bad"]) / found["total"] < 0.9  # damage that matters, and damage that does not
    assert found["peak"] < MOST_MEMORY
