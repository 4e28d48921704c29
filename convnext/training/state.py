"""The state of a run as one value, and its checkpoint folders: complete, hashed, exact to resume from.

Randomness has no state here: data order, augmentation and drop path are functions of the step (data/loader.py,
runtime.seed_step). So model, average, optimiser and step are all there is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import files
from ..errors import UserError
from .optim import Optimiser

EVALUATION = "evaluation.json"  # in a checkpoint's folder: what its evaluation has changed
KEEP_LAST = 2  # complete checkpoints kept besides the best one: the newest, and one to fall back to


@dataclass(frozen=True)
class Best:
    """The best evaluation so far, and whether the raw or the averaged weights reached it."""

    step: int
    value: float
    which: str


@dataclass
class TrainState:
    """`model` is the bare network (never a wrapper); `ema` its averaged state_dict."""

    model: nn.Module
    optimiser: Optimiser
    ema: dict[str, Tensor] | None = None
    step: int = 0
    best: Best | None = None
    stale: int = 0  # evaluations since the best one
    evaluated: bool = True  # False between a checkpoint and the record of the evaluation that is due at its step

    def start_average(self) -> None:
        """The average starts as the current weights, without warm-up or bias correction (timm ModelEma)."""
        self.ema = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """average = decay * average + (1 - decay) * weights, over the whole state_dict; integers are copied."""
        if self.ema is None:
            return
        current = self.model.state_dict()
        floats = [name for name, value in self.ema.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.ema[n] for n in floats], [current[n] for n in floats], 1 - decay)
        for name in self.ema.keys() - floats:
            self.ema[name].copy_(current[name])

    @contextlib.contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with the averaged weights inside; the raw ones are back, bit for bit, on leaving."""
        if self.ema is None:
            raise ValueError("this run keeps no average")
        raw = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        try:
            yield self.model
        finally:
            self.model.load_state_dict(raw)

    def averaged_buffers(self) -> list[Tensor]:
        """The averages of the model's buffers. Unlike those of weights, they may differ from process to process."""
        return [] if self.ema is None else [self.ema[name] for name in _saved_buffers(self.model)]

    def weights(self, which: str) -> dict[str, Tensor]:
        """The raw or averaged state_dict, contiguous and on the CPU."""
        source = self.model.state_dict() if which == "raw" or self.ema is None else self.ema
        return {name: value.detach().cpu().contiguous() for name, value in source.items()}


def save(state: TrainState, run: Path) -> Path:
    """Writes checkpoints/step-<n> under a temporary name, renames it when complete, points `last` (and `best`) there.

    Raises UserError when the disk is full; older checkpoints stay.
    """
    folder = checkpoint(run, state.step)
    building = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    try:
        with files.explained_writes(folder):
            _write(state, building)
            if folder.exists():  # left by a run that was killed right after writing it; the new one is equal
                shutil.rmtree(folder)
            building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)  # half a checkpoint would keep a full disk full
    files.write_text(run / "last", folder.name + "\n")
    _point_to_best(state, run)
    return folder


def record(state: TrainState, run: Path) -> None:
    """Adds to the newest checkpoint, saved before its evaluation, what that has changed; a resumed run then goes on."""
    best = asdict(state.best) if state.best else None
    text = json.dumps({"best": best, "stale": state.stale}) + "\n"
    files.write_text(checkpoint(run, state.step) / EVALUATION, text)
    _point_to_best(state, run)


def _write(state: TrainState, folder: Path) -> None:
    folder.mkdir(parents=True)
    for which in ("raw",) if state.ema is None else ("raw", "ema"):
        with files.usual_permissions(folder / f"{which}.safetensors"):
            save_file(state.weights(which), folder / f"{which}.safetensors")
    best = asdict(state.best) if state.best else None
    values = {"step": state.step, "best": best, "stale": state.stale, "evaluated": state.evaluated}
    with (folder / "state").open("wb") as handle:  # opened here: of a path, torch does not say why it failed
        torch.save({"optimiser": state.optimiser.state_dict(), **values}, handle)
    hashes = {path.name: files.sha256(path) for path in sorted(folder.iterdir())}
    for name in hashes:
        _flush(folder / name)
    files.write_text(folder / "manifest.json", json.dumps({"step": state.step, "sha256": hashes}, indent=2) + "\n")


def restore(state: TrainState, run: Path) -> bool:
    """Loads the newest complete checkpoint into `state`; False when there is none at all.

    A damaged checkpoint is named and the one before it used; UserError when all are damaged.
    """
    damaged = []
    for folder in reversed(checkpoints(run)):
        if reason := damage(folder):
            damaged.append(f"{folder.name} ({reason})")
            continue
        for line in damaged:
            print(f"checkpoint {line} cannot be used; continuing from {folder.name}")
        _load(state, folder)
        return True
    if damaged:
        raise UserError(f"no checkpoint of {run} can be used: {', '.join(damaged)}; start again in another --out")
    return False


def checkpoint(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step}"


def checkpoints(run: Path) -> list[Path]:
    """Checkpoint folders, oldest first; unfinished ones have another name and are left out."""
    found = [path for path in (run / "checkpoints").glob("step-*") if path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def damage(folder: Path) -> str | None:
    """Why a checkpoint cannot be trusted, or None."""
    try:
        hashes = json.loads((folder / "manifest.json").read_text())["sha256"]
        for name, expected in hashes.items():
            if files.sha256(folder / name) != expected:
                return f"{name} has changed since it was written"
    except (OSError, ValueError, KeyError) as error:
        return f"incomplete: {error}"
    return None


def _saved_buffers(model: nn.Module) -> list[str]:
    """Names of the buffers in a model's state_dict."""
    known = model.state_dict().keys()
    return [name for name, _ in model.named_buffers() if name in known]


def _load(state: TrainState, folder: Path) -> None:
    values = torch.load(folder / "state", weights_only=True, map_location="cpu")
    state.model.load_state_dict(load_file(folder / "raw.safetensors"))
    if state.ema is not None:
        for name, value in load_file(folder / "ema.safetensors").items():
            state.ema[name].copy_(value)
    state.optimiser.load_state_dict(values["optimiser"])
    state.step, state.stale = values["step"], values["stale"]
    state.best = Best(**values["best"]) if values["best"] else None
    state.evaluated = values.get("evaluated", True)  # without the word: saved after its evaluation
    if not state.evaluated and (found := _recorded(folder)) is not None:
        state.best, state.stale = found
        state.evaluated = True


def _recorded(folder: Path) -> tuple[Best | None, int] | None:
    """What `record` has added to a checkpoint; None when its evaluation was not finished."""
    try:
        values = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
        return Best(**values["best"]) if values["best"] else None, int(values["stale"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _point_to_best(state: TrainState, run: Path) -> None:
    if state.best and checkpoint(run, state.best.step).exists():
        files.write_text(run / "best", checkpoint(run, state.best.step).name + "\n")
    _sweep(run)


def _sweep(run: Path) -> None:
    """Keeps the newest checkpoints and the best one; removes the rest and what a killed writer left."""
    best = (run / "best").read_text().strip() if (run / "best").exists() else ""
    for folder in checkpoints(run)[:-KEEP_LAST]:
        if folder.name != best:
            shutil.rmtree(folder)
    for leftover in (run / "checkpoints").glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def _flush(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
