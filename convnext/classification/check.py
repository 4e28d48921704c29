"""Is this folder fit to train on? Every file is opened, every picture compared with every other.

Nothing is raised for what can be described (data/report.py).
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..data import folders
from ..data.duplicates import Picture, inspected, levels_of, repeated
from ..data.images import CONVERTIBLE, left_out, readable, suffix_of, why_left_out
from ..data.report import ERRORS, NOTES, WARNINGS, Counts, FolderReport, Problem, of_test
from ..data.source import Source, alike_within, merged_folders
from ..data.splits import Splits
from ..errors import UserError
from ..image_level.table import find_table
from ..training.slice import CheckRequest
from .data import open_data
from .labels_csv import read_table

IMBALANCE = 10  # largest class over smallest
LEFT_OUT_SHARE = 0.03  # of the files in class folders, from which on leaving them out is a warning …
STRAY = 3  # … unless they are fewer and no pictures: a note.txt, a Thumbs.db


def check(asked: CheckRequest) -> FolderReport:
    """The report on a folder of classes or with a table of labels, a built-in set's name or a file of arrays."""
    if asked.kind in ("built-in", "arrays", "cifar"):
        return _of_arrays(open_data(asked.where))
    root = asked.root
    table = find_table(root) if asked.labels is None else Path(asked.labels).expanduser()
    if table is not None:
        counts, pictures, problems = _survey_table(root, table)
    else:
        counts, pictures, problems = _survey_folders(root)
    levels, said = levels_of([picture for picture in pictures if picture.split in ("train", "all")])
    facts = inspected(pictures, asked.progress, asked.tell, levels)
    problems += said
    aside = {"test"} if {picture.split for picture in pictures} - {"test"} else set()
    problems += [
        of_test(problem) if picture.split in aside else problem
        for picture, fact in zip(pictures, facts, strict=True)
        for problem in fact.problems
    ]
    problems += [
        *_left_out(problems, len(pictures)),
        *_balance(counts),
        *_name_twins(pictures),
        *repeated(pictures, facts),
    ]
    order = {kind: i for i, kind in enumerate((*ERRORS, *WARNINGS, *NOTES))}
    return FolderReport(readable(asked.where), counts, sorted(problems, key=lambda problem: order[problem.kind]))


def _of_arrays(splits: Splits[Source]) -> FolderReport:
    parts = (("train", splits.train), ("val", splits.val))
    counts = {name: dict(zip(part.classes, part.class_counts(), strict=True)) for name, part in parts}
    return FolderReport(splits.name, counts, _balance(counts))


def _survey_table(root: Path, path: Path) -> tuple[Counts, list[Picture], list[Problem]]:
    try:
        table = read_table(path, root)
    except UserError as error:
        return {}, [], [Problem("bad table", path.name, str(error))]
    splits = table.splits or ("all",) * len(table.paths)
    counts = {split: dict.fromkeys(table.classes, 0) for split in sorted(set(splits))}
    pictures = []
    for split, name, labels in zip(splits, table.paths, table.labels, strict=True):
        named = [table.classes[label] for label in labels]
        for label in named:
            counts[split][label] += 1
        pictures.append(Picture(split, "; ".join(named), root / name, readable(name)))
    problems = [
        Problem("missing split", ".", f"{path.name} marks no row as {split}")
        for split in ("train", "val")
        if table.splits and split not in splits and not (split == "val" and "test" in splits)
    ]
    return counts, pictures, problems


def _survey_folders(root: Path) -> tuple[Counts, list[Picture], list[Problem]]:
    found = folders.split_folders(root) or {"all": root}
    counts: Counts = {}
    pictures: list[Picture] = []
    problems = list(_structure(root, found))
    within: list[str] = []
    for split, folder in found.items():
        prefix = "" if folder == root else f"{folder.name}/"
        counts[split] = {}
        for classes in folders.class_folders(folder):
            label = readable(classes.name)
            try:
                mine = list(folders.entries(folder, classes.name))
            except UserError as error:
                problems.append(Problem("unreadable folder", readable(prefix + classes.name), str(error)))
                counts[split][label] = 0
                continue
            named = [(entry, readable(prefix + entry.path)) for entry in mine]
            problems += [
                Problem("not an image", name, f"left out: {why_left_out(suffix_of(entry.path))}")
                for entry, name in named
                if not entry.is_image
            ]
            images = [
                Picture(split, label, os.path.join(folder, entry.path), name) for entry, name in named if entry.is_image
            ]
            if not images:
                problems.append(Problem("empty class", readable(prefix + classes.name), "holds no images"))
            if inner := folders.merged(mine):
                place = readable(prefix + classes.name)
                problems.append(Problem("folders within classes", place, merged_folders(inner)))
                within += inner
            counts[split][label] = len(images)
            pictures += images
    if alike := alike_within(within, list(dict.fromkeys(name for own in counts.values() for name in own))):
        problems.append(Problem("folders within classes", ".", alike))
    problems += _class_problems(counts)
    if "test" in found and not counts["test"]:
        del counts["test"]
        loose = sum(entry.is_image for entry in folders.loose_files(found["test"]))
        detail = f"left out: its {loose:,} pictures lie in no class folder, so nobody can say what is right"
        problems.append(Problem("no labels", readable(found["test"].name), detail))
    if "test" in found and len(found) > 1:
        test = found["test"].name
        problems = [of_test(problem) if _is_of_test(test, problem) else problem for problem in problems]
    return counts, pictures, problems


