"""Outputs whose encoding lacks characters: Windows writes a file by `>` in its code page, cron in ASCII."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

DOG, ODD = "\N{DOG FACE} Hünde", os.fsdecode(b"odd\xff")


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    for name in (DOG, "cat", ODD):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (24, 24), (i * 40, len(name) * 9, 0)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def check(folder: Path, encoding: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "convnext", "check", str(folder), *words]
    return subprocess.run(command, env=environment, capture_output=True, timeout=100, check=False)


@pytest.mark.parametrize(("encoding", "dog"), [
    ("cp1252", b"\\U0001f436 H\xfcnde"),
    ("ascii", b"\\U0001f436 H\\xfcnde"),
    ("utf-8", DOG.encode()),
])  # fmt: skip
def test_characters_that_an_output_lacks_are_written_as_escapes(flowers: Path, encoding: str, dog: bytes) -> None:
    done = check(flowers, encoding)
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    assert done.returncode == 0
    assert dog in done.stdout


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_json_is_json_in_any_encoding(flowers: Path, encoding: str) -> None:
    done = check(flowers / "absent" / DOG, encoding)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)  # the mistake is a sentence on standard error, too
    done = check(flowers, encoding, "--json")
    assert DOG in json.loads(done.stdout.decode(encoding))["counts"]["all"], done.stderr
