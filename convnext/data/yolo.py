"""Labels in YOLO's format -> annotation files in COCO's: boxes "class x y w h" or outlines "class x1 y1 x2 y2 …".

Coordinates in the label files are shares of the image's width and height; a data.yaml names classes and image folders.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import files
from ..errors import UserError
from .coco import SPLIT_NAMES
from .images import IMAGE_SUFFIXES, read_header, readable
from .labelled import listed

LARGEST_SHARE = 2  # a little over 1 is an object cut by the border; much more are pixels
LARGEST_CONFIG = 2**20  # bytes that are looked at; the largest known, of 1,203 classes, has 30,000
SETS = {name for names in SPLIT_NAMES.values() for name in names}
BOX_NUMBERS = 5  # of a line with a box: the class, centre and sides


def is_yolo(root: Path) -> bool:
    """Whether a path is a YAML file that names classes and pictures, or a folder that holds one; no label is read."""
    if root.is_file():
        return root.suffix.lower() in (".yaml", ".yml") and _names_data(root)
    return root.is_dir() and any(_names_data(path) for path in root.glob("*.y*ml") if path.is_file())


def _names_data(path: Path) -> bool:
    try:
        lines = path.read_bytes()[:LARGEST_CONFIG].decode("utf-8", errors="replace").lstrip("\ufeff").splitlines()
    except OSError:
        return False
    keys = {line.partition(":")[0].strip("'\" ") for line in lines if ":" in line and not line.startswith((" ", "#"))}
    return not path.name.startswith(".") and bool({"names", "nc"} & keys) and bool(SETS & keys)


def import_yolo(where: str | Path, out: str | Path | None = None) -> list[str]:
    """Writes annotations/instances_train.json and …_val.json into `out` (None: the data's own folder).

    `where` is a data.yaml, or the folder that holds one. Returns a sentence for each file. Raises UserError, before
    anything is written, for whatever cannot be read as YOLO's format.
    """
    config = _config(Path(where).expanduser())
    root, settings = config.parent, _yaml(config)
    classes = _classes(config, settings)
    target = (root if out is None else Path(out)) / "annotations"
    places = {
        split: next((settings[name] for name in names if settings.get(name)), None)
        for split, names in SPLIT_NAMES.items()
    }
    if lacking := [split for split, place in places.items() if place is None]:
        raise UserError(f"{config} names no images for {' and '.join(lacking)}; add {lacking[0]}: and a folder")
    base = root if out is None else None
    contents = {split: _content(_pictures(config, settings, place), classes, base) for split, place in places.items()}
    sentences = []
    for split, content in contents.items():
        path = target / f"instances_{split}.json"
        files.write_text(path, json.dumps(content))
        sentences.append(f"{path}: {len(content['images']):,} images, {len(content['annotations']):,} objects of "
                         f"{len(classes)} classes")  # fmt: skip
    return sentences


def _config(where: Path) -> Path:
    if where.is_file():
        return where
    found = sorted(path for path in where.glob("*.y*ml") if path.is_file())
    if len(found) != 1:
        have = f"several: {listed([p.name for p in found])}" if found else "none"
        raise UserError(f"{readable(where)} should hold one data.yaml, and has {have}; pass the file itself")
    return found[0]


def _yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise UserError("reading data.yaml needs pyyaml: pip install convnext[coco]") from None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML ({str(error).splitlines()[0][:80]}); mend it") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no settings; it must name train, val and names")
    return values


def _classes(path: Path, settings: dict[str, Any]) -> dict[int, str]:
    names = settings.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(str(key).isdecimal() for key in names):
        raise UserError(f"{path} names no classes; add names: with a number and a name for each")
    return {int(key): str(name) for key, name in names.items()}


def _pictures(config: Path, settings: dict[str, Any], value: Any) -> list[Path]:
    """The images of a split: of a folder, of a text file that lists them, or of several of either."""
    base = config.parent / str(settings.get("path") or "")
    found: list[Path] = []
    for place in map(str, value if isinstance(value, list) else [value]):
        candidates = (base / place, config.parent / place, config.parent / place.removeprefix("../"))
        where = next((path for path in candidates if path.exists()), None)
        if where is None:
            raise UserError(f"{config} names {place}, which is not in {readable(base)}; mend path, train and val")
        inside = _listed_in(where) if where.is_file() else _below(where)
        if not inside:
            raise UserError(f"{readable(where)} holds no images; mend the path in {config.name}")
        found += inside
    return sorted(set(found))


def _below(folder: Path) -> list[Path]:
    inside = folder / "images"
    every = (inside if inside.is_dir() else folder).rglob("*")
    return [path for path in every if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]


def _listed_in(path: Path) -> list[Path]:
    """The images that a text file names, a line each, from the folder that the file is in."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a list of images ({str(error)[:80]}); mend it") from None
    named = [path.parent / line.strip() for line in lines if line.strip()]
    if missing := [one for one in named if not one.is_file()]:
        raise UserError(f"{path} lists {len(missing):,} images that do not exist, {missing[0]} first; mend the list")
    return named