def _is_of_test(folder: str, problem: Problem) -> bool:
    its = problem.path in ("test", folder) or problem.path.startswith(f"{folder}/")
    return its or problem.detail.startswith("in test,")


def _structure(root: Path, found: dict[str, Path]) -> Iterator[Problem]:
    """What lies where no class folder is expected."""
    for folder, why in folders.passed_over(root, found):
        yield Problem("unused folder", readable(os.path.relpath(folder, root)), f"left out: {why}")
    if "all" not in found and "train" not in found:  # without val a share of train is held out
        yield Problem("missing split", ".", f"there is no train folder beside {next(iter(found.values())).name}")
    for folder in (root, *(folder for folder in found.values() if folder != root)):
        if folder == found.get("test") and not folders.class_folders(folder):
            continue
        if loose := [entry.path for entry in folders.loose_files(folder) if entry.is_image]:
            name = readable(os.path.relpath(folder / loose[0], root))
            others = f", and so do {len(loose) - 1:,} others beside it" if len(loose) > 1 else ""
            yield Problem("outside classes", name, f"left out: it lies in no class folder{others}")


def _left_out(problems: list[Problem], pictures: int) -> Iterator[Problem]:
    """Said as a warning where it may be many of the pictures."""
    lost = Counter(suffix_of(problem.path) for problem in problems if problem.kind == "not an image")
    count = lost.total()
    if count > LEFT_OUT_SHARE * (count + pictures) and (count >= STRAY or lost.keys() & CONVERTIBLE):
        yield Problem("left out", ".", left_out(lost, pictures))


def _class_problems(counts: Counts) -> list[Problem]:
    problems = []
    for split, classes in counts.items():
        if not classes and split == "test":
            continue  # pictures without labels, as of a competition: they stop no run
        if not classes:
            problems.append(Problem("no class folders", split, "each class needs a folder of its own"))
        elif not any(classes.values()):
            problems.append(Problem("no images", split, "no class folder holds an image"))
        elif len(classes) == 1:
            problems.append(
                Problem("one class", split, f"only {next(iter(classes))!r}; a classifier needs at least two")
            )
    for split, other in (("train", "val"), ("val", "train"), ("test", "train")):  # test may lack a class
        if counts.get(split) and counts.get(other):
            only = [name for name in counts[split] if name not in counts[other]]
            problems += [Problem("class in one split", name, f"in {split}, not in {other}") for name in only]
    return problems


def _balance(counts: Counts) -> list[Problem]:
    """Very uneven classes among the training pictures, and classes of which none can be held out."""
    split = "all" if "all" in counts else "train"
    filled = {name: count for name, count in counts.get(split, {}).items() if count}
    if len(filled) < 2:
        return []
    large, small = max(filled, key=lambda name: filled[name]), min(filled, key=lambda name: filled[name])
    problems = []
    if filled[large] > IMBALANCE * filled[small]:
        detail = f"{large!r} has {filled[large]:,} images, {small!r} only {filled[small]:,}; consider balanced sampling"
        problems.append(Problem("imbalance", split, detail))
    if split == "all" or "val" not in counts:
        problems += [
            Problem("single image", name, "cannot be both learnt from and measured on")
            for name, count in filled.items()
            if count == 1
        ]
    return problems


def _name_twins(pictures: Iterable[Picture]) -> Iterator[Problem]:
    """Names that differ only in case or in how accents are composed: one file where the file system folds them."""
    firsts: dict[tuple[str, str], str] = {}
    for name in dict.fromkeys(name for picture in pictures for name in (os.path.dirname(picture.name), picture.name)):
        folder, own = os.path.split(name)
        first = firsts.setdefault((folder, unicodedata.normalize("NFC", own.casefold())), name)
        if first != name:
            yield Problem("name twins", name, f"the same as {first} on a system that ignores case")
