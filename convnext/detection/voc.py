"""Objects in the format of PASCAL VOC, as COCO's annotations: an XML file of boxes for each picture.

The splits are the lists in ImageSets/Main, or folders of train, valid and test pictures, or there are none. A box of
VOC counts pixels from 1, and its last row and column are inside: (1, 1, W, H) is the whole picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from ..data.folders import SPLIT_NAMES, SPLIT_OF
from ..data.images import IMAGE_SUFFIXES, readable
from ..errors import UserError
from .annotations import Annotations, Fault, Layout, name_below, sizes_of_pictures, visible_pictures
from .coco_format import AnnotationRow, ImageRow, UncheckedContent

XML_FOLDERS = ("annotations", "xmls", "labels")  # in lower case; beside the folder of pictures
PICTURE_FOLDERS = ("jpegimages", "images")
DIFFICULT = "are judged as COCO's crowds are: what is found within one counts neither as right nor as wrong"
LARGEST_XML = 2**24  # bytes; a picture of ten thousand objects has 2 MB


def is_voc(root: Path) -> bool:
    """Whether a folder has XML files where VOC and its exports have them; only names are read."""
    return root.is_dir() and any(_has_xml(folder) for place in _places(root) for folder in _xml_folders(place))


def has_pairs(root: Path) -> bool:
    """Whether an XML file is called as a picture beside it, or where VOC has the pictures."""
    return any(_pairs(place) for place in _places(root))


def voc_layout(where: Path) -> Layout:
    """Of a folder with XML files. Raises UserError where no picture is left to learn from."""
    years = {place: found for place in _places(where) if (found := _pairs(place))}  # each has lists of its own
    root = next(iter(years)) if len(years) == 1 else where
    paired: dict[str, tuple[Path, Path]] = {}
    splits: dict[str, list[str]] = {}
    notes: list[str] = []
    for place, found in years.items():
        below = {key: os.path.normpath(os.path.join(os.path.relpath(place, root), key)) for key in found}
        parts, said = _splits(place, found)
        paired |= {below[key]: files for key, files in found.items()}
        for split, keys in parts.items():
            splits.setdefault(split, []).extend(below[key] for key in keys)
        notes += [f"{place.name}: {text}" if len(years) > 1 else text for text in said]
    if not paired:
        raise UserError(
            f"{readable(where)} has XML files and no picture that is called as one of them; put the "
            "pictures beside them, in JPEGImages/ or in images/"
        )
    if not splits:
        raise UserError(
            f"the lists in {readable(where)} name not one picture that has an XML file; mend "
            "ImageSets/Main, or take it out"
        )
    if "train" not in splits:
        raise UserError(
            f"{readable(where)} has {' and '.join(splits)} pictures and none to learn from; add "
            "ImageSets/Main/train.txt, or a folder train/"
        )
    every = _Every(root, paired)
    return Layout(
        "voc",
        {
            split: partial(every.split, names, split != "train" or "val" not in splits)
            for split, names in splits.items()
        },
        tuple(notes),
    )


@dataclass(frozen=True)
class _Object:
    name: str
    box: tuple[float, float, float, float]  # x, y, width, height
    difficult: bool


@dataclass(frozen=True)
class _Picture:
    """An XML file: its objects, and the size it gives (None: none that can be)."""

    objects: tuple[_Object, ...]
    size: tuple[int, int] | None
    faults: tuple[str, ...]


class _Every:
    """All XML files of a folder: the classes of one split are those of all, as no file lists them."""

    def __init__(self, root: Path, paired: Mapping[str, tuple[Path, Path]]) -> None:
        self.root, self.paired = root, paired

    @cached_property
    def read(self) -> dict[str, _Picture]:
        return {key: _parsed(xml) for key, (xml, _) in self.paired.items()}

    @cached_property
    def classes(self) -> dict[str, int]:
        names = {thing.name for picture in self.read.values() for thing in picture.objects}
        return {name: number for number, name in enumerate(sorted(names), 1)}

    def split(self, keys: list[str], judged: bool, fault: Fault) -> Annotations:
        images: list[ImageRow] = []
        annotations: list[AnnotationRow] = []
        sizes = sizes_of_pictures([self.paired[key][1] for key in keys], fault)
        for key, size in zip(keys, sizes, strict=True):
            (xml, picture), found = self.paired[key], self.read[key]
            for text in found.faults:
                fault("bad annotations", xml.name, f"{xml} {text}")
            if size is None:
                continue
            if found.size not in (None, size, size[::-1]):
                said = f"{found.size[0]} x {found.size[1]}" if found.size else ""
                has = f"{readable(picture.name)} has {size[0]} x {size[1]}"
                fault("bad annotations", xml.name, f"{xml} is for {said} pixels, {has}; export the annotations again")
            name = name_below(self.root, picture)
            width, height = found.size if found.size == size[::-1] else size
            images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
            annotations += [
                {
                    "id": len(annotations) + k,
                    "image_id": len(images),
                    "category_id": self.classes[thing.name],
                    "bbox": list(thing.box),
                    "area": thing.box[2] * thing.box[3],
                    "iscrowd": int(thing.difficult),
                    "difficult": int(thing.difficult),
                    "segmentation": [],
                }
                for k, thing in enumerate(found.objects, 1)
            ]
        categories = [{"id": number, "name": name} for name, number in self.classes.items()]
        content: UncheckedContent = {"images": images, "annotations": annotations, "categories": categories}
        difficult = sum(bool(row["difficult"]) for row in annotations)
        said = f"{difficult:,} difficult objects {DIFFICULT}"
        return Annotations(self.root, content, self.root, notes=(said,) if judged and difficult else ())


def _parsed(path: Path) -> _Picture:
    """An XML file; what is wrong with it is among its faults."""
    from xml.etree import ElementTree

    try:
        text = path.read_bytes()[: LARGEST_XML + 1]
        if len(text) > LARGEST_XML or b"<!ENTITY" in text:  # which could grow without end
            return _Picture((), None, ("is no annotation of a picture; take it out",))
        top = ElementTree.fromstring(text)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        return _Picture((), None, (f"cannot be read as XML ({str(error)[:60]}); export it again",))
    objects, faults = [], []
    for number, row in enumerate(top.iter("object"), 1):
        name = (row.findtext("name") or "").strip()
        ends = [_number(row.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
        left, top_, right, bottom = ends
        if not name or left is None or top_ is None or right is None or bottom is None:
            faults.append(f"has an object without a name or a box of four numbers, number {number}; mend it")
            continue
        box = (left - 1, top_ - 1, right - left + 1, bottom - top_ + 1)
        objects.append(_Object(name, box, _number(row.findtext("difficult")) == 1))
    sides = _number(top.findtext("size/width")), _number(top.findtext("size/height"))
    size = (int(sides[0]), int(sides[1])) if sides[0] and sides[1] else None  # 0 where a tool did not know
    return _Picture(tuple(objects), size, tuple(faults))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None  # also not a number


def _splits(root: Path, paired: Mapping[str, tuple[Path, Path]]) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """The keys of each split's pictures, and what there is to say of the lists."""
    by_stem: dict[str, str] = {}
    for key in paired:
        by_stem.setdefault(os.path.basename(key), key)
    listed = _listed(root, by_stem)
    if not listed:
        folders = {key: os.path.relpath(xml, root).split(os.sep)[0].lower() for key, (xml, _) in paired.items()}
        found: dict[str, list[str]] = {}
        for key, folder in folders.items():
            found.setdefault(SPLIT_OF.get(folder, "train"), []).append(key)
        lacking = _without_xml(root, paired)
        note = f"{lacking:,} of {lacking + len(paired):,} pictures have no XML file, and are left out"
        return found, (note,) if lacking else ()
    notes, splits = [], {}
    judged = {name for split in ("val", "test") for name in listed.get(split, ())}
    for split, names in listed.items():
        mine = [name for name in names if split != "train" or name not in judged]
        splits[split] = [by_stem[name] for name in mine if name in by_stem]
        if lacking := len(mine) - len(splits[split]):
            notes.append(
                f"{lacking:,} of the {len(mine):,} pictures that ImageSets/Main lists for {split} have no "
                "picture or no XML file, and are left out"
            )
    return {split: keys for split, keys in splits.items() if keys}, tuple(notes)


