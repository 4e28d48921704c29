"""What a detector is shown: pictures, boxes and masks move together; the order groups by shape and loses nothing."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from fixture_types import MakeDense
from PIL import Image

from convnext import UserError
from convnext.data.keep_ratio import KeepRatio, pixels_of, resized, size_keeping_ratio
from convnext.detection import transforms as detection
from convnext.detection.coco_format import RunLengths
from convnext.detection.data import open_detection
from convnext.detection.rle import mask_library
from convnext.detection.source import DetectionSample, Objects, Outline
from convnext.detection.transforms import (
    AxisAffine,
    DetectionTransform,
    ShapeOrder,
    protocol,
    rasterize,
    transform_objects,
)
from convnext.recipes.recipe import Detection


def disc_sample(width: int = 90, height: int = 60) -> DetectionSample:
    """One white disc on black, outlined by a polygon."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    polygon = np.stack((50 + 15 * np.cos(angle), 25 + 15 * np.sin(angle)), 1)
    y, x = np.mgrid[:height, :width] + 0.5
    pixels = np.where((x - 50) ** 2 + (y - 25) ** 2 < 15**2, 255, 0).astype(np.uint8)
    objects = Objects(np.array([[35, 10, 65, 40]], np.float32), np.array([1]), (Outline((polygon,)),))
    return DetectionSample(Image.fromarray(np.repeat(pixels[..., None], 3, 2)), objects, "disc")


def test_picture_box_and_mask_move_together() -> None:
    preprocess = KeepRatio(64, 120, (0.0,) * 3, (1.0,) * 3)
    transform = DetectionTransform(Detection(short_sides=(600, 800)), preprocess)
    shapes, seen = set(), 0
    for k in range(60):
        image, target = transform(disc_sample(), np.random.default_rng(k))
        shapes.add(tuple(image.shape[1:]))
        if not len(target["boxes"]):
            continue
        seen += 1
        white, mask = image[0] > 0.5, target["masks"][0].bool()
        assert (white & mask).sum() / (white | mask).sum() > 0.85
        rows, columns = mask.nonzero(as_tuple=True)
        x1, y1, x2, y2 = target["boxes"][0].tolist()
        assert columns.min() == pytest.approx(x1, abs=1.5)
        assert columns.max() + 1 == pytest.approx(x2, abs=1.5)
        assert rows.min() == pytest.approx(y1, abs=1.5)
        assert rows.max() + 1 == pytest.approx(y2, abs=1.5)
        assert target["labels"].tolist() == [1]
    assert len(shapes) > 10
    assert seen > 40


def test_the_same_generator_makes_the_same_picture() -> None:
    transform = DetectionTransform(Detection(), protocol(64))
    one, two = (transform(disc_sample(), np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1]["masks"], two[1]["masks"])


@pytest.mark.parametrize(
    "place", [AxisAffine(), AxisAffine((-2.0, 2.0), (180.0, 0.0)), AxisAffine((0.5, 0.5), (3.0, -2.0))]
)
def test_run_lengths_are_drawn_where_polygons_are(place: AxisAffine) -> None:
    from faster_coco_eval.core import mask

    outline = disc_sample().objects.outlines[0]
    whole = rasterize(outline, np.zeros(4), AxisAffine(), (60, 90))
    runs = mask.encode(np.asfortranarray(whole))
    size = (120, 180) if place.scale[0] == -2.0 else (60, 90)
    moved = rasterize(Outline(runs=runs), np.zeros(4), place, size)
    assert (moved != rasterize(outline, np.zeros(4), place, size)).sum() <= 0.12 * moved.sum()  # pixels at its edge


def test_an_object_without_an_outline_is_its_box() -> None:
    found = rasterize(Outline(), np.array([10.0, 5, 30, 20]), AxisAffine(), (40, 50))
    assert found.sum() == 20 * 15
    assert found[5:20, 10:30].all()


def test_sizes_are_mmdetections() -> None:
    """Short side 800, long side at most 1333, rounded to the nearest pixel."""
    assert size_keeping_ratio((480, 640), 800, 1333) == (800, 1067)
    assert size_keeping_ratio((427, 640), 800, 1333) == (800, 1199)
    assert size_keeping_ratio((240, 640), 800, 1333) == (500, 1333)
    assert size_keeping_ratio((1, 1), 800, 1333) == (800, 800)
    assert size_keeping_ratio((1, 4000), 800, 1333) == (1, 1333)


