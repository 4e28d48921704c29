"""UPerNet against transformers' and mmsegmentation's, and what its files promise."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest
import torch
from detector_cases import drawn_weights
from narrow import backbone_of, not_none
from segmenter_cases import CHANNELS, CLASSES, WIDTH, labels, maps
from torch.utils.flop_counter import FlopCounterMode

import convnext
from convnext import UserError
from convnext.catalog.releases import SEGMENTERS, find_dense
from convnext.catalog.variants import VARIANTS, Arch
from convnext.models.convnext import ConvNeXt
from convnext.pretrained import from_pretrained, load_weights, save_weights
from convnext.recipes import RECIPES, get_recipe
from convnext.segmentation.loss import pixel_cross_entropy
from convnext.segmentation.mask_coding import MaskCoding
from convnext.segmentation.model import AuxiliaryHead, DecodeHead, Segmenter, build_segmenter
from convnext.training.optim import parameter_groups
from convnext.weights.backbone import create_model

if TYPE_CHECKING:
    from transformers import UperNetForSemanticSegmentation

FIXTURES = Path(__file__).parents[1] / "fixtures"
M = TypeVar("M", bound=torch.nn.Module)
SMALL = Arch((1, 1, 2, 1), (8, 16, 24, 32), 4, False, 1.0)
# parameters and GFLOPs (multiply-adds) without the auxiliary head (tables.json `downstream_flops_check`)
COUNTED = {"tiny": (60_242_636, 938.49, 1466.37), "small": (81_877_196, 1026.85, 1604.44),
           "base": (122_102_956, 1169.34, 1827.09), "large": (234_994_796, 1572.72, 2457.36),
           "xlarge": (391_140_396, 2133.94, 3334.25)}  # fmt: skip


def segmenter(classes: int = 5, width: int = 16, *, auxiliary: bool = True) -> Segmenter:
    torch.manual_seed(0)
    return build_segmenter(ConvNeXt(SMALL, out_norms=True), classes, width, auxiliary)


def scrambled(model: M) -> M:
    """The model with numbers in place of what starts as 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    for name, value in model.state_dict().items():
        if value.dtype.is_floating_point and value.ndim == 1:
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(noise + 0.5 if "var" in name or name.endswith("weight") else noise - 0.5)
    return model


@pytest.mark.parametrize("size", COUNTED)
def test_parameters_and_multiply_adds(size: str) -> None:
    parameters, *published = COUNTED[size]
    with torch.device("meta"):
        model = build_segmenter(backbone_of(create_model(f"convnext_{size}", out_norms=True))).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    for (height, width), expected in zip(((512, 2048), (640, 2560)), published, strict=True):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, height, width, device="meta"), coarse=True)
        assert counter.get_total_flops() / 2e9 == pytest.approx(expected, abs=0.005)


def peer(arch: Arch, classes: int, width: int) -> UperNetForSemanticSegmentation:
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    body: dict[str, Any] = {
        "depths": list(arch.depths),
        "hidden_sizes": list(arch.dims),
        "layer_scale_init_value": 1.0,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    heads: dict[str, Any] = {
        "hidden_size": width,
        "num_labels": classes,
        "auxiliary_in_channels": arch.dims[2],
        "auxiliary_channels": 256,
    }
    config = UperNetConfig(backbone_config=ConvNextConfig(**body), **heads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return UperNetForSemanticSegmentation(config)


@pytest.mark.parametrize("size", [(64, 96), (75, 101), (33, 160)])
def test_logits_losses_and_gradients_are_transformers(size: tuple[int, int]) -> None:
    theirs = scrambled(peer(SMALL, 5, 16)).eval()
    ours = segmenter().eval()
    report = load_weights(ours, theirs.state_dict())
    assert report.ok
    assert report.naming == "transformers"
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 5, (2, *size), generator=torch.Generator().manual_seed(0))
    maps = theirs.backbone(x).feature_maps
    auxiliary = torch.nn.functional.interpolate(theirs.auxiliary_head(maps), size=size, mode="bilinear")
    main = theirs(x).logits
    ours_main = ours(x)
    torch.testing.assert_close(ours_main, main, rtol=1e-5, atol=1e-5)
    ours.train()
    for module in ours.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.Dropout2d):
            module.eval()
    both = ours(x)
    torch.testing.assert_close(both[0], main, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(both[1], auxiliary, rtol=1e-5, atol=1e-5)
    cross_entropy = torch.nn.functional.cross_entropy
    (cross_entropy(main, labels) + 0.4 * cross_entropy(auxiliary, labels)).backward()
    (pixel_cross_entropy(both[0], labels) + 0.4 * pixel_cross_entropy(both[1], labels)).backward()
    pairs = (
        ("backbone.embeddings.patch_embeddings.weight", "backbone.downsample_layers.0.0.weight"),
        ("decode_head.psp_modules.3.1.conv.weight", "decode_head.psp_modules.3.1.conv.weight"),
        ("decode_head.classifier.weight", "decode_head.conv_seg.weight"),
        ("auxiliary_head.convs.0.conv.weight", "auxiliary_head.convs.0.conv.weight"),
    )
    mine, other = dict(ours.named_parameters()), dict(theirs.named_parameters())
    for a, b in pairs:
        torch.testing.assert_close(mine[b].grad, other[a].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "base"])
