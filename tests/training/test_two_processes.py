"""Two processes are one: the same batches, the same losses, each validation image counted once."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import AsArguments, MakeDense, MakePictures
from narrow import not_none
from safetensors.torch import load_file

import convnext
from convnext import api
from convnext.classification import data as sources
from convnext.classification.task import ClassificationEvaluator, Classify
from convnext.data.preprocess import Preprocess
from convnext.detection.data import open_detection
from convnext.detection.task import Detect
from convnext.detection.transforms import protocol
from convnext.recipes.recipe import Recipe, override
from convnext.training.log import LogRow, read
from convnext.training.runtime import Runtime

STEPS = 50
# Without Muon: its iteration runs in bf16, where the rounding of another order of summation soon is the third digit.
CALM: dict[str, Any] = {"augment.mixup": 0, "augment.cutmix": 0, "drop_path": 0, "dropout": 0, "optim.muon": None}


def spread(words: list[str]) -> None:
    """`convnext train` on two processes."""
    command = [sys.executable, "-m", "convnext", "train", *words, "--nproc", "2", "--no-report"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rows(run: Path, kind: str) -> list[LogRow]:
    return [row for row in read(run / "log.jsonl") if row["kind"] == kind]


def test_losses_and_evaluation_are_those_of_one_process(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, as_arguments: AsArguments
) -> None:
    data = pictures(train=25, val=7)
    tiny |= CALM | {"steps": STEPS, "eval_every": 4}
    api.train(data, out=tmp_path / "one", settings=tiny, report=False)
    spread([str(data), "--out", str(tmp_path / "two"), *as_arguments(tiny)])
    one, two = (np.array([row["loss"] for row in rows(tmp_path / run, "train")]) for run in ("one", "two"))
    assert len(one) == STEPS  # every step is logged: an epoch of this data is shorter than ten
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-5)
    for a, b in zip(rows(tmp_path / "one", "eval"), rows(tmp_path / "two", "eval"), strict=True):
        assert a["raw"]["count"] == b["raw"]["count"] == 7
        assert a["raw"]["top1"] == b["raw"]["top1"]
        assert not_none(a["ema"])["loss"] == pytest.approx(not_none(b["ema"])["loss"], abs=1e-4)


@pytest.mark.parametrize("micro", [None, 3])
def test_two_processes_see_the_samples_of_one_in_the_same_order(
    pictures: MakePictures, tiny: dict[str, Any], micro: int | None
) -> None:
    splits = sources.open_data(pictures(train=25))
    recipe = override(Recipe(), {**tiny, "micro_batch": micro, "image_size": 16})

    def steps(rank: int, world: int) -> list[list[str]]:
        run = Runtime(torch.device("cpu"), rank, world)
        task = Classify(splits.train, splits.val, recipe, Preprocess.for_size(16), run)
        return [[name for batch in parts for name in batch.ids] for parts in task.batches(0, 9)]

    alone, first, second = steps(0, 1), steps(0, 2), steps(1, 2)
    for whole, left, right in zip(alone, first, second, strict=True):
        assert left + right == whole
        assert len(whole) == recipe.batch_size


def test_two_processes_draw_the_same_picture_of_a_sample(pictures: MakePictures, tiny: dict[str, Any]) -> None:
    splits = sources.open_data(pictures())
    recipe = override(Recipe(), {**tiny, "augment.mixup": 0, "augment.cutmix": 0})

    def images(rank: int, world: int) -> dict[str, torch.Tensor]:
        task = Classify(
            splits.train, splits.val, recipe, Preprocess.for_size(16), Runtime(torch.device("cpu"), rank, world)
        )
        return {
            name: image
            for (batch,) in task.batches(0, 3)
            for name, image in zip(batch.ids, batch.to(torch.device("cpu")).images, strict=True)
        }

    alone = images(0, 1)
    for name, image in (images(0, 2) | images(1, 2)).items():
        assert torch.equal(image, alone[name])


def test_the_saved_model_of_two_processes_can_be_used(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, as_arguments: AsArguments
) -> None:
    data = pictures(val=7)
    spread([str(data), "--out", str(tmp_path / "two"), *as_arguments(tiny)])
    best = json.loads((tmp_path / "two" / "log.jsonl").read_text().splitlines()[-2])
    assert api.evaluate(tmp_path / "two" / "model.safetensors", data, precision="fp32")["count"] == best["raw"]["count"]


def test_averaged_weights_are_judged_alike_on_both(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, as_arguments: AsArguments
) -> None:
    """On a CPU each process has BatchNorm averages of its own, and the average of weights has both kinds."""
    data, run = pictures(val=7), tmp_path / "run"
    own = {name: value for name, value in tiny.items() if name not in ("depths", "dims", "patch_size", "dropout")}
    settings = own | {"model": "torchvision:resnet18", "drop_path": 0, "steps": 2, "ema": 0.5}
    spread([str(data), "--out", str(run), *as_arguments(settings)])
    judged = rows(run, "eval")[-1]["ema"]
    model = convnext.from_pretrained(run / "model.safetensors")
    step = (run / "last").read_text().strip()
    model.load_state_dict(load_file(run / "checkpoints" / step / "ema.safetensors"))
    val, alone = sources.open_data(data).val, Runtime(torch.device("cpu"))
    evaluator = ClassificationEvaluator(val, Preprocess.from_dict(model.info.preprocess), alone)
    assert judged == pytest.approx(evaluator.evaluate(model.eval()), rel=1e-5)


def test_more_processes_than_images_in_a_batch_are_refused(
    pictures: MakePictures, tiny: dict[str, Any], tmp_path: Path, as_arguments: AsArguments
) -> None:
    command = [
        sys.executable,
        "-m",
        "convnext",
        "train",
        str(pictures()),
        "--nproc",
        "2",
        "--out",
        str(tmp_path / "run"),
    ]
    command += as_arguments(tiny | {"batch_size": 1})
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "leaves some of the 2 processes without an image" in done.stderr


def test_a_detector_is_judged_on_two_processes_as_on_one(
    annotated: MakeDense, detection_settings: dict[str, Any], tmp_path: Path, as_arguments: AsArguments
) -> None:
    """An odd number of pictures, each counted once; the early detector still sees something everywhere."""
    data = annotated(val=5)
    early = detection_settings | {"steps": 1, "optim.lr": 1e-6}
    spread([str(data), "--recipe", "coco/mask_rcnn/tiny", "--out", str(tmp_path / "two"), *as_arguments(early)])
    (judged,) = rows(tmp_path / "two", "eval")
    alone = api.evaluate(tmp_path / "two" / "model.safetensors", data, precision="fp32")
    assert judged["raw"] == pytest.approx({name: alone[name] for name in judged["raw"]}, abs=1e-9)
    assert alone["box_ar100"] > 0


def test_two_processes_learn_from_the_pictures_of_one(annotated: MakeDense, tiny_detection: dict[str, Any]) -> None:
    splits = open_detection(annotated(train=11))
    recipe = override(Recipe(task="detect"), tiny_detection | {"batch_size": 4, "micro_batch": 1})

    def steps(rank: int, world: int) -> list[list[str]]:
        run = Runtime(torch.device("cpu"), rank, world)
        task = Detect(splits.train, splits.val, recipe, protocol(64), run)
        return [[name for batch in parts for name in batch.ids] for parts in task.batches(0, 5)]

    for whole, left, right in zip(steps(0, 1), steps(0, 2), steps(1, 2), strict=True):
        assert sorted(left + right) == sorted(whole)
        assert len(whole) == 4


# A network whose every forward and backward pass waits for the other process, as SyncBatchNorm does on GPUs.
MEETING = """
import sys, torch
import torch.distributed as dist
from torch import nn
from convnext.data.loader import share
from convnext.recipes.recipe import Recipe, override
from convnext.training import engine, optim, runtime, state

class Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x
    @staticmethod
    def backward(ctx, grad):
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad

class Meeting(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)
    def forward(self, x):
        met = Sum.apply(x.new_zeros(1) + 0 * self.linear.weight.sum()) if dist.is_initialized() else 0
        return self.linear(x) + met

class Task:
    def losses(self, model, rows):
        found = model(rows.x).square().mean()
        return {"most": 0.75 * found, "rest": 0.25 * found}

class Rows:
    def __init__(self, x):
        self.x, self.ids = x, tuple(range(len(x)))
    def to(self, device, *, channels_last):
        return self

batch, micro = int(sys.argv[1]), int(sys.argv[2])
with runtime.start("fp32") as run:
    torch.manual_seed(0)
    rows, model = torch.randn(batch, 4), Meeting()
    recipe = override(Recipe(), {"batch_size": batch, "micro_batch": micro, "optim.lr": 0.1})
    now = state.TrainState(model, optim.make_optimiser(model, recipe.optim))
    parts = share([(0, i) for i in range(batch)], run.rank, run.world, micro)
    batches = [Rows(rows[[i for _, i in part]]) for part in parts]
    for _ in range(3):
        loss = engine.step(Task(), engine.prepared(model, recipe, run), now, batches, recipe, run)
    print(model.linear.weight.tolist(), [float(run.all_reduce_sum(loss[name])) for name in ("loss", "most", "rest")])
"""


@pytest.mark.parametrize(("batch", "micro"), [(5, 2), (5, 1)])
def test_shares_of_two_sizes_meet_as_often_and_weigh_what_they_are(batch: int, micro: int) -> None:
    alone = subprocess.run([sys.executable, "-c", MEETING, str(batch), str(micro)], capture_output=True, text=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", MEETING, str(batch), str(micro)],
            env=group | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        answers = [child.communicate(timeout=150)[0] for child in children]  # the one would wait for the other for ever
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert answers[0] == answers[1]
    numbers = [
        np.array([float(word) for word in re.findall(r"-?[\d.]+(?:e-?\d+)?", text)])
        for text in (alone.stdout, answers[0])
    ]
    assert len(numbers[0]) == 7
    assert numbers[0][5] == pytest.approx(0.75 * numbers[0][4])
    np.testing.assert_allclose(numbers[1], numbers[0], rtol=1e-5)
