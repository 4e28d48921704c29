"""How a checkpoint fares on ImageNet's harder test sets (the paper's Table 8), and on corrupted copies of a folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from torch import Tensor, nn

from .. import files
from ..catalog.class_lists import imagenet1k, names_for
from ..classification.predict import matched, require_classifier
from ..classification.task import ClassificationEvaluator, ClassifiedImage
from ..data import folders
from ..data.images import readable
from ..data.learned import LearnedBy
from ..data.preprocess import Preprocess
from ..data.source import Source, listed
from ..errors import UserError
from ..paper.costs import count
from ..pretrained import from_pretrained
from ..system.tables import Row
from ..tasks import slice_of
from ..tasks.look import look_at, require_for_model
from ..training import runtime
from ..training.run_folder import learned_by
from ..training.runtime import Runtime
from ..weights.info import Pretrained
from . import suites
from .corrupt_folder import corrupt_folder
from .corruptions import SEVERITIES

__all__ = ["OwnResult", "Result", "corrupt_folder", "learned_from", "robustness", "robustness_on_own", "table"]

TITLES = {"val": "ImageNet's validation set", "a": "ImageNet-A", "r": "ImageNet-R", "sketch": "ImageNet-Sketch",
          "v2": "ImageNet-V2", "c": "ImageNet-C", "c_bar": "ImageNet-C-bar"}  # fmt: skip
FIGURES = {"clean": "val", "in_a": "a", "in_r": "r", "in_sketch": "sketch", "in_v2": "v2"}  # accuracies
Where = str | Path
Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """A row of Table 8, in percent; None where that suite was not given.

    Accuracies but for `inc_mce` (AlexNet = 100) and `incbar_err`, of which less is better. `errors` holds the top-1
    error in [0, 1] at severities 1 to 5 of each corruption, by suite ("c", "c_bar"); `counts` the images of each suite.
    """

    model: str
    size: int  # pixels a side that the network was shown
    gmacs: float  # multiply-adds at that size, 10^9
    parameters_m: float
    data: str | None = None  # "1K" or "22K" of released weights, what they learned from
    clean: float | None = None
    inc_mce: float | None = None
    incbar_err: float | None = None
    in_a: float | None = None
    in_r: float | None = None
    in_sketch: float | None = None
    in_v2: float | None = None
    in_real: float | None = None
    errors: dict[str, dict[str, tuple[float, ...]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def row(self) -> Row:
        """The figures under the names of the published table's columns, and `in_v2` and `in_real`."""
        names = ("clean", "inc_mce", "incbar_err", "in_a", "in_r", "in_sketch", "in_v2", "in_real")
        values = {name: getattr(self, name) for name in names}
        known = {name: None if value is None else round(value, 2) for name, value in values.items()}
        cost = {"gflops": round(self.gmacs, 2), "params_M": round(self.parameters_m, 1)}
        row: Row = {"model": self.model, "data": self.data, "size": self.size}
        return row | cost | known


@dataclass(frozen=True)
class OwnResult:
    """Top-1 error in [0, 1] on a corrupted folder, `errors[corruption][severity]`, and the count of images judged.

    `clean` is the error on the folder that it was made of, where that was judged too.
    """

    errors: dict[str, dict[int, float]]
    count: int
    clean: float | None = None

    @property
    def mean(self) -> float:
        """In percent: the mean over corruptions of their means over severities; no AlexNet, as it knows ImageNet."""
        return 100 * fmean(fmean(several.values()) for several in self.errors.values())

    @property
    def rows(self) -> list[Row]:
        """The clean folder, each corruption (percentages by severity and their mean), and last the mean of all."""
        rows: list[Row] = [
            {
                "corruption": name,
                **{f"severity {severity}": round(100 * error, 2) for severity, error in several.items()},
                "mean error": round(100 * fmean(several.values()), 2),
            }
            for name, several in self.errors.items()
        ]
        rows.append({"corruption": "mean", "mean error": round(self.mean, 2)})
        if self.clean is not None:  # with the others' keys, as the first row orders the columns
            rows.insert(0, dict.fromkeys(rows[0]) | {"corruption": "none", "mean error": round(100 * self.clean, 2)})
        return rows


