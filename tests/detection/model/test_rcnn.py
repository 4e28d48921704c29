"""The detectors against mmdetection 3.3's answers (fixtures/make_detectors.py), and their own promises."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detector_cases import ARCH, CLASSES, GRADIENTS, SIZES, drawn_weights, images, numbers, parts_inputs, truth_of
from narrow import backbone_of, not_none
from torch import Tensor

import convnext
from convnext import UserError
from convnext.catalog.variants import VARIANTS
from convnext.detection.model import boxes, masks
from convnext.detection.model import roi_align as pooling
from convnext.detection.model import roi_head as roi
from convnext.detection.model.giou import giou_loss
from convnext.detection.model.rcnn import WITHOUT_MASKS, Detector, Kind, build_detector
from convnext.detection.model.rpn import anchors_of
from convnext.models.convnext import ConvNeXt

FIXTURES = Path(__file__).parents[2] / "fixtures"
KINDS = ("mask_rcnn", "cascade_mask_rcnn")
CASCADE_SELDOM = ("mask_rcnn", pytest.param("cascade_mask_rcnn", marks=pytest.mark.slow))  # half a minute each
DEVICE = "cuda"
# Our names of the losses, and mmdetection's
LOSSES = {"rpn_cls": "loss_rpn_cls", "rpn_box": "loss_rpn_bbox", "cls": "loss_cls", "box": "loss_bbox",
          "mask": "loss_mask"}  # fmt: skip


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    with np.load(FIXTURES / "detectors.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def given() -> dict[str, Tensor]:
    return parts_inputs()


@pytest.fixture
def drawn(request: pytest.FixtureRequest) -> Detector:
    model = build_detector(request.param, ConvNeXt(ARCH, out_norms=True), CLASSES)
    model.load_state_dict(drawn_weights(model))
    return model


def goals(given: dict[str, Tensor]) -> Tensor:
    return given["truth"][torch.arange(len(given["boxes"])) % len(given["truth"])]


def test_coder(theirs: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    coder = boxes.Coder((0.1, 0.1, 0.2, 0.2))
    torch.testing.assert_close(coder.encode(given["boxes"], goals(given)), theirs["parts/encode"])
    torch.testing.assert_close(coder.decode(given["boxes"], given["deltas"], (60, 80)), theirs["parts/decode"])
    torch.testing.assert_close(coder.decode(given["boxes"], given["deltas"]), theirs["parts/decode/free"])


def test_anchors_are_not_rounded(theirs: dict[str, Tensor]) -> None:
    for i, shape in enumerate([(5, 7), (3, 4), (2, 2), (1, 1), (1, 1)]):
        ours = anchors_of(shape, 4 * 2**i, torch.device("cpu"))
        torch.testing.assert_close(ours, theirs[f"parts/anchors/{i}"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "rules"), [("rpn", (0.7, 0.3, 0.3, True)), ("mask", (0.5, 0.5, 0.5, True)), ("s1", (0.6, 0.6, 0.6, False))]
)
def test_matcher(
    theirs: dict[str, Tensor], given: dict[str, Tensor], name: str, rules: tuple[float, float, float, bool]
) -> None:
    match = boxes.Matcher(*rules)(given["truth"], given["boxes"])
    torch.testing.assert_close(match, theirs[f"parts/match/{name}"], rtol=0, atol=0)
    assert (match > 0).any()
    assert (match == 0).any()


def test_a_sample_is_drawn_at_random_within_its_bounds() -> None:
    match = torch.cat((torch.arange(1, 41), torch.zeros(100, dtype=torch.long), torch.full((10,), -1)))
    sample = boxes.Sampler(64, 0.25)
    torch.manual_seed(0)
    positive, negative = sample(match)
    assert (len(positive), len(negative)) == (16, 48)
    assert (match[positive] > 0).all()
    assert (match[negative] == 0).all()
    assert positive.tolist() == sorted(set(positive.tolist()))
    assert not torch.equal(sample(match)[0], positive)
    few, many = boxes.Sampler(64, 0.25)(match[38:])
    assert (len(few), len(many)) == (2, 62)  # what positives lack, negatives fill


@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade_mask_rcnn"])
def test_a_box_without_height_has_finite_losses(kind: Kind) -> None:
    """It is its own proposal: Mask R-CNN's loss was 0 / 0, and the run could not be resumed past it."""
    detector = tiny_detector(kind)
    boxes_ = torch.tensor([[20.0, 96, 80, 96], [10, 10, 60, 60]])
    target = {"boxes": boxes_, "labels": torch.tensor([0, 1]), "masks": torch.ones(2, 96, 100, dtype=torch.bool)}
    losses = detector([torch.zeros(3, 96, 100)], [target])
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("stage", [roi.Stage(), roi.Stage(0.7, allow_low_quality_matches=False)])
def test_where_only_ignored_objects_are_in_sight_there_is_something_to_learn_from(stage: roi.Stage) -> None:
    """The mean over no region at all was not a number, and ended the run."""
    target = no_objects(40, 50) | {"ignored": torch.tensor([[0.0, 0, 50, 40]])}
    for proposals in (torch.tensor([[1.0, 1, 49, 39]]), torch.zeros(0, 4)):
        drawn = roi.sample_regions(stage, boxes.Sampler(64, 0.25), proposals, target, (40, 50))
        assert drawn.labels(CLASSES).tolist() == [CLASSES]
        assert len(drawn.is_truth) == len(drawn.regions) == 1
        assert len(drawn.goals) == 0