def test_the_papers_sizes_are_transformers(size: str) -> None:
    arch = VARIANTS[f"convnext_{size}"]
    theirs = scrambled(peer(arch, 150, 512)).eval()
    ours = build_segmenter(backbone_of(create_model(f"convnext_{size}", out_norms=True))).eval()
    load_weights(ours, theirs.state_dict())
    x = torch.randn(1, 3, 97, 130, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(x).logits
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("naming", ["official", "mmseg", "transformers"])
def test_weights_go_out_in_any_naming_and_come_back(naming: str, tmp_path: Path) -> None:
    model = scrambled(segmenter()).eval()
    path = save_weights(model, tmp_path / "model.safetensors", naming=naming)
    again = segmenter().eval()
    assert load_weights(again, path).ok
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(x), again(x))
    opened = convnext.from_pretrained(path)
    assert isinstance(opened, Segmenter)
    assert torch.equal(model(x), opened(x))


@pytest.mark.parametrize("naming", ["official", "mmseg"])
def test_a_pth_has_the_container_of_the_released_files(naming: str, tmp_path: Path) -> None:
    """It was {"model": …}, in which mmengine and the official code find no weights."""
    model = scrambled(segmenter()).eval()
    coding = MaskCoding(
        ("a", "b", "c", "d", "e"), (1, 2, 3, 4, 5), tuple((9 * i, 0, 1) for i in range(5)), ignored=(0,)
    )
    metadata = {"classes": json.dumps(coding.classes), "mask_coding": json.dumps(coding.to_dict()), "which": "ema"}
    path = save_weights(model, tmp_path / "model.pth", naming=naming, metadata=metadata)
    content = torch.load(path, weights_only=True)
    assert content.keys() == {"meta", "state_dict"}
    palette = [list(colour) for colour in coding.colours]
    assert (content["meta"]["CLASSES"], content["meta"]["PALETTE"]) == (coding.classes, palette)
    assert content["meta"]["dataset_meta"] == {"classes": coding.classes, "palette": palette}
    if naming == "official":
        assert content["state_dict"].keys() == model.state_dict().keys()
    opened = convnext.from_pretrained(path)
    assert opened.info.metadata["which"] == "ema"
    assert opened.info.classes == list(coding.classes)
    assert MaskCoding.from_dict(not_none(opened.info.mask_coding)) == coding
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(x), opened(x))
    again = convnext.from_pretrained(save_weights(opened, tmp_path / "again.safetensors"))
    assert (again.info.classes, again.info.mask_coding) == (opened.info.classes, json.loads(metadata["mask_coding"]))


