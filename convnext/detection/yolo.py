"""Labels in YOLO's format, as COCO's annotations: boxes "class x y w h", outlines "class x1 y1 x2 y2 …", key points.

Coordinates in the label files are shares of the image's width and height; a data.yaml names classes and image folders.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .. import files
from ..data.folders import SPLIT_NAMES, SPLIT_OF
from ..data.images import readable
from ..data.source import listed
from ..errors import UserError
from .annotations import (
    BACKGROUND,
    Annotations,
    Fault,
    Layout,
    Size,
    name_below,
    refuse,
    sizes_of_pictures,
    visible_pictures,
)
from .coco_format import READ_FROM, REQUIRED, AnnotationRow, ImageRow, ObjectRow, UncheckedContent

LARGEST_SHARE = 2  # a little over 1 is an object cut by the border; much more are pixels
LARGEST_CONFIG = 2**20  # bytes that are looked at; the largest known, of 1,203 classes, has 30,000
BOX_NUMBERS = 5  # of a line with a box: the class, centre and sides
VISIBILITIES = (0.0, 1.0, 2.0)  # of a key point, in COCO's and YOLO's counting


@dataclass(frozen=True)
class Config:
    """What a data.yaml says; `points` are the numbers of a line's key points."""

    path: Path
    settings: dict[str, object]
    classes: dict[int, str]
    points: int | None


@dataclass(frozen=True)
class Line:
    """A label file's line: the class, and shares of the image's width and height."""

    path: Path
    number: int
    label: int
    values: tuple[float, ...]


def is_yolo(root: Path) -> bool:
    """Whether a path is a YAML file that names classes and pictures, or a folder that holds one; no label is read."""
    if root.is_file():
        return root.suffix.lower() in (".yaml", ".yml") and _names_data(root)
    return root.is_dir() and any(_names_data(path) for path in root.glob("*.y*ml") if path.is_file())


def yolo_layout(where: Path, *, whole_paths: bool = False) -> Layout:
    """Of a data.yaml, or the folder that holds one; pictures are called by their paths below it, or by whole ones.

    A split that is named and not there, or holds the very pictures of another, is left out and noted. Raises UserError
    for what names no pictures to learn from.
    """
    config = _config(where)
    pictures: dict[str, list[Path]] = {}
    notes = []
    for split in SPLIT_NAMES:
        place = _place(config, split)
        try:
            if place is not None:
                pictures[split] = _pictures(config, split, place)
        except UserError as error:
            if split == "train":
                raise
            notes.append(f"there is no {split} split: {error}")
    if "train" not in pictures:
        raise UserError(f"{config.path} names no images for train; add train: and a folder")
    for split in [name for name in ("val", "test") if name in pictures]:
        judged = set(pictures[split])
        rest = [path for path in pictures["train"] if path not in judged]
        if not rest:
            notes.append(f"{config.path.name} names the training pictures for {split} as well, which judges nothing")
            del pictures[split]
        elif len(rest) < len(pictures["train"]):
            shared = len(pictures["train"]) - len(rest)
            notes.append(f"{shared:,} pictures of {split} are named for train as well, and not learned from")
            pictures["train"] = rest
    base = None if whole_paths else config.path.parent
    return Layout(
        "yolo", {split: partial(_read, config, split, rows, base) for split, rows in pictures.items()}, tuple(notes)
    )


