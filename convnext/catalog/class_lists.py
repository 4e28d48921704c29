"""ImageNet's and COCO's classes: their names, for checkpoints that carry none, and their places in other lists."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache

from .. import files

SYNSET = re.compile(r"n\d{8}")


@cache
def imagenet1k() -> tuple[tuple[str, str], ...]:
    """(synset, words) of each of the 1,000 classes, in the order of the released heads."""
    text = files.asset("imagenet1k.tsv")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return tuple((synset, words) for synset, words in rows)


def positions_in_22k() -> tuple[int, ...]:
    """Of each ImageNet-1K class the position among the 21,841 sorted ImageNet-22K synsets; -1 for the one not there.

    That the rows of released 22K heads have this order is timm's reading; the official repository does not say.
    """
    return tuple(json.loads(files.asset("imagenet_22k_to_1k.json"))["positions"])


def names_for(num_classes: int) -> list[str] | None:
    """What the classes of a checkpoint without names are called: a head of 1,000 is taken for ImageNet-1K's."""
    return [words for _, words in imagenet1k()] if num_classes == len(imagenet1k()) else None


@cache
def coco() -> tuple[tuple[int, str], ...]:
    """(category id, name) of COCO's 80 classes, in the order of the released detectors' heads; the ids have gaps."""
    rows = json.loads(files.asset("coco_categories.json"))["categories"]
    return tuple((int(number), name) for number, name in rows)


@cache
def ade20k() -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """(name, colour) of ADE20K's 150 classes, in the order of the released segmenters' heads."""
    rows = json.loads(files.asset("ade20k_classes.json"))["classes"]
    return tuple((str(name), (int(r), int(g), int(b))) for name, (r, g, b) in rows)


def as_folders_name_them(names: Sequence[str] | None, folders: Sequence[str]) -> Sequence[str] | None:
    """ImageNet's names as synsets where the folders are called by those; any other names as they are."""
    if names is not None and list(names) == names_for(len(names)) and all(SYNSET.fullmatch(one) for one in folders):
        return [synset for synset, _ in imagenet1k()]
    return names