def test_suppression_of_many_classes_is_that_of_each(given: dict[str, Tensor]) -> None:
    """In single precision the boxes of class 1,202 lay 10^6 pixels away, where a sixteenth of a pixel is the least."""
    from torchvision.ops import nms

    torch.manual_seed(0)
    corner = torch.rand(3000, 2) * 30
    every = torch.cat((corner, corner + 8 + torch.rand(3000, 2) * 8, torch.tensor([[1300.0, 790]])[[0] * 3000]), 1)
    every = torch.cat((every[:, :4], torch.tensor([[1290.0, 700, 1333, 800]])))
    scores, groups = torch.rand(len(every)), torch.randint(1150, 1203, (len(every),))
    kept = boxes.batched_nms(every, scores, groups, 0.5)
    alone = [
        mine[nms(every[mine], scores[mine], 0.5)] for mine in ((groups == k).nonzero().flatten() for k in range(1203))
    ]
    assert set(kept.tolist()) == set(torch.cat(alone).tolist())


@pytest.mark.parametrize("allow_low_quality_matches", [True, False])
def test_what_lies_on_an_ignored_object_is_no_background(allow_low_quality_matches: bool) -> None:
    match = boxes.Matcher(0.5, 0.3, 0.3, allow_low_quality_matches)
    truth, ignored = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[20.0, 0, 30, 10], [0.0, 0, 10, 9]])
    regions = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 9], [20, 0, 30, 2], [50, 0, 60, 10], [0, 0, 10, 8]])
    assert match(truth, regions, ignored).tolist() == [1, -1, 0, 0, -1]
    assert match(truth[:0], regions, ignored).tolist() == [-1, -1, 0, 0, -1]
    assert match(truth, regions, ignored[:0]).tolist() == match(truth, regions).tolist() == [1, 0, 0, 0, 1]


def test_suppression_stays_within_its_group(given: dict[str, Tensor]) -> None:
    from torchvision.ops import nms

    every = torch.cat((given["boxes"], given["boxes"] + 1))
    scores, groups = numbers("scores", len(every)).sigmoid(), torch.arange(len(every)) % 3
    kept = boxes.batched_nms(every, scores, groups, 0.5)
    assert scores[kept].tolist() == sorted(scores[kept].tolist(), reverse=True)
    for group in range(3):
        mine = (groups == group).nonzero().flatten()
        assert set(kept[groups[kept] == group].tolist()) == set(mine[nms(every[mine], scores[mine], 0.5)].tolist())
    assert len(boxes.batched_nms(every[:0], scores[:0], groups[:0], 0.5)) == 0


