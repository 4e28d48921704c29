"""A folder, a table, a file of arrays or the name of a built-in set -> the pictures to learn from and to be judged on.

A source is a map-style sequence: `classes`, `labels`, `ids`, `multi_label`, `typical_size` (median short side in
pixels), `native` (a built-in set's name, else None), `len()` and `[i] -> Sample`. It can be pickled.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ..data import folders
from ..data.folders import scan
from ..data.images import readable
from ..data.learned import NOTHING_LEARNED, UNTOLD, LearnedBy, to_judge
from ..data.source import FileReader, Label, Source, as_given, kept_for_the_end, listed, relabelled, remarks_on
from ..data.splits import Split, Splits, fingerprint
from ..errors import UserError
from ..image_level.hold_out import all_learned, by_hash, held_out, pictures_of, require_both, require_fold
from ..image_level.table import find_table
from . import builtin
from .builtin import NATIVE
from .labels_csv import LabelTable, read_table

FAR_OFF = 1.5  # times the share that was asked for is held out, or less: that is said


def open_data(
    where: str | Path | None = None,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    multi_label_csv: str | Path | None = None,
    test_chooses: bool = False,
) -> Splits[Source]:
    """The training and validation split of a folder, or of a built-in set by name (None: the digits).

    A folder with train/ and val/ is taken as it is; one of class folders has a share of each class held out, chosen by
    the hash of seed and file name, so that a picture added later moves at most one other; a share of 0 holds out
    nothing. Of train/ without val/ a share is held out, too: a test/ beside it chooses nothing (`test_chooses`: it is
    val itself). A labels.csv that names pictures (`path`) makes a multi-label set. A folder with CIFAR's own
    batches, or an .npz file (x_train, y_train, x_test, y_test, and `classes` by choice), is read as such. CIFAR and
    Imagenette are downloaded only because they are named here. Raises UserError for whatever makes the data unfit.
    """
    text = "digits" if where is None else str(where)
    if text in NATIVE and not os.path.isdir(text):
        return builtin.named(text)
    root = Path(os.path.expanduser(text))
    if root.suffix == ".npz" and os.path.isfile(root):
        return builtin.from_npz(root)
    folders.require_folder(root, NATIVE)
    if table := Path(multi_label_csv) if multi_label_csv is not None else find_table(root):
        return _labelled_by_csv(root, table, val_fraction, seed, test_chooses)
    if native := builtin.cifar_in(root):
        return native
    found = folders.split_folders(root)
    unused = folders.remark_on_passed_over(root, found)
    if not found:
        splits = _split(scan(root), text, val_fraction, seed)
        return replace(splits, note=splits.note + unused)
    if "train" not in found:
        advice = "add it, or pass the folder of class folders to have it split"
        raise UserError(f"{readable(root)} has a {next(iter(found))} folder but no train folder; {advice}")
    if test_chooses and "val" not in found and "test" in found:
        found["val"] = found.pop("test")
    parts = {split: scan(folder, prefix=folder.name) for split, folder in found.items() if split != "test"}
    train, val = parts["train"], parts.get("val")
    test, why = _test_split(train, found.get("test"), root)
    if val is None:
        splits = _split(train, text, val_fraction, seed, test)
    else:
        _require_same_classes(train, val, root)
        splits = as_given(train, val, text, test)
    return replace(splits, note=splits.note + why + unused)


def open_fold(
    where: str | Path | None, fold: int, folds: int, *, multi_label_csv: str | Path | None = None
) -> Splits[Source]:
    """Of a folder without a split: as `val` the given one (from 1) of so many folds, as `train` all the others.

    Folds are alike in each class and as large as each other, but for one image; which image is in which follows from
    its name. Raises UserError where there is a split already, a class has fewer images than there are folds, or there
    is no such fold.
    """
    require_fold(fold, folds)
    text = "digits" if where is None else str(where)
    root = Path(os.path.expanduser(text))
    own = f"{readable(text)} has a split of its own; --folds divides a folder of class folders that has none"
    if (text in NATIVE and not root.is_dir()) or root.suffix == ".npz":
        raise UserError(own)
    folders.require_folder(root, NATIVE)
    unused = ""
    if table := Path(multi_label_csv) if multi_label_csv is not None else find_table(root):
        whole, read = _in_table(root, table)
        if read.splits is not None:
            raise UserError(own)
    elif builtin.cifar_in(root) is not None or folders.split_folders(root):
        raise UserError(f"{own}, such as {readable(folders.split_folders(root).get('train', root))}")
    else:
        whole, unused = scan(root), folders.remark_on_passed_over(root, {})
    counts = whole.class_counts()
    if min(counts) < folds:
        few = f"the class {whole.classes[counts.index(min(counts))]!r} has {min(counts)} images"
        raise UserError(f"--folds {folds}: {few}, and each fold needs one; choose from 2 to that many")
    groups = [[i for i, label in enumerate(whole.labels) if label == k] for k in range(len(whole.classes))]
    held: list[int] = []
    before = 0
    for mine in [list(range(len(whole)))] if whole.multi_label else groups:
        ordered = by_hash(whole.ids, mine, 0)
        held += [i for place, i in enumerate(ordered, before) if place % folds == fold - 1]
        before += len(mine)
    train, val = sorted(set(range(len(whole))) - set(held)), sorted(held)
    note = f"{readable(text)}: fold {fold} of {folds}, {len(train):,} images to learn from and {len(val):,} to judge on"
    return Splits(whole.take(train), whole.take(val), text, note + remarks_on(whole) + unused)


def open_for_judging(
    where: str | Path | None = None,
    *,
    split: Split = "val",
    learned: LearnedBy = NOTHING_LEARNED,
    multi_label_csv: str | Path | None = None,
) -> tuple[Source, str]:
    """The pictures to judge a model on, and a sentence that says which they are.

    A folder with a split of its own, and whatever is not a folder, is taken as `open_data` does; a lone val folder is
    enough, and test stands in for it where there is none. Of a folder of class folders all pictures count. Of files,
    those are left out that the model has `learned` from, whatever has happened to the folder since, as far as its file
    knows them. Raises UserError when there is no such split or no picture is left.
    """
    known, trained_on, val_fraction = learned.known, learned.trained_on, learned.val_fraction
    whole, place, note, everywhere = _judged(where, split, val_fraction, multi_label_csv, known is not None)
    if split == "all" or not isinstance(whole.read, FileReader) or whole.native is not None:
        return whole, note
    if known is not None:
        chosen, said = to_judge(known, whole, split, place, note, everywhere)
        return whole.take(chosen), said
    return (whole, note) if trained_on is None else _by_fingerprint(where, whole, split, val_fraction, trained_on, note)


def _judged(
    where: str | Path | None, split: str, val_fraction: float, csv: str | Path | None, by_name: bool
) -> tuple[Source, str, str, Sequence[str]]:
    """All pictures of the split, where they lie, a sentence about them, and the names of those in other splits.

    Of a table without a split those that would be held out count, unless it is known `by_name` what was learned from.
    """
    root = Path("" if where is None else os.path.expanduser(str(where)))
    folder = where is not None and str(where) not in NATIVE and root.is_dir()
    table = Path(csv) if csv is not None else find_table(root) if folder else None
    if folder and table is not None and by_name and split != "test":
        everyone, read = _in_table(root, table)
        if read.splits is None:
            return everyone, readable(root), f"all {len(everyone):,} images of {readable(root)} ({table.name})", ()
    if folder and table is None and builtin.cifar_in(root) is None:
        found = folders.split_folders(root)
        if split == "test" and "test" not in found:
            raise UserError(_no_test(str(where), ("val", "train") if "train" in found else found))
        if not found:
            whole = scan(root)
            return whole, readable(root), f"all {len(whole):,} images of {readable(root)}", ()
        if split == "val" and "val" not in found and "test" in found:
            split = "test"
        if split in found and (len(found) == 1 or split == "test"):
            lone = scan(found[split], prefix=found[split].name)
            return lone, readable(found[split]), f"the {len(lone):,} images of {readable(found[split])}", ()
    splits = open_data(where, val_fraction=val_fraction, multi_label_csv=csv)
    if split == "all":
        raise UserError(f"{splits.name} has a split of its own; choose --split val or --split train")
    if split == "test" and splits.test is None:
        raise UserError(_no_test(splits.name, ("val", "train")))
    chosen, other = (splits.train, splits.val) if split == "train" else (splits.val, splits.train)
    chosen = splits.test if split == "test" and splits.test is not None else chosen
    note = f"the {len(chosen):,} images of the {split} split of {readable(splits.name)}"
    if folder and table is None and split == "val" and (own := folders.split_folders(root)) and "val" not in own:
        note = (
            f"the {len(chosen):,} images of {readable(own['train'])} that training holds out, as there is no val folder"
        )
    return chosen, f"the {split} split of {readable(splits.name)}", note, other.ids


def _no_test(where: str, there: Collection[str]) -> str:
    others = " or ".join(f"--split {name}" for name in there)
    return f"{readable(where)} has no test split; {f'choose {others}' if there else 'leave out --split test'}"


def _by_fingerprint(
    where: str | Path | None, whole: Source, split: str, val_fraction: float, trained_on: str, note: str
) -> tuple[Source, str]:
    """For models whose file does not name what they learned from: the split by rule, if that is what it was."""
    root = Path(os.path.expanduser(str(where)))
    if whole.multi_label:
        return whole, note
    if folders.split_folders(root):
        own = open_data(where, val_fraction=val_fraction) if "train" in folders.split_folders(root) else None
        same = own is not None and fingerprint(own.train) == trained_on
        return whole, note if same else note + UNTOLD
    parts = _split(whole, str(where), val_fraction, 0)
    if fingerprint(parts.train) != trained_on:
        return whole, note + UNTOLD
    chosen = parts.train if split == "train" else parts.val
    how = "that it learned from" if split == "train" else "that were held out of its training"
    return chosen, f"the {len(chosen):,} images of {readable(root)} {how}"


def _split(
    whole: Source, name: str, fraction: float, seed: int, test: Source | None = None, lacking: str = "val folder"
) -> Splits[Source]:
    """Of each class the given share is held out: at least one image, but never the only one; of a share of 0 none."""
    members: list[list[int]] = [[] for _ in whole.classes]
    for i, label in enumerate(whole.labels):
        members[label].append(i)  # type: ignore[index]  # folders have one label an image
    held = {i for mine in members for i in held_out(whole.ids, mine, fraction, seed)}
    if not held and fraction:
        raise UserError(f"{readable(name)} has one image a class; nothing can be held out to measure on, so add images")
    train, val = [i for i in range(len(whole)) if i not in held], sorted(held)
    share = f"no {lacking}, so {len(val):,} of {len(whole):,} images are held out, {_evenly(whole, members, fraction)}"
    note = f"{readable(name)}: {share if held else all_learned(len(whole))}{kept_for_the_end(test)}{remarks_on(whole)}"
    return Splits(whole.take(train), whole.take(val), name, note, test)


def _evenly(whole: Source, members: Sequence[Sequence[int]], fraction: float) -> str:
    """How those that are held out are spread over the classes, and why they are another share than was asked for."""
    classes = len(whole.classes)
    alone = [name for name, mine in zip(whole.classes, members, strict=True) if len(mine) == 1]
    said = f"alike in each of {classes} classes"
    if alone:
        them = "has one image, which is" if len(alone) == 1 else "have one image each, which are"
        said = (
            f"alike in {classes - len(alone)} of {classes} classes: {listed(alone)} {them} learned from and not judged"
        )
    held = sum(len(held_out(whole.ids, mine, fraction, 0)) for mine in members) / len(whole)
    if not fraction / FAR_OFF <= held <= fraction * FAR_OFF:
        said += f" ({100 * held:.3g} % where {100 * fraction:.3g} % was asked for: "
        said += "every class gives at least one image and keeps one)"
    return said


def _in_table(root: Path, path: Path) -> tuple[Source, LabelTable]:
    """All pictures of a table, and the table."""
    table = read_table(path, root)
    labels: tuple[Label, ...] = tuple(one for (one,) in table.labels) if table.single else table.labels
    whole = replace(pictures_of(root, path, table.paths, table.classes, labels), multi_label=not table.single)
    return whole, table


def _labelled_by_csv(root: Path, path: Path, fraction: float, seed: int, test_chooses: bool) -> Splits[Source]:
    whole, table = _in_table(root, path)
    everyone, splits, read = range(len(whole)), table.splits, f"({path.name}: {table.understood})"
    if splits is not None and test_chooses:
        splits = tuple("val" if split == "test" else split for split in splits)
    tested = set() if splits is None else {i for i in everyone if splits[i] == "test"}
    held = set() if splits is None else {i for i in everyone if splits[i] == "val"}
    test = whole.take(sorted(tested)) if tested else None
    if not held and (splits is None or tested):  # what judges in the end must not choose the weights
        others = [i for i in everyone if i not in tested]
        if table.single:
            parts = _split(
                whole.take(others),
                str(root),
                fraction,
                seed,
                test,
                "split column" if splits is None else "row marked as val",
            )
            return replace(parts, note=f"{parts.note} {read}")
        held = set(held_out(whole.ids, others, fraction, seed))
    train, val = sorted(set(everyone) - held - tested), sorted(held)
    require_both(path, train, val, fraction)
    kind = f"in {len(whole.classes)} classes" if table.single else f"any of {len(whole.classes)} labels each"
    note = f"{len(train):,} training and {len(val):,} validation images, {kind}"
    note = f"{readable(root)}: {note if val else all_learned(len(train))} {read}{kept_for_the_end(test)}"
    return Splits(whole.take(train), whole.take(val), str(root), note, test)


def _test_split(train: Source, folder: Path | None, root: Path) -> tuple[Source | None, str]:
    """The test split where there is a sound one, or why what is called so is not: it must not stop a training run.

    That of many a competition is a folder of pictures without classes.
    """
    if folder is None:
        return None, ""
    if not folders.class_folders(folder):
        return None, "; the test split is not judged: its pictures lie in no class folders, so they have no labels"
    try:
        test = scan(folder, prefix=folder.name)
        _require_known_classes(train, test, root)
    except UserError as error:
        return None, f"; the test split is not judged: {error}"
    return relabelled(test, train.classes), ""


def _require_known_classes(train: Source, test: Source, root: Path) -> None:
    if unknown := sorted(set(test.classes) - set(train.classes)):
        raise UserError(
            f"the test split of {readable(root)} has classes that train does not: {listed(unknown)}; make "
            "the folders agree"
        )


def _require_same_classes(train: Source, val: Source, root: Path) -> None:
    in_train, in_val = set(train.classes), set(val.classes)
    only_train = [name for name in train.classes if name not in in_val]
    only_val = [name for name in val.classes if name not in in_train]
    if only_train or only_val:
        found = (("train", only_train), ("val", only_val))
        parts = "; ".join(f"{listed(names)} only in {split}" for split, names in found if names)
        raise UserError(f"the classes of {readable(root)} differ between the splits: {parts}; make the folders agree")