def _listed(root: Path, known: Mapping[str, str]) -> dict[str, list[str]]:
    """The picture names of each list in ImageSets/Main; where there is no train, trainval is learned from."""
    names = (*((split, name) for split, names in SPLIT_NAMES.items() for name in names), ("train", "trainval"))
    found: dict[str, list[str]] = {}
    for split, name in names:
        path = root / "ImageSets" / "Main" / f"{name}.txt"
        if split not in found and path.is_file():
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            found[split] = list(dict.fromkeys(_named(line.split()[0], known) for line in lines if line.strip()))
    return {split: stems for split, stems in found.items() if stems}


def _named(word: str, known: Mapping[str, str]) -> str:
    """A picture's name as a list gives it, without the folder and suffix that some lists have."""
    name = os.path.basename(word)
    stem, suffix = os.path.splitext(name)
    return stem if name not in known and suffix.lower() in (*IMAGE_SUFFIXES, ".xml") else name


def _pairs(root: Path) -> dict[str, tuple[Path, Path]]:
    """The XML file and the picture of each name, by the path below `root` without its suffix."""
    found = {}
    for folder in _xml_folders(root):
        pictures: dict[str, Path] = {}
        for place in _picture_folders(folder):
            for picture in visible_pictures(place, deep=False):
                pictures.setdefault(picture.stem, picture)
        for xml in sorted(path for path in folder.glob("*.[xX][mM][lL]") if path.name[0] != "."):
            if xml.stem in pictures:
                found[os.path.relpath(xml.with_suffix(""), root)] = (xml, pictures[xml.stem])
    return found