def table(*results: Result) -> list[Row]:
    """The published rows of Table 8, then ours; every row has the same keys, the published columns first."""
    published = json.loads(files.asset("table8.json"))
    columns = [*published["columns"], "in_v2", "in_real"]
    return [{name: row.get(name) for name in columns} for row in [*published["rows"], *(one.row for one in results)]]


def robustness(
    checkpoint: Where,
    *,
    val: Where | None = None,
    a: Where | None = None,
    r: Where | None = None,
    sketch: Where | None = None,
    v2: Where | None = None,
    real_labels: Where | None = None,
    c: Where | None = None,
    c_bar: Where | None = None,
    partial: bool = False,
    batch_size: int = 64,
    precision: str = "auto",
    say: Say | None = None,
) -> Result:
    """Judges an ImageNet-1K classifier on the suites whose folders are given; all are checked before it runs.

    `val`, `a`, `r`, `sketch` and `v2` hold synset folders (`v2` may have them numbered 0 to 999) and are shown by the
    protocol stored with the checkpoint. For A and R only their own 200 classes can be answered. `c` and `c_bar` hold
    CORRUPTION/SEVERITY/SYNSET; their published pictures are 224 x 224 centre crops already and are shown whole: at 224
    as they are, which is the reference protocol, at other sizes resized (for the 384 networks enlarged). The paper does
    not state which it did. `real_labels` is the ReaL project's real.json, for the images of `val`. `partial` lets
    classes be missing, for trials on a sample.

    Raises UserError when no suite is given, a folder is not the suite it is given as, or the checkpoint does not have
    ImageNet's 1,000 classes in their order.
    """
    given = {"val": val, "a": a, "r": r, "sketch": sketch, "v2": v2, "c": c, "c_bar": c_bar}
    roots = {key: Path(root).expanduser() for key, root in given.items() if root is not None}
    labels = _real_labels(real_labels, val)
    if not roots:
        raise UserError(f"no suite was given; name the folder of at least one of {', '.join(TITLES.values())}")
    require_batch(batch_size)
    opened = {key: _opened(key, root, partial) for key, root in roots.items() if key in FIGURES.values()}
    numbers = _validation_numbers(opened["val"]) if labels is not None else []
    corrupted = {key: _corrupted(key, root, partial) for key, root in roots.items() if key not in opened}
    model = _imagenet_model(checkpoint)
    errors: dict[str, dict[str, tuple[float, ...]]] = {}
    with runtime.start_judging(model, precision, say) as run:
        judge = _Judge(model, Preprocess.from_dict(model.info.preprocess), run, batch_size, say or (lambda note: None))
        figures, counts = _accuracies(judge, opened, labels, numbers)
        for key, by_name in corrupted.items():
            errors[key], counts[key] = judge.errors(by_name, TITLES[key], partial)
    figures |= _means(errors)
    size, release = judge.preprocess.size, model.info.release
    cost = count(lambda: copy.deepcopy(model).to("meta"), size)
    data = None if release is None else ("22K" if "22k" in release.tag else "1K")
    gmacs, millions = cost.gmacs, cost.parameters / 1e6
    return Result(str(checkpoint), size, gmacs, millions, data, errors=errors, counts=counts, **figures)


