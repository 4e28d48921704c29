"""Every suite of the robustness evaluation, end to end, on folders in each suite's layout made of one image a class.

    python benchmarks/table8_sample.py SAMPLE [CHECKPOINT]

SAMPLE holds a folder of JPEG pictures for each of ImageNet's 1,000 synsets. Without CHECKPOINT an untrained atto is
judged, which should be at chance: 0.1 % of 1,000 classes, 0.5 % of 200. The corrupted suites take the first 25
classes, written by our own corruptions; the figures are trials of the code and no result of any network.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from PIL import Image

import convnext
from convnext.catalog.class_lists import imagenet1k
from convnext.robustness import evaluate as robustness
from convnext.robustness import suites
from convnext.system.tables import render

CORRUPTED_CLASSES = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample", type=Path)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folders = make_suites(options.sample.resolve(), work)
        print(f"suites made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        checkpoint = options.checkpoint or untrained(work)
        result = robustness.robustness(checkpoint, **folders, real_labels=real_labels(work), partial=True, say=print)
    print(render(robustness.table(result)[-2:]))
    print(f"images: {result.counts}; {time.perf_counter() - began:.0f} s in all")


def untrained(work: Path) -> Path:
    torch.manual_seed(0)
    return convnext.save_weights(convnext.create_model("convnext_atto"), work / "untrained.safetensors")


class Suites(TypedDict):
    """A folder each."""

    val: Path
    sketch: Path
    a: Path
    r: Path
    v2: Path
    c: Path
    c_bar: Path


def make_suites(sample: Path, work: Path) -> Suites:
    """The layout of each suite, of links to the sample's pictures, ImageNet's names in the validation set."""
    pictures = {synset: min((sample / synset).iterdir()) for synset, _ in imagenet1k()}
    synsets = list(pictures)
    layouts = {
        "val": synsets,
        "sketch": synsets,
        "a": [synsets[i] for i in suites.classes_of("a")],
        "r": [synsets[i] for i in suites.classes_of("r")],
        "few": synsets[:CORRUPTED_CLASSES],
    }
    for suite, chosen in layouts.items():
        for synset in chosen:
            link(pictures[synset], work / suite / synset / f"ILSVRC2012_val_{synsets.index(synset) + 1:08d}.JPEG")
    for i, synset in enumerate(synsets):
        link(pictures[synset], work / "v2" / str(i) / "0.jpeg")
    val, sketch, a, r, v2 = (work / suite for suite in ("val", "sketch", "a", "r", "v2"))
    c, c_bar = corrupted(work)
    return {"val": val, "sketch": sketch, "a": a, "r": r, "v2": v2, "c": c, "c_bar": c_bar}


def corrupted(work: Path) -> tuple[Path, Path]:
    """ImageNet-C's layout of centre crops of the few classes; C-bar's of the same files under its own names."""
    crops = work / "crops"
    for path in sorted((work / "few").rglob("*.JPEG")):
        place = crops / path.parent.name / path.name
        place.parent.mkdir(parents=True)
        with Image.open(path) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            box = (left, top, left + side, top + side)
            image.convert("RGB").resize((224, 224), box=box).save(place, quality=95)
    frost = work / "frost"
    frost.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(frost / "noise.png")  # any picture will do for a trial of the code
    out = robustness.corrupt_folder(crops, work / "c", frost=frost)
    for theirs, ours in zip(suites.C_BAR, sorted(suites.alexnet_errors()), strict=False):
        link(out / ours, work / "c_bar" / theirs)
    return out, work / "c_bar"


def real_labels(work: Path) -> Path:
    """ReaL's file for the links' numbers: the picture of class i is number i + 1 and has that label alone."""
    path = work / "real.json"
    path.write_text(str([[i] for i in range(1000)] + [[] for _ in range(49_000)]))
    return path


def link(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(source)


if __name__ == "__main__":
    main()