def _content(pictures: Sequence[Path], classes: dict[int, str], base: Path | None) -> dict[str, Any]:
    """One split's annotation file; `base` is the folder that names start from (None: they are whole paths)."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, 1):
        header = read_header(picture)
        width, height = header.size if header.orientation < 5 else header.size[::-1]
        name = str(picture.resolve()) if base is None else Path(os.path.relpath(picture, base)).as_posix()
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, box, outline in _objects(_label_file(picture), classes, width, height):
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": label, "bbox": box,
                                "area": _area(outline) if outline else box[2] * box[3], "iscrowd": 0,
                                "segmentation": [outline] if outline else []})  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in classes.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _label_file(picture: Path) -> Path:
    """…/images/…/a.jpg -> …/labels/…/a.txt, by the last folder called images; else beside the picture."""
    parts = list(picture.with_suffix(".txt").parts)
    places = [i for i, part in enumerate(parts) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts)


def _objects(path: Path, classes: dict[int, str], width: int,
             height: int) -> Iterator[tuple[int, list[float], list[float]]]:  # fmt: skip
    """Class, (x, y, width, height) and outline in pixels, of each line; an image without a label file has none."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        label, values = _numbers(path, number, line)
        if label not in classes:
            raise UserError(f"{path}, line {number}: class {label} has no name in data.yaml; add it to names")
        if len(values) == BOX_NUMBERS - 1:
            x, y, w, h = (v * side for v, side in zip(values, (width, height) * 2, strict=True))
            yield label, [x - w / 2, y - h / 2, w, h], []
        else:
            points = [v * side for v, side in zip(values, (width, height) * (len(values) // 2), strict=True)]
            low, high = (min(points[::2]), min(points[1::2])), (max(points[::2]), max(points[1::2]))
            yield label, [*low, high[0] - low[0], high[1] - low[1]], points


def _numbers(path: Path, number: int, line: str) -> tuple[int, list[float]]:
    where = f"{path}, line {number}: {line[:40]!r}"
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    box, outline = len(values) == BOX_NUMBERS, len(values) > BOX_NUMBERS + 1 and len(values) % 2 == 1
    if not (box or outline) or not all(map(math.isfinite, values)) or not values[0].is_integer():
        needs = "it must be a class and 4 numbers, or a class and 3 or more points"
        raise UserError(f"{where} is neither a box nor an outline; {needs}")
    if max(map(abs, values[1:])) > LARGEST_SHARE:
        raise UserError(f"{where} is in pixels; coordinates must be shares of the image's width and height")
    return int(values[0]), values[1:]


def _area(points: Sequence[float]) -> float:
    """Of a polygon x1, y1, x2, y2, …; the shoelace formula."""
    x, y = points[::2], points[1::2]
    return abs(sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))) / 2