def test_giou(theirs: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    torch.testing.assert_close(giou_loss(given["boxes"], goals(given)), theirs["parts/giou"])


def test_levels(theirs: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    torch.testing.assert_close(pooling.levels_of(given["regions"], 4), theirs["parts/levels"], rtol=0, atol=0)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("side", [7, 14])
def test_pooling_is_torchvisions_roi_align(given: dict[str, Tensor], side: int, sparse: bool) -> None:
    """Boxes of every kind: inside, across the border, outside, thin, empty; two images, four levels."""
    from torchvision.ops import roi_align

    odd = torch.tensor([[5.0, 5, 5, 30], [-90, -90, -50, -40], [0, 0, 300, 3], [0, 0, 80, 60], [79, 59, 80, 60]])
    sets = [torch.cat((given["boxes"], odd)), given["boxes"] * 12]
    maps = [numbers(f"map {s}", 2, 6, -(-60 // s), -(-80 // s)).requires_grad_() for s in (4, 8, 16, 32)]
    ours = pooling.Pooler(maps, (4, 8, 16, 32), sparse=sparse)(sets, side)
    every = torch.cat([torch.cat((torch.full((len(b), 1), float(n)), b), 1) for n, b in enumerate(sets)])
    level = pooling.levels_of(every[:, 1:], 4)
    assert level.unique().tolist() == [0, 1, 2, 3]
    theirs = torch.zeros_like(ours)
    for i, stride in enumerate((4, 8, 16, 32)):
        theirs[level == i] = roi_align(maps[i], every[level == i], side, 1 / stride, 0, True)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    push = numbers("push", *ours.shape)
    mine, other = (torch.autograd.grad((out * push).sum(), maps, retain_graph=True) for out in (ours, theirs))
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sparse", [True, False])
def test_pooling_nothing(sparse: bool) -> None:
    maps = [torch.zeros(1, 6, 8, 8)]
    assert pooling.Pooler(maps, (4,), sparse=sparse)([torch.zeros(0, 4)], 7).shape == (0, 6, 7, 7)


def test_mask_targets(theirs: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    which = torch.arange(len(given["boxes"])) % len(given["masks"])
    ours = masks.mask_targets(given["masks"], given["boxes"].clamp(0, 60), which, 28)
    torch.testing.assert_close(ours.to(torch.uint8), theirs["parts/mask_targets"], rtol=0, atol=0)


def test_pasting(theirs: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    inside = given["boxes"].clamp(0, 60)
    solid = boxes.area(inside) > 0
    ours = masks.paste(given["probabilities"][:, 0], inside, (60, 80), 0.5)
    sure = (theirs["parts/paste"] - 0.5).abs() > 1e-5
    assert torch.equal((ours & sure)[solid], ((theirs["parts/paste"] >= 0.5) & sure)[solid])
    assert not ours[~solid].any()
    assert (~solid).any()


def test_pasting_on_an_accelerator_is_the_same(given: dict[str, Tensor]) -> None:
    inside = given["boxes"].clamp(0, 60)
    whole = masks._sample(given["probabilities"][:, 0], inside, (0, 60), (0, 80)) >= 0.5
    assert torch.equal(masks.paste(given["probabilities"][:, 0], inside, (60, 80), 0.5), whole)


def test_pasting_in_bands_is_the_same(given: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, inside = given["probabilities"][:, 0], given["boxes"].clamp(0, 60)
    whole = masks.paste(probabilities, inside, (60, 80), 0.5)
    monkeypatch.setattr(masks, "BAND_VALUES", 200)
    assert torch.equal(masks.paste(probabilities, inside, (60, 80), 0.5), whole)


@pytest.mark.parametrize("drawn", ["mask_rcnn"], indirect=True)
def test_masks_a_few_at_a_time_are_the_same(drawn: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a picture of 9000 x 9000 pixels took 10 GB."""
    with torch.no_grad():
        whole = drawn.eval()(images()[:1])[0]
        found = drawn(images()[:1], pasted=False)[0]
    assert found.keys() == {"boxes", "scores", "labels", "probabilities"}
    assert torch.equal(found["boxes"], whole["boxes"])
    for at_once in (1, 3, 1000):
        monkeypatch.setattr(masks, "PART_PIXELS", at_once * SIZES[0][0] * SIZES[0][1])
        parts = list(drawn.roi_head.masks(found, SIZES[0]))
        assert max(len(part) for part in parts) == min(at_once, len(whole["masks"]))
        assert torch.equal(torch.cat(parts), whole["masks"])


@pytest.mark.parametrize("drawn", CASCADE_SELDOM, indirect=True)
def test_detections_are_mmdetections(drawn: Detector, theirs: dict[str, Tensor]) -> None:
    """In fp64: in fp32 mmdetection itself differs by 3e-3 pixels from one machine to another."""
    with torch.no_grad():
        found = drawn.eval().double()([image.double() for image in images()])
    for i, ours in enumerate(found):
        expected = {name: theirs[f"{drawn.kind}/{i}/{name}"] for name in ("boxes", "scores", "labels")}
        assert len(expected["labels"]) > 10
        for name, value in expected.items():
            assert ours[name].dtype == value.dtype
            torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-4)
        packed = np.packbits(ours["masks"].numpy())
        assert np.unpackbits(packed ^ theirs[f"{drawn.kind}/{i}/masks"].numpy()).mean() < 1e-4


@pytest.mark.parametrize("drawn", KINDS, indirect=True)
def test_losses_and_gradients_are_mmdetections(
    drawn: Detector, theirs: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxes.torch, "randperm", lambda count: torch.arange(count))  # the same boxes are sampled
    losses = drawn.train()(images(), [truth_of(i) for i in range(len(SIZES))])
    stages = [f"s{i}" for i in range(3)] if drawn.kind == "cascade_mask_rcnn" else [""]
    names = {f"rpn_{part}": LOSSES[f"rpn_{part}"] for part in ("cls", "box")}
    for s in stages:
        for part in ("cls", "box", "mask"):
            names[f"{s}_{part}" if s else part] = f"{s}.{LOSSES[part]}" if s else LOSSES[part]
    assert losses.keys() == names.keys()
    for ours, name in names.items():
        expected = theirs[f"{drawn.kind}/{name}"].float().reshape(())
        torch.testing.assert_close(losses[ours].detach(), expected, rtol=1e-4, atol=1e-6)
    torch.stack(list(losses.values())).sum().backward()
    parameters = dict(drawn.named_parameters())
    for name in GRADIENTS:
        expected = theirs[f"{drawn.kind}/grad/{name}"].float()
        torch.testing.assert_close(not_none(parameters[name].grad).norm(), expected, rtol=1e-3, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("drawn", KINDS, indirect=True)
def test_a_gpu_finds_and_learns_the_same(
    drawn: Detector, theirs: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(boxes.torch, "randperm", lambda count: torch.arange(count))
    on_cpu = copy.deepcopy(drawn).train()(images(), [truth_of(i) for i in range(len(SIZES))])
    drawn.to(DEVICE)
    pictures = [image.to(DEVICE) for image in images()]
    with torch.no_grad():
        found = drawn.eval()(pictures)
    for i, ours in enumerate(found):
        expected = theirs[f"{drawn.kind}/{i}/boxes"].float()
        torch.testing.assert_close(ours["boxes"].cpu(), expected, rtol=1e-3, atol=1e-2)  # pixels; fp32
        packed = np.packbits(ours["masks"].cpu().numpy())
        assert np.unpackbits(packed ^ theirs[f"{drawn.kind}/{i}/masks"].numpy()).mean() < 1e-3
    targets = [{name: value.to(DEVICE) for name, value in truth_of(i).items()} for i in range(len(SIZES))]
    for name, loss in drawn.train()(pictures, targets).items():
        torch.testing.assert_close(loss.detach().cpu(), on_cpu[name].detach(), rtol=1e-3, atol=1e-5)


def no_objects(height: int, width: int) -> dict[str, Tensor]:
    return {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.long),
        "masks": torch.zeros(0, height, width, dtype=torch.bool),
    }


def tiny_detector(kind: Kind = "mask_rcnn") -> Detector:
    torch.manual_seed(0)
    return build_detector(kind, ConvNeXt(ARCH, out_norms=True), CLASSES)


@pytest.mark.parametrize("kind", CASCADE_SELDOM)
def test_a_detector_without_masks_is_the_box_part_of_one_with_them(kind: Kind) -> None:
    whole, alone = tiny_detector(kind), tiny_detector(WITHOUT_MASKS[kind])
    weights = {name: value for name, value in drawn_weights(whole).items() if "mask_head" not in name}
    alone.load_state_dict(weights)
    whole.load_state_dict(weights, strict=False)
    truth = [truth_of(i) for i in range(2)]
    torch.manual_seed(0)
    both = whole(images(), truth)
    torch.manual_seed(0)
    boxes_alone = alone(images(), [{k: v for k, v in one.items() if k != "masks"} for one in truth])
    assert boxes_alone.keys() == {name for name in both if not name.endswith("mask")}
    assert all(torch.equal(value, both[name]) for name, value in boxes_alone.items())
    with torch.no_grad():
        found, less = whole.eval()(images()), alone.eval()(images())
    for one, other in zip(found, less, strict=True):
        assert other.keys() == {"boxes", "scores", "labels"}
        assert all(torch.equal(value, one[name]) for name, value in other.items())
    assert len(less[0]["boxes"])


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_objects_and_of_one_pixel_can_be_learned_from(kind: Kind) -> None:
    detector = tiny_detector(kind)
    losses = detector([torch.zeros(3, 40, 50), torch.ones(3, 1, 1)], [no_objects(40, 50), no_objects(1, 1)])
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in detector.parameters())
    assert losses[next(name for name in losses if name.endswith("mask"))] == 0


def test_nothing_is_found_where_nothing_is_likely() -> None:
    detector = tiny_detector().eval()
    with torch.no_grad():
        detector.get_parameter("roi_head.bbox_head.fc_cls.bias")[CLASSES] = 50  # background
        found = detector([torch.zeros(3, 40, 50), torch.zeros(3, 33, 64)], originals=[(80, 100), (33, 64)])
    for result, size in zip(found, ((80, 100), (33, 64)), strict=True):
        assert {name: tuple(value.shape) for name, value in result.items()} == {
            "boxes": (0, 4),
            "scores": (0,),
            "labels": (0,),
            "masks": (0, *size),
        }


@pytest.mark.parametrize("drawn", ["mask_rcnn"], indirect=True)
def test_an_image_is_judged_alike_alone_and_beside_others(drawn: Detector) -> None:
    first, second = images()
    second = second[:, :80, :64]
    with torch.no_grad():
        together, alone = drawn.eval()([first, second])[0], drawn([first])[0]
    for name in ("boxes", "scores", "labels"):
        torch.testing.assert_close(together[name], alone[name], rtol=1e-4, atol=1e-3)  # pixels


@pytest.mark.parametrize("drawn", ["mask_rcnn"], indirect=True)
def test_detections_come_in_the_frame_of_the_original(drawn: Detector) -> None:
    with torch.no_grad():
        plain, doubled = drawn.eval()(images()[:1])[0], drawn(images()[:1], originals=[(192, 360)])[0]
    torch.testing.assert_close(doubled["boxes"], plain["boxes"] * torch.tensor([3.0, 2, 3, 2]))
    assert doubled["masks"].shape[1:] == (192, 360)
    grown = plain["masks"].repeat_interleave(2, 1).repeat_interleave(3, 2)
    assert (grown == doubled["masks"]).float().mean() > 0.97


def released_backbone(size: str) -> dict[str, list[int]]:
    """Names and shapes of a released file's backbone, written down anew from the official detection code."""
    arch = VARIANTS[f"convnext_{size}"]
    shapes: dict[str, list[int]] = {}

    def layer(name: str, *weight: int) -> None:
        shapes.update({f"backbone.{name}.weight": list(weight), f"backbone.{name}.bias": [weight[0]]})

    for i, width in enumerate(arch.dims):
        before = arch.dims[i - 1] if i else 3
        convolution, norm = (1, 0) if i else (0, 1)
        layer(f"downsample_layers.{i}.{norm}", before if i else width)
        layer(f"downsample_layers.{i}.{convolution}", width, before, *(2 * [2 if i else 4]))
        layer(f"norm{i}", width)
        for block in range(arch.depths[i]):
            name = f"stages.{i}.{block}"
            shapes[f"backbone.{name}.gamma"] = [width]
            layer(f"{name}.dwconv", width, 1, 7, 7)
            layer(f"{name}.norm", width)
            layer(f"{name}.pwconv1", 4 * width, width)
            layer(f"{name}.pwconv2", width, 4 * width)
    return shapes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["tiny", "small", "base", "large", "xlarge"])
def test_a_released_file_has_the_names_and_shapes_of_the_whole_detector(size: str, kind: str) -> None:
    released = json.loads((FIXTURES / "released_detectors.json").read_text())
    with torch.device("meta"):
        detector = build_detector(kind, backbone_of(convnext.create_model(f"convnext_{size}", out_norms=True)))
    ours = {name: list(value.shape) for name, value in detector.state_dict().items()}
    assert ours == released["heads"][kind] | released["necks"][size] | released_backbone(size)


@pytest.mark.parametrize("kind", KINDS)
def test_a_released_file_loads_with_nothing_left_over(kind: str, tmp_path: Path) -> None:
    """The container of the released files, of the smallest of them, filled with numbers that differ by name."""
    released = json.loads((FIXTURES / "released_detectors.json").read_text())
    shapes = released["heads"][kind] | released["necks"]["tiny"] | released_backbone("tiny")
    weights = {  # one number a tensor, shown as many: a file of a kilobyte each
        name: torch.tensor(i if name.endswith("tracked") else i / 1000).expand(shape)
        for i, (name, shape) in enumerate(shapes.items())
    }
    torch.save({"meta": {}, "state_dict": weights}, tmp_path / "released.pth")
    detector = build_detector(kind, backbone_of(convnext.create_model("convnext_tiny", out_norms=True)))
    report = convnext.load_weights(detector, tmp_path / "released.pth")
    assert report.ok
    assert (report.loaded, report.head, report.naming) == (len(shapes), "loaded", "official")
    loaded = detector.state_dict()
    assert all(bool((loaded[name] == value).all()) for name, value in weights.items())


@pytest.mark.parametrize(
    ("size", "kind", "parameters"),  # tables.json `downstream_flops_check`
    [
        ("tiny", "mask_rcnn", 48095376), ("tiny", "cascade_mask_rcnn", 85930578),
        ("small", "cascade_mask_rcnn", 107565138), ("base", "cascade_mask_rcnn", 145800242),
        ("large", "cascade_mask_rcnn", 254710770), ("xlarge", "cascade_mask_rcnn", 406875058),
    ],
)  # fmt: skip
def test_parameters(size: str, kind: str, parameters: int) -> None:
    with torch.device("meta"):
        detector = build_detector(kind, backbone_of(convnext.create_model(f"convnext_{size}", out_norms=True)))
    assert sum(p.numel() for p in detector.parameters()) == parameters


def test_layer_ids_are_the_backbones_and_all_else_is_last() -> None:
    detector = tiny_detector()
    ids = {name: detector.layer_id(name) for name, _ in detector.named_parameters()}
    assert ids["backbone.downsample_layers.0.0.weight"] == 0
    last = detector.num_layer_ids - 1
    assert {i for name, i in ids.items() if not name.startswith("backbone.")} == {last}
    assert ids["backbone.norm0.weight"] == last
    assert max(i for name, i in ids.items() if name.startswith("backbone.stages.")) == last - 1


def test_what_cannot_be_built_is_said() -> None:
    with pytest.raises(UserError, match="no detector 'retinanet'"):
        build_detector("retinanet", ConvNeXt(ARCH, out_norms=True))
    with pytest.raises(UserError, match="four maps"):
        build_detector("mask_rcnn", ConvNeXt(ARCH, out_norms=True, out_indices=(2, 3)))
    with pytest.raises(ValueError, match="needs targets"):
        tiny_detector()([torch.zeros(3, 32, 32)])
