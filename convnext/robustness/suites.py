"""ImageNet's robustness suites: which classes and corruptions they have, their figures, their folders checked.

Nothing here runs a network. Shapes: N images, K = 1000 classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import fsum
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from .. import files
from ..catalog.class_lists import imagenet1k
from ..data.folders import class_folders, require_folder, scan
from ..data.images import read_header, readable
from ..data.source import FileReader, Source, listed, relabelled
from ..errors import UserError

SEVERITIES = 5
C_BAR = ("blue_noise_sample", "brownish_noise", "caustic_refraction", "checkerboard_cutout", "cocentric_sine_waves",
         "inverse_sparkles", "perlin_noise", "plasma_noise", "single_frequency_greyscale", "sparkles")  # fmt: skip
VAL_IMAGES = 50_000  # of ImageNet's validation set, which the ReaL labels are counted by
VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\b")
Errors = Mapping[str, Sequence[float]]  # corruption -> top-1 error in [0, 1] at severities 1 to 5


def classes_of(suite: str) -> tuple[int, ...]:
    """The indices of the 200 classes of ImageNet-A ("a") or ImageNet-R ("r"), ascending."""
    return tuple(json.loads(files.asset("imagenet_a_r.json"))[suite])


def alexnet_errors() -> dict[str, float]:
    """AlexNet's top-1 error in [0, 1] on each of the 15 corruptions of ImageNet-C, averaged over its severities."""
    return dict(json.loads(files.asset("imagenet_c_alexnet.json"))["errors"])


def mean_corruption_error(errors: Errors) -> float:
    """mCE in percent: each corruption's error relative to AlexNet's, averaged over the 15 (Hendrycks and Dietterich).

    `errors` may hold other corruptions, such as the four extra ones of ImageNet-C; they do not count. Raises UserError
    naming those of the 15 that are missing, lack a severity or are no share of 1.
    """
    alexnet = alexnet_errors()
    _require_errors(errors, tuple(alexnet), "mean corruption error")
    # Divided one by one and not after averaging, so that AlexNet's own errors give 100 without rounding.
    return 100 * fmean(fsum(error / alexnet[name] for error in errors[name]) / SEVERITIES for name in alexnet)


def mean_error(errors: Errors, names: Sequence[str] = C_BAR) -> float:
    """Mean top-1 error in percent over `names` (those of ImageNet-C-bar) and severities, as it is: no AlexNet in it.

    Raises UserError naming the corruptions that are missing, lack a severity or are no share of 1.
    """
    _require_errors(errors, names, "mean error")
    return 100 * fmean(error for name in names for error in errors[name])


def restricted(logits: Tensor, classes: Sequence[int]) -> Tensor:
    """(N, K) logits -> the same with minus infinity for all but `classes`, so that only these can be answered."""
    kept = list(classes)
    out = torch.full_like(logits, float("-inf"))
    out[:, kept] = logits[:, kept]
    return out


def masked_top1(logits: Tensor, targets: Tensor, classes: Sequence[int]) -> float:
    """Top-1 accuracy in percent of (N, K) logits with only `classes` to choose from; `targets` (N,) are among them."""
    return 100 * float((restricted(logits, classes).argmax(1) == targets).double().mean())


def real_accuracy(predicted: Sequence[int], labels: Sequence[Sequence[int]]) -> float:
    """Share in percent of answers that are among an image's labels (ReaL, Beyer et al. 2020, "Are we done").

    Images without any label do not count. Raises UserError when no image has one.
    """
    hits = [answer in mine for answer, mine in zip(predicted, labels, strict=True) if mine]
    if not hits:
        raise UserError("none of the validation images has a ReaL label; pass the validation folder the labels are for")
    return 100 * fmean(hits)


def read_real_labels(path: Path) -> list[list[int]]:
    """The ReaL labels: a JSON list of 50,000 lists of class indices, by image number. Raises UserError for others."""
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise UserError(f"the ReaL labels {readable(path)} cannot be read ({reason}); pass their real.json") from None
    indices = range(len(imagenet1k()))
    if not (isinstance(labels, list) and len(labels) == VAL_IMAGES and all(isinstance(mine, list) for mine in labels)):
        raise UserError(f"{readable(path)} is no list of {VAL_IMAGES:,} label lists; pass the real.json of ReaL")
    if any(one not in indices for mine in labels for one in mine):
        raise UserError(f"{readable(path)} has labels that are not 0 to {indices[-1]}; pass the real.json of ReaL")
    return labels


def validation_number(name: str) -> int | None:
    """The number, from 1 on, in the file name of one of ImageNet's 50,000 validation images; None in another name."""
    found = VAL_NAME.search(name)
    return int(found[1]) if found and 1 <= int(found[1]) <= VAL_IMAGES else None