def _without_xml(root: Path, paired: Mapping[str, tuple[Path, Path]]) -> int:
    """How many pictures lie where those of XML files do, and have none."""
    places = {place for folder in _xml_folders(root) if _has_xml(folder) for place in _picture_folders(folder)}
    there = {picture for place in places for picture in visible_pictures(place, deep=False)}
    return len(there - {picture for _, picture in paired.values()})


def _places(root: Path) -> Iterator[Path]:
    """Where a data set may begin: in the folder itself, or in VOCdevkit/VOC2012 below it."""
    yield root
    for pattern in ("VOC[0-9]*", "VOCdevkit/VOC*"):
        yield from sorted(path for path in root.glob(pattern) if path.is_dir())


def _xml_folders(root: Path) -> list[Path]:
    """The folders that may hold XML files: the data set's own, and each split's."""
    inside = [one for one in _folders(root) if one.name.lower() in SPLIT_OF]
    places = [root, *inside]
    return places + [one for place in places for one in _folders(place) if one.name.lower() in XML_FOLDERS]


def _picture_folders(folder: Path) -> list[Path]:
    """The folders in which pictures of a folder's XML files may lie."""
    if folder.name.lower() not in XML_FOLDERS:
        return [folder, *(one for one in _folders(folder) if one.name.lower() in PICTURE_FOLDERS)]
    return [*(one for one in _folders(folder.parent) if one.name.lower() in PICTURE_FOLDERS), folder.parent, folder]


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(one for one in place.iterdir() if one.name[0] != "." and one.is_dir())
    except OSError:
        return []


def _has_xml(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.lower().endswith(".xml") and not entry.name.startswith(".") for entry in entries)
    except OSError:
        return False