def import_yolo(where: str | Path, out: str | Path | None = None) -> list[str]:
    """Writes annotations/instances_train.json and …_val.json into `out` (None: the data's own folder).

    `where` is a data.yaml, or the folder that holds one. Returns a sentence for each file. Raises UserError, before
    anything is written, for whatever cannot be read as YOLO's format, and where files with other content are there.
    """
    config = _config(Path(where).expanduser())
    root = config.path.parent
    target = (root if out is None else Path(out)) / "annotations"
    layout = yolo_layout(config.path, whole_paths=out is not None)
    if "val" not in layout.splits:
        why = "; ".join(layout.notes) or f"{config.path} names no images for val"
        raise UserError(
            f"{why}; add val: and a folder, or train on {readable(root)} itself, which holds some pictures out"
        )
    read = {target / f"instances_{split}.json": layout.splits[split](refuse) for split in layout.splits}
    texts = {path: json.dumps(_as_coco(one.content)) for path, one in read.items()}
    if differing := [path for path, text in texts.items() if _differs(path, text)]:
        raise UserError(
            f"{' and '.join(map(str, differing))} would be lost, with whatever was mended in them since; "
            "move them away, or write elsewhere with --out"
        )
    for path, text in texts.items():
        files.write_text(path, text)
    return [
        f"{path}: {len(one.content['images']):,} images, {len(one.content['annotations']):,} objects of "
        f"{len(config.classes)} classes"
        for path, one in read.items()
    ] + list(layout.notes)


def _as_coco(content: UncheckedContent) -> dict[str, list[dict[str, object]]]:
    """The content without what COCO's format does not have."""
    return {
        part: [
            {key: value for key, value in row.items() if key not in (BACKGROUND, READ_FROM)}
            for row in content[part]
            if isinstance(row, dict)
        ]
        for part in REQUIRED
    }


def _differs(path: Path, text: str) -> bool:
    try:
        return path.exists() and path.read_text(encoding="utf-8") != text
    except (OSError, ValueError):
        return True


def _names_data(path: Path) -> bool:
    try:
        lines = path.read_bytes()[:LARGEST_CONFIG].decode("utf-8", errors="replace").lstrip("\ufeff").splitlines()
    except OSError:
        return False
    keys = {line.partition(":")[0].strip("'\" ") for line in lines if ":" in line and not line.startswith((" ", "#"))}
    return not path.name.startswith(".") and bool({"names", "nc"} & keys) and bool(SPLIT_OF.keys() & keys)


def _config(where: Path) -> Config:
    path = where
    if not where.is_file():
        every = sorted(path for path in where.glob("*.y*ml") if path.is_file() and not path.name.startswith("."))
        found = [path for path in every if _names_data(path)] or every
        if len(found) != 1:
            have = f"several: {listed([p.name for p in found])}" if found else "none"
            raise UserError(f"{readable(where)} should hold one data.yaml, and has {have}; pass the file itself")
        path = found[0]
    settings = _yaml(path)
    return Config(path, settings, _classes(path, settings), _points(path, settings))


def _yaml(path: Path) -> dict[str, object]:
    try:
        import yaml
    except ImportError:
        raise UserError("reading data.yaml needs pyyaml: pip install convnext[coco]") from None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML ({str(error).splitlines()[0][:80]}); mend it") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no settings; it must name train, val and names")
    return values


def _classes(path: Path, settings: dict[str, object]) -> dict[int, str]:
    names = settings.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(str(key).isdecimal() for key in names):
        raise UserError(f"{path} names no classes; add names: with a number and a name for each")
    return {int(key): str(name) for key, name in names.items()}


def _points(path: Path, settings: dict[str, object]) -> int | None:
    shape = settings.get("kpt_shape")
    if shape is None:
        return None
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise UserError(f"{path}: kpt_shape is {str(shape)[:40]}; it must be the number of key points and 2 or 3")
    return int(shape[0]) * int(shape[1])


def _place(config: Config, split: str) -> object:
    """Where a split's images are: what the settings say, else the folder that is usually called so."""
    named = next((config.settings[name] for name in SPLIT_NAMES[split] if config.settings.get(name)), None)
    usual = (f"{name}/images" for name in SPLIT_NAMES[split])
    return named or next((place for place in usual if (config.path.parent / place).is_dir()), None)


