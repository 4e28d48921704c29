"""Memory that really runs out: a process that may have only so much of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fixture_types import AsArguments, MakePictures

from convnext.commands.main import main

pytestmark = [pytest.mark.fault, pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")]

LIMITED = """
import os, resource, sys
import torch
from convnext import api
from convnext.commands.main import main
torch.zeros(8, 8) @ torch.zeros(8, 8)
used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + {megabytes} * 2**20,) * 2)
"""


def limited(code: str, megabytes: int, *words: object) -> subprocess.CompletedProcess[str]:
    script = LIMITED.format(megabytes=megabytes) + code
    command = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_training_says_what_to_make_smaller_and_goes_on_so(
    pictures: MakePictures,
    tiny: dict[str, Any],
    tmp_path: Path,
    as_arguments: AsArguments,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wide = tiny | {"dims": (64, 64, 64, 64), "image_size": 128, "batch_size": 64, "steps": 1}
    data = pictures(train=64, classes=2)
    words = ["train", data, "--out", tmp_path / "run", "--no-report", *as_arguments(wide)]
    done = limited("sys.exit(main(sys.argv[1:]))", 1200, *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        f"convnext train: out of memory on cpu with 64 images of 128 pixels at once; go on with --resume --out "
        f"{tmp_path / 'run'} --set micro_batch=32: the same steps, computed in smaller parts\n"
    )
    smaller = ["train", *done.stderr.split("go on with ")[1].split(":")[0].split(), "--no-report"]
    assert main(smaller) == 0  # with memory enough: whether half of the batch fits is not the point
    assert "micro_batch = 32: from here on" in capsys.readouterr().out


def test_a_measurement_that_does_not_fit_says_the_same(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, as_arguments: AsArguments
) -> None:
    """Steps are timed before there is a run that could be resumed."""
    wide = tiny | {"dims": (64, 64, 64, 64), "image_size": 128, "batch_size": 64, "minutes": 0.1}
    del wide["steps"]
    words = ["train", pictures(train=64, classes=2), "--out", tmp_path / "run", "--no-report", *as_arguments(wide)]
    done = limited("sys.exit(main(sys.argv[1:]))", 1200, *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith(
        "at once; pass --batch-size auto to measure what fits, or --set micro_batch=32: the "
        "same steps, computed in smaller parts\n"
    )


EVALUATE = """
from convnext.classification.data import open_data
from convnext.data.preprocess import Preprocess
from convnext.weights.backbone import create_model
from convnext.classification.task import ClassificationEvaluator
from convnext.training.runtime import Runtime
import json
val = open_data(sys.argv[1]).val
torch.manual_seed(0)
model = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(96, 8, 8, 8), num_classes=2).eval()
cpu = Runtime(torch.device("cpu"))
evaluator = ClassificationEvaluator(val, Preprocess.for_size(128), cpu, int(sys.argv[2]))
found = evaluator.evaluate(model)
print(json.dumps([found["count"], round(found["loss"], 4), evaluator.batch]))
"""


def test_an_evaluation_that_does_not_fit_goes_on_in_halves(pictures: MakePictures) -> None:
    data = pictures(train=2, val=200, classes=2)
    whole = limited(EVALUATE, 8000, data, 200)
    halves = limited(EVALUATE, 400, data, 200)
    assert halves.returncode == 0, halves.stderr
    (count, loss, size), other = json.loads(halves.stdout), json.loads(whole.stdout)
    assert [count, loss] == other[:2]
    assert size < other[2] == 200