def robustness_on_own(
    checkpoint: Where,
    corrupted: Where,
    data: Where | None = None,
    *,
    batch_size: int = 64,
    precision: str = "auto",
    say: Say | None = None,
) -> OwnResult:
    """Errors on a folder that `corrupt_folder` wrote, CORRUPTION/SEVERITY/CLASS, by the checkpoint's own protocol.

    `data` is the folder it was made of, to judge too. Classes are matched by name. Raises UserError, before anything
    runs, when the folder is built otherwise, a class is unknown to the checkpoint, or the checkpoint gives an image
    several labels.
    """
    root = Path(corrupted).expanduser()
    require_batch(batch_size)
    found = _own_folders(root)
    model = _classifier(checkpoint)
    opened = {
        name: {severity: matched(checkpoint, model, folder, split="all")[0] for severity, folder in by_severity.items()}
        for name, by_severity in found.items()
    }
    plain = None if data is None else matched(checkpoint, model, data)[0]
    errors: dict[str, dict[int, float]] = {}
    count, clean = 0, None
    with runtime.start_judging(model, precision, say) as run:
        judge = _Judge(model, Preprocess.from_dict(model.info.preprocess), run, batch_size, say or (lambda note: None))
        if plain is not None:
            clean = 1 - judge.top1(plain, "without corruption")[0] / 100
        for name, sources_of in opened.items():
            errors[name] = {}
            for severity, source in sources_of.items():
                top1, judged = judge.top1(source, f"{name}, severity {severity}")
                errors[name][severity] = 1 - top1 / 100
                count += judged
    return OwnResult(errors, count, clean)


def learned_from(checkpoint: Where, data: Where) -> LearnedBy:
    """What `corrupt_folder` needs to leave out the pictures that a checkpoint learned from.

    Raises UserError when the checkpoint cannot be judged on `data`, before hours are spent on copies of it.
    """
    folders.require_folder(Path(data).expanduser())
    model = _classifier(checkpoint)
    require_for_model(look_at(data), slice_of(model).name, checkpoint)
    matched(checkpoint, model, data)
    return learned_by(model)


def require_batch(batch_size: int) -> None:
    """UserError unless at least one image is judged at a time."""
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} holds no image; pass a positive --batch-size")


@dataclass(frozen=True)
class _Judge:
    """One network in evaluation mode, and how it is shown pictures."""

    model: nn.Module
    preprocess: Preprocess
    run: Runtime
    batch_size: int
    say: Say

    def top1(
        self,
        source: Source,
        title: str,
        classes: Sequence[int] | None = None,
        *,
        whole: bool = False,
        answers: dict[str, int] | None = None,
    ) -> tuple[float, int]:
        """Accuracy in percent and count of images; with only `classes` to answer; `answers` takes the best by image."""
        preprocess = replace(self.preprocess, mode="whole") if whole else self.preprocess
        evaluator = ClassificationEvaluator(source, preprocess, self.run, self.batch_size)
        network = self.model.to(self.run.device).eval()
        mine: dict[str, int] = {}

        def keep(row: ClassifiedImage) -> None:
            mine[row["id"]] = int(row["probabilities"].argmax())

        judged = network if classes is None else _Restricted(network, tuple(classes))
        found = evaluator.evaluate(judged, None if answers is None else keep)
        if answers is not None:
            for part in self.run.gather(mine):
                answers.update(part)
        self.say(f"{title}: top-1 {found['top1']:.2f} % of {int(found['count']):,} images")
        return found["top1"], int(found["count"])

    def errors(
        self, by_name: dict[str, tuple[Path, ...]], title: str, partial: bool
    ) -> tuple[dict[str, tuple[float, ...]], int]:
        """Top-1 errors in [0, 1] of each corruption by severity, pictures shown whole, and the count of them all."""
        errors: dict[str, tuple[float, ...]] = {}
        count = 0
        for name, places in by_name.items():
            mine = []
            for severity, folder in zip(SEVERITIES, places, strict=True):
                # Opened anew: the lists of 75 x 50,000 files of ImageNet-C need not be in memory together.
                source = suites.open_suite(folder, title, partial=partial)
                top1, judged = self.top1(source, f"{title}, {name}, severity {severity}", whole=True)
                mine.append(1 - top1 / 100)
                count += judged
            errors[name] = tuple(mine)
        return errors, count


def _accuracies(
    judge: _Judge, opened: dict[str, Source], labels: list[list[int]] | None, numbers: list[int]
) -> tuple[dict[str, float], dict[str, int]]:
    """Accuracy on each suite that is opened, and by ReaL's `labels`, by its field of `Result`; images of each suite."""
    figures: dict[str, float] = {}
    counts: dict[str, int] = {}
    for figure, key in FIGURES.items():
        if key in opened:
            classes = suites.classes_of(key) if key in ("a", "r") else None
            answers: dict[str, int] | None = {} if key == "val" and labels is not None else None
            figures[figure], counts[key] = judge.top1(opened[key], TITLES[key], classes, answers=answers)
            if answers is not None and labels is not None:
                predicted = [answers[name] for name in opened[key].ids]
                figures["in_real"] = suites.real_accuracy(predicted, [labels[n - 1] for n in numbers])
    return figures, counts


