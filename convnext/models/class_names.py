"""What the classes of other libraries' checkpoints are called: in the file itself, or in one beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .labels import ade20k, coco, imagenet1k

ALIKE = 0.9  # share of names: libraries spell a few of the well-known classes differently
NO_NAME = re.compile(r"LABEL_\d+")  # what transformers writes where nobody gave names
CONFIG = "config.json"


def names_in(values: Mapping[str, Any], path: Path | None = None) -> list[str] | None:
    """The names in a checkpoint as mmdetection, mmsegmentation and mmpretrain store them, or in the config.json beside
    `path` as transformers and timm do; None where there are none."""
    meta = values.get("meta")
    if isinstance(meta, Mapping):
        for place in (meta.get("dataset_meta"), meta):
            for key in ("classes", "CLASSES"):
                if isinstance(place, Mapping) and (names := _names(place.get(key))):
                    return names
    return _in_config(path.with_name(CONFIG)) if path is not None else None


def fitting_names(names: Sequence[str] | None, num_classes: int) -> list[str] | None:
    """`names` where there is one for each class, those of ImageNet-1K, COCO and ADE20K in our spelling; else None."""
    if names is None or len(names) != num_classes:
        return None
    ours = [words for _, words in imagenet1k()], [name for _, name in coco()], [name for name, _ in ade20k()]
    for known in ours:
        if len(known) == len(names):
            same = sum(one.strip().lower() == other.lower() for one, other in zip(names, known, strict=True))
            if same >= ALIKE * len(known):
                return known
    return list(names)


def _in_config(path: Path) -> list[str] | None:
    try:
        config = json.loads(path.read_bytes())
        numbered = config.get("id2label")
        if isinstance(numbered, dict):
            names = _names([numbered[str(i)] for i in range(len(numbered))])
            return names if names and not all(map(NO_NAME.fullmatch, names)) else None
        return _names(config.get("label_names"))
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _names(value: Any) -> list[str] | None:
    usable = isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value)
    return list(value) if usable else None
