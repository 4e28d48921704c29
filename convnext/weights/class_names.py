"""What the classes of other libraries' checkpoints are called: in the file itself, or in the folder's config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..catalog.class_lists import ade20k, coco, imagenet1k

ALIKE = 0.9  # share of names: libraries spell a few of the well-known classes differently
NO_NAME = re.compile(r"LABEL_\d+")  # what transformers writes where nobody gave names


def names_in(values: Mapping[str, object]) -> list[str] | None:
    """The names in a checkpoint as mmdetection, mmsegmentation and mmpretrain store them; None where there are none."""
    meta = values.get("meta")
    if isinstance(meta, Mapping):
        for place in (meta.get("dataset_meta"), meta):
            for key in ("classes", "CLASSES"):
                if isinstance(place, Mapping) and (names := _names(place.get(key))):
                    return names
    return None


def names_in_config(config: Mapping[str, object]) -> list[str] | None:
    """The names in a config.json as transformers and timm write it; None where there are none."""
    if (numbered := _numbered(config.get("id2label"))) is not None:
        return None if all(map(NO_NAME.fullmatch, numbered)) else numbered
    inner = config.get("pretrained_cfg")
    for place in (config, inner if isinstance(inner, Mapping) else {}):
        for key in ("label_names", "labels"):
            if found := _numbered(place.get(key)) or _names(place.get(key)):
                return found
    return None


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


def _numbered(value: object) -> list[str] | None:
    """Names under "0", "1", …; None where one of the numbers is missing."""
    if not isinstance(value, Mapping) or any(str(i) not in value for i in range(len(value))):
        return None
    return _names([value[str(i)] for i in range(len(value))])


def _names(value: object) -> list[str] | None:
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        return list(value)
    return None