def test_what_transformers_reads_of_ours(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    path = save_weights(scrambled(segmenter()), tmp_path / "model.safetensors", naming="transformers")
    theirs = peer(SMALL, 5, 16)
    missing, unexpected = theirs.load_state_dict(load_file(path), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)


def test_other_classes_and_a_missing_auxiliary_head_start_fresh() -> None:
    weights = dict(segmenter(7).state_dict())
    model = segmenter(5)
    before = model.decode_head.conv_seg.weight.clone()
    report = load_weights(model, weights)
    assert report.head == "reinitialised"
    assert torch.equal(model.decode_head.conv_seg.weight, before)
    report = load_weights(segmenter(7), {k: v for k, v in weights.items() if not k.startswith("auxiliary_head.")})
    assert report.head == "loaded"
    assert any("no auxiliary_head" in note for note in report.notes)
    with pytest.raises(UserError, match="missing"):
        load_weights(segmenter(7), {k: v for k, v in weights.items() if "fpn_bottleneck.bn" not in k})


def test_a_classifiers_weights_go_into_the_backbone() -> None:
    classifier = ConvNeXt(SMALL, num_classes=9)
    model = segmenter()
    report = load_weights(model, classifier.state_dict())
    assert any("start fresh" in note for note in report.notes)
    name = "stages.0.0.dwconv.weight"
    assert torch.equal(model.get_parameter(f"backbone.{name}"), classifier.get_parameter(name))


@pytest.mark.parametrize(
    ("size", "backbone", "others"),
    [
        ("tiny", (0.531, 0.590, 0.656, 0.729), 0.478),
        ("small", (0.282, 0.314, 0.349, 0.387), 0.254),
        ("base", (0.282, 0.314, 0.349, 0.387), 0.254),
    ],
)
def test_the_published_stage_wise_decay(size: str, backbone: tuple[float, ...], others: float) -> None:
    scales = scales_of(size, "stage")
    assert scales["backbone.downsample_layers.0.0.weight"] == pytest.approx(others, abs=5e-4)
    assert scales["backbone.downsample_layers.3.1.weight"] == pytest.approx(others, abs=5e-4)
    for stage, expected in enumerate(backbone):
        assert scales[f"backbone.stages.{stage}.0.dwconv.weight"] == pytest.approx(expected, abs=5e-4)
    for name in ("backbone.norm0.weight", "decode_head.conv_seg.weight", "auxiliary_head.conv_seg.bias"):
        assert scales[name] == 1


def test_the_clean_stage_wise_decay() -> None:
    scales = scales_of("base", "stage_clean")
    assert scales["backbone.stages.3.0.dwconv.weight"] == pytest.approx(0.9)
    assert scales["backbone.downsample_layers.2.0.weight"] == pytest.approx(0.9**5)
    assert scales["backbone.norm3.weight"] == scales["decode_head.conv_seg.weight"] == 1


def scales_of(size: str, rule: str) -> dict[str, float]:
    recipe = get_recipe(f"ade20k/upernet/{size}", **{"optim.layer_rule": rule})
    with torch.device("meta"):
        model = build_segmenter(backbone_of(create_model(recipe.model, out_norms=True)))
    return {name: group.lr_scale for group in parameter_groups(model, recipe.optim) for name in group.names}


def test_released_segmenters_are_found_by_recipe_and_by_file() -> None:
    assert len(SEGMENTERS) == 6
    assert {row.name for row in SEGMENTERS} == {name for name in RECIPES if name.startswith("ade20k/")}
    row = find_dense("upernet_convnext_base_22k_640x640")
    assert row is not None
    assert row is find_dense("ade20k/upernet/base_22k")
    assert row.eval_size == get_recipe(row.name).image_size == 640


def test_released_parameters_have_our_names_and_shapes() -> None:
    """Those of mmsegmentation's heads, and of the backbone with its output norms."""
    named = json.loads((FIXTURES / "released_segmenters.json").read_text())
    for size, heads in named.items():
        with torch.device("meta"):
            backbone = backbone_of(create_model(f"convnext_{size}", out_norms=True))
            model = build_segmenter(backbone)
        released = heads | {f"backbone.{name}": list(value.shape) for name, value in backbone.state_dict().items()}
        assert {name: list(value.shape) for name, value in model.state_dict().items()} == released


@pytest.mark.parametrize("name", ["decode_head", "auxiliary_head"])
def test_heads_losses_and_gradients_are_mmsegmentations(name: str) -> None:
    with np.load(FIXTURES / "segmenters.npz") as file:
        theirs = {key: torch.from_numpy(file[key]) for key in file.files}
    heads = torch.nn.ModuleDict(
        {"decode_head": DecodeHead(CHANNELS, WIDTH, CLASSES), "auxiliary_head": AuxiliaryHead(CHANNELS[2], CLASSES)}
    ).eval()
    heads.load_state_dict(drawn_weights(heads))
    logits = heads[name](maps())
    torch.testing.assert_close(logits, theirs[f"{name}/logits"], rtol=1e-5, atol=1e-5)
    loss = pixel_cross_entropy(logits, labels())
    torch.testing.assert_close(loss, theirs[f"{name}/loss"], rtol=1e-5, atol=1e-6)
    loss.backward()
    gradient = not_none(heads.get_parameter(f"{name}.conv_seg.weight").grad)
    torch.testing.assert_close(gradient.norm(), theirs[f"{name}/grad"], rtol=1e-4, atol=0)


def test_the_loss_leaves_out_what_has_no_label_and_divides_by_all() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    labels = torch.tensor([[[0, -1], [2, -1]]])
    own = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-1, reduction="none").sum() / 4
    torch.testing.assert_close(pixel_cross_entropy(logits, labels), own)
    nothing = pixel_cross_entropy(logits, torch.full((1, 2, 2), -1))
    nothing.backward()
    assert nothing == 0
    assert torch.equal(not_none(logits.grad), torch.zeros_like(logits))


def test_what_cannot_be_built_is_said() -> None:
    with pytest.raises(UserError, match="four maps"):
        build_segmenter(ConvNeXt(SMALL, out_norms=True, out_indices=(0, 1)), 5)
    with pytest.raises(UserError, match="0 classes"):
        build_segmenter(ConvNeXt(SMALL, out_norms=True), 0)
    with pytest.raises(UserError, match="cannot be written in 'timm' naming"):
        save_weights(segmenter(), "x.safetensors", naming="timm")


def test_a_file_whose_masks_are_described_wrongly_is_refused(tmp_path: Path) -> None:
    body = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=CHANNELS, out_norms=True)
    model = build_segmenter(backbone_of(body), 3, 8)
    path = save_weights(model, tmp_path / "model.safetensors", metadata={"mask_coding": "{}"})
    with pytest.raises(UserError, match="mask coding cannot be used"):
        from_pretrained(path)
