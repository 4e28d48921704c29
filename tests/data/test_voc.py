"""PASCAL VOC's layout: what is known by its names."""

from __future__ import annotations

from pathlib import Path

from convnext.data.coco import is_coco
from convnext.data.voc import is_voc
from convnext.data.yolo import is_yolo


def test_folders_are_known_by_their_names(annotated: object, tmp_path: Path) -> None:
    root = annotated()  # type: ignore[operator]
    assert (is_coco(root), is_yolo(root), is_voc(root)) == (True, False, False)
    other = tmp_path / "classes"
    (other / "train" / "cat").mkdir(parents=True)
    (other / "train" / "labels.json").write_text('[["a.jpg", 1]]')  # of folders of classes; not COCO's
    (other / "params.yaml").write_text("train:\n  names: [a]\n")
    assert (is_coco(other), is_yolo(other), is_voc(other)) == (False, False, False)
    (other / "data.yaml").write_bytes(b"\xef\xbb\xbftrain: ../train/images\r\nval:\r\nnames: ['a']\r\n")
    assert is_yolo(other)
    assert is_yolo(other / "data.yaml")
    (other / "train" / "._a.xml").write_text("")
    assert not is_voc(other)
    (other / "train" / "a.xml").write_text("")
    assert is_voc(other)
    assert not any(known(tmp_path / "nowhere") for known in (is_coco, is_yolo, is_voc))
