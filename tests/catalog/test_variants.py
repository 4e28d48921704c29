"""The rows: exact parameters, the paper's multiply-adds, and every spelling of a model's name."""

from typing import TypedDict

import pytest

from convnext.catalog.releases import RELEASES, ModelName, find_release, parse_name
from convnext.catalog.variants import CLASSES_22K, VARIANTS, Arch, custom
from convnext.errors import UserError

PARAMETERS = {
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
    "convnext_xlarge": 350_196_968,
    "convnext_isotropic_small": 22_308_712,
    "convnext_isotropic_base": 87_083_752,
    "convnext_isotropic_large": 305_942_504,
}
GMACS = {  # (model, image size): giga multiply-adds with 1000 classes
    ("convnext_tiny", 224): 4.455, ("convnext_tiny", 384): 13.092,
    ("convnext_small", 224): 8.684, ("convnext_small", 384): 25.518,
    ("convnext_base", 224): 15.355, ("convnext_base", 384): 45.122,
    ("convnext_large", 224): 34.361, ("convnext_large", 384): 100.978,
    ("convnext_xlarge", 224): 60.921, ("convnext_xlarge", 384): 179.029,
    ("convnext_isotropic_small", 224): 4.286,
    ("convnext_isotropic_base", 224): 16.896,
    ("convnext_isotropic_large", 224): 59.699,
}  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), PARAMETERS.items())
def test_parameters_are_exactly_the_published_ones(name: str, expected: int) -> None:
    assert VARIANTS[name].parameters() == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("convnext_tiny", 44_615_857),
        ("convnext_small", 66_250_417),
        ("convnext_base", 109_953_489),
        ("convnext_large", 229_799_953),
        ("convnext_xlarge", 392_900_177),
    ],
)
def test_parameters_with_the_22k_head(name: str, expected: int) -> None:
    assert VARIANTS[name].parameters(CLASSES_22K) == expected


@pytest.mark.parametrize(("where", "expected"), GMACS.items(), ids=str)
def test_multiply_adds(where: tuple[str, int], expected: float) -> None:
    name, size = where
    assert VARIANTS[name].multiply_adds(size) / 1e9 == pytest.approx(expected, abs=0.001)


def test_the_22k_head_costs_what_the_table_says() -> None:
    assert VARIANTS["convnext_tiny"].multiply_adds(224, CLASSES_22K) / 1e9 == pytest.approx(4.471, abs=0.001)
    assert VARIANTS["convnext_xlarge"].multiply_adds(224, CLASSES_22K) / 1e9 == pytest.approx(60.964, abs=0.001)


@pytest.mark.parametrize(
    ("text", "variant", "tag"),
    [
        ("convnext_tiny", "convnext_tiny", None),
        ("tiny", "convnext_tiny", None),
        ("convnext-base", "convnext_base", None),
        ("convnext_tiny.fb_in22k_ft_in1k_384", "convnext_tiny", "in22k_ft_in1k_384"),
        ("timm/convnext_large.fb_in1k", "convnext_large", "in1k"),
        ("facebook/convnext-tiny-224", "convnext_tiny", "in1k"),
        ("facebook/convnext-base-384", "convnext_base", "in1k_384"),
        ("facebook/convnext-xlarge-224-22k", "convnext_xlarge", "in22k"),
        ("facebook/convnext-xlarge-384-22k-1k", "convnext_xlarge", "in22k_ft_in1k_384"),
        ("convnext_tiny_in22ft1k", "convnext_tiny", "in22k_ft_in1k"),
        ("convnext_base_384_in22ft1k", "convnext_base", "in22k_ft_in1k_384"),
        ("convnext_tiny_1k_224.pth", "convnext_tiny", "in1k_noema"),
        ("convnext_tiny_1k_224_ema", "convnext_tiny", "in1k"),
        ("convnext_xlarge_22k_1k_384_ema.pth", "convnext_xlarge", "in22k_ft_in1k_384"),
        ("convnext_iso_small_1k_224_ema.pth", "convnext_isotropic_small", "in1k"),
        ("convnext_isotropic_large", "convnext_isotropic_large", None),
    ],
)
def test_every_spelling_is_read(text: str, variant: str, tag: str | None) -> None:
    assert parse_name(text) == ModelName(variant, tag)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("convnext_tinny", "did you mean 'convnext_tiny'"),
        ("convnextv2_tiny", "ConvNeXt-V2"),
        ("convnext_tiny.dinov3_lvd1689m", "dinov3"),
        ("facebook/dinov3-convnext-tiny-pretrain-lvd1689m", "dinov3"),
        ("resnet50", "unknown model"),
    ],
)
def test_an_unknown_name_is_refused_with_a_hint(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse_name(text)


def test_releases_are_unique_and_belong_to_the_family() -> None:
    assert len({(row.variant, row.tag) for row in RELEASES}) == len(RELEASES) == len({row.url for row in RELEASES})
    for row in RELEASES:
        assert row.variant in VARIANTS
        assert row.eval_size == (384 if row.tag.endswith("384") else 224)
        assert row.num_classes == (CLASSES_22K if row.tag == "in22k" else 1000)
        assert (row.which == "ema") == row.filename.endswith("_ema.pth")


def test_a_release_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(UserError, match="released: in22k"):
        find_release("convnext_xlarge", "in1k")
    with pytest.raises(UserError, match="none"):
        find_release("convnext_atto", "in1k")


def test_strides_follow_the_stem() -> None:
    assert VARIANTS["convnext_tiny"].strides == (4, 8, 16, 32)
    assert custom(VARIANTS["convnext_tiny"], patch_size=1).strides == (1, 2, 4, 8)
    assert VARIANTS["convnext_isotropic_base"].strides == (16,)


class Parts(TypedDict, total=False):
    """Fields of `Arch`."""

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    patch_size: int


@pytest.mark.parametrize(
    "parts", [{"depths": (1, 2, 3)}, {"dims": (8, 16, 32)}, {"depths": (1, 0, 1, 1)}, {"patch_size": 0}]
)
def test_an_impossible_network_is_refused(parts: Parts) -> None:
    possible: Parts = {"depths": (1, 1, 1, 1), "dims": (8, 16, 32, 64)}
    with pytest.raises(UserError):
        Arch(**possible | parts)