def test_a_box_that_only_touches_the_border_is_out_of_sight() -> None:
    """In double its height was 1e-13, so it was kept; in single precision it is 0, and its ratio to itself 0 / 0."""
    objects = Objects(
        np.array([[20, 96, 80, 96.00001], [10, 10, 50, 40], [640, 3, 650, 9]], np.float32),
        np.array([0, 1, 0]),
        (Outline(),) * 3,
    )
    found = transform_objects(objects, AxisAffine((1 / 3, 1 / 3), (0.0, -1e-13)), (32, 200))
    assert found["labels"].tolist() == [1]
    assert (found["boxes"][:, 2:] - found["boxes"][:, :2] > 1).all()


@pytest.mark.parametrize("compressed", [True, False])
def test_run_lengths_are_drawn_as_pycocotools_decodes_them(compressed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "DECODED", 0)
    rng = np.random.default_rng(0)
    for shape in ((37, 53), (1, 9), (64, 40)):
        for share in (0.02, 0.5, 1.0):
            whole = np.asfortranarray(rng.random(shape) < share, dtype=np.uint8)
            whole[: shape[0] // 2] = whole[0]  # long runs, too
            runs: RunLengths = mask_library().encode(whole)
            if not compressed:
                flat = np.concatenate(([0], whole.ravel("F"), [1 - whole.ravel("F")[-1]]))
                edges = np.flatnonzero(np.diff(flat))
                runs = {"size": list(shape), "counts": np.diff(np.concatenate(([0], edges))).tolist()}
            same = rasterize(Outline(runs=runs), np.zeros(4), AxisAffine(), shape)
            np.testing.assert_array_equal(same, whole)
            half = rasterize(Outline(runs=runs), np.zeros(4), AxisAffine((0.5, 0.5)), (shape[0] // 2, shape[1] // 2))
            np.testing.assert_array_equal(half, whole[1::2, 1::2][: shape[0] // 2, : shape[1] // 2])


def test_run_lengths_of_a_large_picture_take_no_picture_of_their_own() -> None:
    """A photograph of 100 megapixels took 100 MB for each of its objects."""
    side = 10_000
    runs: RunLengths = {"size": [side, side], "counts": [side * side // 2, side, side * side // 2 - side]}
    tracemalloc.start()
    found = rasterize(Outline(runs=runs), np.zeros(4), AxisAffine((0.01, 0.01)), (100, 100))
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()
    assert found.sum() in (0, 100)


def test_resizing_does_not_smooth() -> None:
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    smaller = resized(pixels_of(Image.fromarray(stripes)), (4, 4))
    assert smaller[0].unique().tolist() == [100]
    assert resized(pixels_of(Image.fromarray(stripes)), (8, 16)).unique().tolist() == [0, 50, 150, 200]


def test_the_stored_protocol_comes_back_and_another_is_refused() -> None:
    shown = protocol(320)
    assert shown.longest == 533
    assert KeepRatio.from_dict(shown.to_dict()) == shown
    with pytest.raises(UserError, match=r"needs size \(up to 4096\), longest \(up to 16384\), mean and std"):
        KeepRatio.from_dict({"size": 3})


def test_the_order_groups_by_shape_and_loses_nothing() -> None:
    wide = tuple(bool(b) for b in np.random.default_rng(0).random(31) < 0.7)
    order = ShapeOrder(31, 4, 0, wide=wide, group=2)
    keys = [key for step in order.steps(0, 2 * order.steps_per_epoch) for key in step]
    for epoch in (0, 1):
        indices = [i for e, i in keys if e == epoch]
        assert len(set(indices)) == len(indices) == 28
        pairs = [(wide[a], wide[b]) for a, b in zip(indices[::2], indices[1::2], strict=True)]
        assert sum(a != b for a, b in pairs) <= 1
    assert sorted(order.epoch(0)) == list(range(31))
    assert order.epoch(0).tolist() != order.epoch(1).tolist()


def test_batches_are_the_same_on_one_process_and_on_two(annotated: MakeDense) -> None:
    from convnext.data.loader import share

    source = open_detection(annotated()).train
    order = ShapeOrder(len(source), 4, 0, wide=tuple(w >= h for w, h in source.sizes), group=2)
    for keys in order.steps(0, 4):
        parts = [part for rank in (0, 1) for part in share(keys, rank, 2, 2)]
        assert [key for part in parts for key in part] == keys
