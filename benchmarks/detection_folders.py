"""The default command on annotated folders as they are downloaded: COCO, YOLO (boxes, polygons, pose), Roboflow, VOC.

    python benchmarks/detection_folders.py COCO_FOLDER OUT [--minutes 3] [--only yolo-boxes …] [--make]

Makes each folder below OUT from a few pictures of a folder in COCO's format, runs `convnext train FOLDER`, judges what
it published, and says whether a file that was there has changed. `--make` makes the folders and checks them alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from convnext import api
from convnext.detection.data import open_detection

CLASSES = ("person", "cat", "dog")
TRAIN, VAL = 60, 20  # pictures
Row = dict[str, Any]
Picture = tuple[Path, Row, list[Row]]  # the file, its entry, its objects with "name"


def pictures(root: Path) -> Iterator[Picture]:
    """The pictures of a COCO folder that show one of the classes."""
    for path in sorted((root / "annotations").glob("instances_*.json")):
        content = json.loads(path.read_text())
        name = {row["id"]: row["name"] for row in content["categories"]}
        for row in content["images"]:
            every = (one | {"name": name[one["category_id"]]} for one in content["annotations"])
            mine = [one for one in every if one["image_id"] == row["id"] and not one["iscrowd"]]
            mine = [one for one in mine if one["name"] in CLASSES]
            found = next(iter(sorted(root.glob(f"*/{row['file_name']}"))), None)
            if mine and found is not None:
                yield found, row, mine


def yolo(root: Path, split: str, some: list[Picture], line: Callable[[Row, Row], str], settings: str = "") -> None:
    for folder in ("images", "labels"):
        (root / folder / split).mkdir(parents=True, exist_ok=True)
    for path, row, objects in some:
        shutil.copy(path, root / "images" / split / path.name)
        lines = [f"{CLASSES.index(one['name'])} {line(one, row)}\n" for one in objects]
        (root / "labels" / split / f"{path.stem}.txt").write_text("".join(lines))
    names = f"names: [{', '.join(CLASSES)}]\n"
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\n{names}{settings}")


def box_line(one: Row, row: Row) -> str:
    x, y, w, h = one["bbox"]
    return " ".join(
        f"{v:.6f}"
        for v in ((x + w / 2) / row["width"], (y + h / 2) / row["height"], w / row["width"], h / row["height"])
    )


def polygon_line(one: Row, row: Row) -> str:
    points = one["segmentation"][0] if isinstance(one["segmentation"], list) else None
    if not points:
        return box_line(one, row)
    return " ".join(f"{v / (row['height'] if i % 2 else row['width']):.6f}" for i, v in enumerate(points))


def pose_line(one: Row, row: Row) -> str:
    x, y = box_line(one, row).split()[:2]
    return f"{box_line(one, row)} {x} {y} 2 {x} {y} 1"


def coco(root: Path, split: str, some: list[Picture], *, roboflow: bool) -> None:
    """One annotation file, with an empty category above all others, beside the pictures or in annotations/."""
    folder = root / ({"train": "train", "val": "valid"}[split] if roboflow else f"{split}2017")
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for path, row, objects in some:
        shutil.copy(path, folder / path.name)
        images.append(row | {"file_name": path.name})
        annotations += [
            {key: value for key, value in one.items() if key != "name"}
            | {"category_id": 1 + CLASSES.index(one["name"])}
            for one in objects
        ]
    categories = [{"id": 0, "name": "things", "supercategory": "none"}]
    categories += [{"id": k, "name": name, "supercategory": "things"} for k, name in enumerate(CLASSES, 1)]
    target = folder / "_annotations.coco.json" if roboflow else root / "annotations" / f"instances_{split}2017.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def voc(root: Path, split: str, some: list[Picture]) -> None:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for path, row, objects in some:
        shutil.copy(path, root / "JPEGImages" / path.name)
        rows = "".join(
            f"<object><name>{one['name']}</name><difficult>0</difficult><bndbox><xmin>{x + 1:.0f}</xmin>"
            f"<ymin>{y + 1:.0f}</ymin><xmax>{x + w:.0f}</xmax><ymax>{y + h:.0f}</ymax></bndbox></object>"
            for one in objects
            for x, y, w, h in [one["bbox"]]
        )
        size = f"<size><width>{row['width']}</width><height>{row['height']}</height><depth>3</depth></size>"
        (root / "Annotations" / f"{path.stem}.xml").write_text(f"<annotation>{size}{rows}</annotation>")
    listed = "".join(f"{path.stem}\n" for path, _, _ in some)
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text(listed)


MAKERS: dict[str, Callable[[Path, str, list[Picture]], None]] = {
    "yolo-boxes": lambda root, split, some: yolo(root, split, some, box_line),
    "yolo-polygons": lambda root, split, some: yolo(root, split, some, polygon_line),
    "yolo-pose": lambda root, split, some: yolo(root, split, some, pose_line, "kpt_shape: [2, 3]\n"),
    "roboflow": lambda root, split, some: coco(root, split, some, roboflow=True),
    "voc": voc,
    "coco-empty-superclass": lambda root, split, some: coco(root, split, some, roboflow=False),
}


def state(root: Path) -> dict[str, str]:
    """A digest of each file of a folder."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--only", nargs="*", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--make", action="store_true")
    options = parser.parse_args()
    every = list(pictures(options.coco))[: TRAIN + VAL]
    cut = len(every) * TRAIN // (TRAIN + VAL)
    for kind in options.only:
        root = options.out / kind
        if not root.exists():
            for split, some in (("train", every[:cut]), ("val", every[cut:])):
                MAKERS[kind](root, split, some)
        before = state(root)
        print(open_detection(root).note)
        print(str(api.check(root)).splitlines()[-1])
        if options.make:
            continue
        run = api.train(root, out=options.out / f"{kind}-run", settings={"minutes": options.minutes})
        figures = api.evaluate(run.path / "model.safetensors", root)
        print(
            f"{kind}: box AP {figures['box_ap']:.2f}, AP50 {figures['box_ap50']:.2f}; "
            f"{'nothing was changed' if state(root) == before else 'FILES HAVE CHANGED'}"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