def _pictures(config: Config, split: str, value: object) -> list[Path]:
    """The images of a split: of a folder, of a text file that lists them, or of several of either."""
    found: list[Path] = []
    for place in map(str, value if isinstance(value, list) else [value]):
        where = _resolved(config, place)
        if where is None:
            base = config.path.parent / str(config.settings.get("path") or "")
            raise UserError(f"{config.path} names {place}, which is not in {readable(base)}; mend path or {split}")
        inside = _listed_in(config, where) if where.is_file() else _below(where)
        if not inside:
            raise UserError(f"{readable(where)} holds no images; mend the path in {config.path.name}")
        found += inside
    return sorted(set(found))


def _resolved(config: Config, place: str) -> Path | None:
    """A path of the settings, as it is to be read; where that leads nowhere, by its last parts beside the file, as
    exports name folders of the machine they were made on, or one folder too high."""
    root = config.path.parent
    here = place.replace("\\", "/") if "/" not in place else place
    said = [root / str(config.settings.get("path") or "") / here, root / here]
    parts = [part for part in Path(here).parts if part not in ("..", os.sep)]
    guesses = [root.joinpath(*parts[start:]) for start in range(len(parts))]
    return next((path for path in (*said, *guesses) if path.exists()), None)


def _below(folder: Path) -> list[Path]:
    inside = folder / "images"
    return visible_pictures(inside if inside.is_dir() else folder)