def _means(errors: dict[str, dict[str, tuple[float, ...]]]) -> dict[str, float]:
    """What Table 8 prints of the corruptions, by its field of `Result`."""
    found: dict[str, float] = {}
    if "c" in errors:
        found["inc_mce"] = suites.mean_corruption_error(errors["c"])
    if "c_bar" in errors:
        found["incbar_err"] = suites.mean_error(errors["c_bar"])
    return found


class _Restricted(nn.Module):
    """A classifier that can answer some of its classes only."""

    def __init__(self, model: nn.Module, classes: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, images: Tensor) -> Tensor:
        return suites.restricted(self.model(images), self.classes)


def _imagenet_model(checkpoint: Where) -> Pretrained:
    """A usable model whose outputs are ImageNet's 1,000 classes in their order; UserError for another."""
    model = _classifier(checkpoint)
    synsets = [synset for synset, _ in imagenet1k()]
    if model.num_classes != len(synsets):
        raise UserError(f"{checkpoint} knows {model.num_classes:,} classes; these suites need ImageNet-1K's 1,000")
    if model.info.classes not in (None, synsets, names_for(model.num_classes)):
        raise UserError(f"{checkpoint} has 1,000 classes, but not ImageNet-1K's in their order; pass one trained on it")
    return model


def _opened(key: str, root: Path, partial: bool) -> Source:
    folders.require_folder(root)
    if key == "val":
        root = folders.split_folders(root).get("val", root)
    classes = suites.classes_of(key) if key in ("a", "r") else None
    return suites.open_suite(root, TITLES[key], classes=classes, partial=partial, numbered=key == "v2")


def _corrupted(key: str, root: Path, partial: bool) -> dict[str, tuple[Path, ...]]:
    names = tuple(suites.alexnet_errors()) if key == "c" else suites.C_BAR
    return suites.corruption_folders(root, TITLES[key], names, any_scale=key == "c_bar", partial=partial)


def _real_labels(path: Where | None, val: Where | None) -> list[list[int]] | None:
    if path is None:
        return None
    if val is None:
        raise UserError("ReaL labels are for ImageNet's validation images; name their folder too")
    return suites.read_real_labels(Path(path).expanduser())


def _validation_numbers(source: Source) -> list[int]:
    numbers = [suites.validation_number(name) for name in source.ids]
    if nameless := [name for name, number in zip(source.ids, numbers, strict=True) if number is None]:
        raise UserError(
            f"ReaL labels go by ImageNet's own names, ILSVRC2012_val_00000001 to _00050000, unlike "
            f"{listed(nameless)}; keep those names or leave the ReaL labels out"
        )
    return [number for number in numbers if number is not None]


def _own_folders(root: Path) -> dict[str, dict[int, Path]]:
    """Corruption -> severity -> its folder of class folders."""
    folders.require_folder(root)
    found: dict[str, dict[int, Path]] = {}
    for corruption in folders.class_folders(root):
        places = {folder.name: folder for folder in folders.class_folders(corruption)}
        if not places or (odd := [name for name in places if name not in map(str, SEVERITIES)]):
            has = listed(odd) if places else "no folders"
            raise UserError(
                f"{readable(corruption)} has {has} where severities 1 to 5 should be; "
                "pass a folder that --corrupt has written"
            )
        found[corruption.name] = {int(name): folder for name, folder in sorted(places.items())}
    if not found:
        raise UserError(f"{readable(root)} has no corruptions; pass a folder that --corrupt has written")
    return found


def _classifier(checkpoint: str | Path) -> Pretrained:
    """A model that turns pictures into classes. Raises UserError for one that does not."""
    model = from_pretrained(checkpoint)
    require_classifier(model, checkpoint)
    return model