def open_suite(
    root: Path, title: str, *, classes: Sequence[int] | None = None, partial: bool = False, numbered: bool = False
) -> Source:
    """The pictures of one suite's folder of synset folders, labelled by ImageNet's 1,000 indices.

    `classes` are the suite's own indices (None: all); `partial` lets some of them be missing; `numbered` also takes
    folders called 0 to 999. Raises UserError when the folder is none, a class is not the suite's or missing, or a class
    has no images.
    """
    require_folder(root)
    synsets = [synset for synset, _ in imagenet1k()]
    names = [readable(folder.name) for folder in class_folders(root)]
    if numbered and names and all(name.isdigit() for name in names):
        called = {str(i): synset for i, synset in enumerate(synsets)}
    else:
        called = {synset: synset for synset in synsets}
    if unknown := [name for name in names if name not in called]:
        kind = "synset folders" + (" or folders 0 to 999" if numbered else "")
        raise UserError(f"{readable(root)} has {listed(unknown)}, not an ImageNet-1K class; {title} has {kind}")
    own = {synsets[i] for i in (classes if classes is not None else range(len(synsets)))}
    _require_classes({called[name] for name in names}, own, f"{readable(root)} is not {title}", partial)
    source = scan(root)
    return relabelled(replace(source, classes=tuple(called[name] for name in source.classes)), synsets)


def corruption_folders(
    root: Path, title: str, names: Iterable[str], *, any_scale: bool = False, partial: bool = False
) -> dict[str, tuple[Path, ...]]:
    """The five severity folders, mild to strong, of each corruption below `root`, all of them checked.

    Severities are called 1 to 5; with `any_scale` five other numbers do, as the makers of ImageNet-C-bar have
    intensities of their own for each corruption. Raises UserError as `open_suite`, naming missing corruptions and
    severities, and for pictures that are not square (the published ones are 224 x 224 centre crops).
    """
    require_folder(root)
    there = {folder.name: folder for folder in class_folders(root)}
    wanted = tuple(names)
    if missing := [name for name in wanted if name not in there]:
        lacks = f"it lacks the corruption {listed(missing, most=len(wanted))}"
        raise UserError(f"{readable(root)} is not {title}: {lacks}; all {len(wanted)} are needed")
    found = {name: _severity_folders(there[name], title, any_scale) for name in wanted}
    for folder in (folder for several in found.values() for folder in several):
        source = open_suite(folder, title, partial=partial)
        assert isinstance(source.read, FileReader)
        first = source.read.root / source.read.paths[0]
        width, height = read_header(first).size
        if width != height:
            raise UserError(
                f"{readable(first)} is {width} x {height}, but {title} has square centre crops; "
                "a corrupted set of your own is judged by itself"
            )
    return found


def _severity_folders(root: Path, title: str, any_scale: bool) -> tuple[Path, ...]:
    there = {value: folder for folder in class_folders(root) if (value := _number(folder.name)) is not None}
    expected = [float(severity) for severity in range(1, SEVERITIES + 1)]
    if any_scale and len(there) == SEVERITIES:
        return tuple(there[value] for value in sorted(there))
    if missing := [f"{value:g}" for value in expected if value not in there]:
        raise UserError(f"{readable(root)} lacks the severity {', '.join(missing)}; {title} has 1 to 5 of each")
    return tuple(there[value] for value in expected)


def _number(name: str) -> float | None:
    return float(name) if re.fullmatch(r"\d+(\.\d+)?", name) else None


def _require_classes(found: set[str], own: set[str], where: str, partial: bool) -> None:
    missing, extra = sorted(own - found), sorted(found - own)
    if extra:
        raise UserError(
            f"{where}: {len(extra)} of its {len(found)} classes are not among the {len(own)} of that suite "
            f"({listed(extra)}) and {len(missing)} are missing; pass its own folder"
        )
    if missing and not partial:
        raise UserError(
            f"{where}: {len(missing)} of its {len(own)} classes are missing ({listed(missing)}); "
            "unpack all of it, or pass --partial"
        )


def _require_errors(errors: Errors, names: Sequence[str], figure: str) -> None:
    if missing := [name for name in names if name not in errors]:
        raise UserError(f"the {figure} lacks the corruption {listed(missing, most=len(names))}; judge all {len(names)}")
    if short := [f"{name} ({len(errors[name])})" for name in names if len(errors[name]) != SEVERITIES]:
        raise UserError(f"the {figure} takes {SEVERITIES} severities each, unlike those of {listed(short)}; judge all")
    if odd := [name for name in names if not all(0 <= error <= 1 for error in errors[name])]:
        raise UserError(f"the errors of {listed(odd)} are not shares between 0 and 1; divide percentages by 100")