def _listed_in(config: Config, path: Path) -> list[Path]:
    """The images that a text file names, a line each, from the folder that the file is in."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a list of images ({str(error)[:80]}); mend it") from None
    named = [line.strip() for line in lines if line.strip()]
    found = [one if (one := path.parent / line).is_file() else _resolved(config, line) for line in named]
    if missing := [line for line, one in zip(named, found, strict=True) if one is None or not one.is_file()]:
        raise UserError(f"{path} lists {len(missing):,} images that do not exist, {missing[0]} first; mend the list")
    return [Path(os.path.normpath(one)) for one in found if one is not None]


def _read(config: Config, split: str, pictures: Sequence[Path], base: Path | None, fault: Fault) -> Annotations:
    """One split. Raises UserError where not a single picture has labels, or key points are not said to be some."""
    labels = [_label_file(picture) for picture in pictures]
    there = [path for path in labels if path.is_file()]
    if not there:
        raise UserError(
            f"not one of the {len(pictures):,} {split} pictures that {config.path} names has labels: "
            f"looked for {labels[0]} and its like; put the label files there"
        )
    lines = {path: _lines(config, path, fault) for path in there}
    every = [line for found in lines.values() for line in found]
    _require_no_key_points(config, every)
    folder = base or config.path.parent
    images: list[ImageRow] = []
    annotations: list[AnnotationRow] = []
    sizes = sizes_of_pictures(pictures, fault)
    for picture, path, size in zip(pictures, labels, sizes, strict=True):
        if size is None:
            continue
        name = str(picture.resolve()) if base is None else name_below(base, picture)
        images.append({"id": len(images) + 1, "file_name": name, "width": size[0], "height": size[1]})
        if path in lines and not lines[path]:
            images[-1][BACKGROUND] = True
        for line in lines.get(path, ()):
            mine = _object(config, line, size)
            mine[READ_FROM] = f"{readable(name_below(folder, line.path))}, line {line.number}"
            annotations.append({"id": len(annotations) + 1, "image_id": images[-1]["id"], **mine})
    categories = [{"id": number, "name": name} for number, name in config.classes.items()]
    content: UncheckedContent = {"images": images, "annotations": annotations, "categories": categories}
    return Annotations(
        config.path, content, folder, measured=True, notes=tuple(_remarks(config, pictures, there, every))
    )


def _remarks(config: Config, pictures: Sequence[Path], there: Sequence[Path], lines: Sequence[Line]) -> list[str]:
    remarks = []
    if lacking := len(pictures) - len(there):
        remarks.append(f"{lacking:,} of {len(pictures):,} pictures have no label file, so they count as empty")
    if config.points is not None:
        remarks.append("key points are left out")
    elif lines and all(len(line.values) == 8 for line in lines):
        remarks.append(
            "all outlines have four corners, as turned boxes have: the upright boxes around them are learned"
        )
    return remarks


def _label_file(picture: Path) -> Path:
    """…/images/…/a.jpg -> …/labels/…/a.txt, by the last folder called images; beside the picture where that is not."""
    beside = picture.with_suffix(".txt")
    parts = list(beside.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if places:
        parts[places[-1]] = "labels"
    usual = Path(*parts)
    return beside if beside.is_file() and not usual.is_file() else usual


def _lines(config: Config, path: Path, fault: Fault) -> list[Line]:
    """The sound lines of a label file."""
    found = []
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and isinstance(read := _line(config, path, number, line), Line):
            found.append(read)
        elif line.strip():
            fault("bad annotations", f"{path.name}, line {number}", str(read))
    return found


def _line(config: Config, path: Path, number: int, line: str) -> Line | str:
    """What a line says, or what is wrong with it."""
    where = f"{path}, line {number}: {line.strip()[:40]!r}"
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    box, outline = len(values) == BOX_NUMBERS, len(values) > BOX_NUMBERS + 1 and len(values) % 2 == 1
    needs = "a box nor an outline; it must be a class and 4 numbers, or a class and 3 or more points"
    if config.points is not None:
        outline = len(values) == BOX_NUMBERS + config.points
        needs = f"a box nor one with key points; by kpt_shape it must be {BOX_NUMBERS} or {BOX_NUMBERS + config.points}"
        needs += " numbers"
    if not (box or outline) or not all(map(math.isfinite, values)) or not values[0].is_integer():
        return f"{where} is neither {needs}"
    label, shares = int(values[0]), values[1:BOX_NUMBERS] if config.points is not None else values[1:]
    if max(map(abs, shares)) > LARGEST_SHARE:
        return f"{where} is in pixels; coordinates must be shares of the image's width and height"
    if label not in config.classes:
        return f"{path}, line {number}: class {label} has no name in data.yaml; add it to names"
    return Line(path, number, label, tuple(shares))


def _require_no_key_points(config: Config, lines: Sequence[Line]) -> None:
    """UserError where every line has the box and the key points of pose data, and the settings do not say so."""
    lengths = {len(line.values) for line in lines}
    extra = max(lengths, default=0) - BOX_NUMBERS + 1
    if len(lengths) != 1 or extra < 6 or extra % 3:
        return
    if all(value in VISIBILITIES for line in lines for value in line.values[BOX_NUMBERS + 1 :: 3]):
        raise UserError(
            f"{lines[0].path} and the others hold key points: each third number after the box is 0, 1 or 2; add "
            f"kpt_shape: [{extra // 3}, 3] to {config.path}, by which their boxes are learned"
        )


def _object(config: Config, line: Line, size: Size) -> ObjectRow:
    """A line as COCO has it: box and outline in pixels."""
    values, (width, height) = line.values, size
    if len(values) == BOX_NUMBERS - 1:
        x, y, w, h = (v * side for v, side in zip(values, (width, height) * 2, strict=True))
        box, outline = [x - w / 2, y - h / 2, w, h], []
    else:
        points = [v * side for v, side in zip(values, (width, height) * (len(values) // 2), strict=True)]
        low, high = (min(points[::2]), min(points[1::2])), (max(points[::2]), max(points[1::2]))
        box, outline = [*low, high[0] - low[0], high[1] - low[1]], [points]
    area = _area(outline[0]) if outline else box[2] * box[3]
    return {"category_id": line.label, "bbox": box, "area": area, "iscrowd": 0, "segmentation": outline}


def _area(points: Sequence[float]) -> float:
    """Of a polygon x1, y1, x2, y2, …; the shoelace formula."""
    x, y = points[::2], points[1::2]
    return abs(sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))) / 2
