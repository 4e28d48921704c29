"""The suites: which classes they have, and figures that can be worked out by hand."""

from __future__ import annotations

import json

import pytest
import torch
from robustness_cases import ALEXNET, SYNSETS

from convnext import files
from convnext.catalog.class_lists import positions_in_22k
from convnext.errors import UserError
from convnext.robustness import suites


def test_the_data_files_are_what_they_say() -> None:
    in_a, in_r = suites.classes_of("a"), suites.classes_of("r")
    for classes in (in_a, in_r):
        assert len(classes) == 200
        assert list(classes) == sorted(set(classes))
        assert set(classes) <= set(range(1000))
    assert (in_a[0], in_r[0]) == (6, 1)
    assert len(ALEXNET) == 15
    assert all(0.5 < error < 1 for error in ALEXNET.values())
    positions = positions_in_22k()
    assert [i for i, place in enumerate(positions) if place < 0] == [SYNSETS.index("n04399382")]
    ranked = [place for _, place in sorted(zip(SYNSETS, positions, strict=True)) if place >= 0]
    assert ranked == sorted(set(ranked))  # both lists are sorted by synset
    assert ranked[-1] < 21_841
    for name in ("imagenet_a_r", "imagenet_c_alexnet", "imagenet_22k_to_1k", "table8"):
        assert json.loads(files.asset(f"{name}.json"))["source"]


def test_the_mean_corruption_error_of_alexnet_is_100() -> None:
    assert suites.mean_corruption_error({name: [error] * 5 for name, error in ALEXNET.items()}) == 100


def test_the_mean_corruption_error_of_a_case_by_hand() -> None:
    halved = {name: [error / 2] * 5 for name, error in ALEXNET.items()}
    assert suites.mean_corruption_error(halved) == pytest.approx(50)
    # fog has no errors but at the last severity, where all is wrong: 100 * (1 / 5) / AlexNet's 0.819324 = 24.410367
    only_fog = {name: [0.0] * 5 for name in ALEXNET} | {"fog": [0, 0, 0, 0, 1]}
    assert suites.mean_corruption_error(only_fog) == pytest.approx(24.410367 / 15, abs=1e-6)
    extra = {name: [1.0] * 5 for name in ("speckle_noise", "gaussian_blur", "spatter", "saturate")}
    assert suites.mean_corruption_error(only_fog | extra) == suites.mean_corruption_error(only_fog)


def test_what_a_mean_error_lacks_is_named() -> None:
    errors: dict[str, list[float]] = {name: [0.5] * 5 for name in ALEXNET}
    del errors["fog"], errors["snow"]
    with pytest.raises(UserError, match="'snow', 'fog'"):
        suites.mean_corruption_error(errors)
    with pytest.raises(UserError, match=r"frost \(4\)"):
        suites.mean_corruption_error({name: [0.5] * (4 if name == "frost" else 5) for name in ALEXNET})
    with pytest.raises(UserError, match="'fog' are not shares"):
        suites.mean_corruption_error({name: [60.0 if name == "fog" else 0.6] * 5 for name in ALEXNET})
    with pytest.raises(UserError, match="'sparkles'"):
        suites.mean_error({name: [0.5] * 5 for name in suites.C_BAR[:-1]})


def test_the_mean_error_has_no_reference_in_it() -> None:
    errors = {name: [0.1, 0.2, 0.3, 0.4, 0.5] for name in suites.C_BAR} | {"fog": [1.0] * 5}
    assert suites.mean_error(errors) == pytest.approx(30)
    errors["sparkles"] = [1.0] * 5
    assert suites.mean_error(errors) == pytest.approx(37)


def test_only_the_classes_of_a_subset_can_be_answered() -> None:
    logits = torch.tensor([[5.0, 1.0, 2.0, 0.0], [9.0, -1.0, -2.0, 8.0], [0.0, 1.0, 2.0, 7.0]])
    assert suites.masked_top1(logits, torch.tensor([2, 1, 1]), (1, 2)) == pytest.approx(200 / 3)
    assert suites.masked_top1(logits, torch.tensor([2, 1, 1]), range(4)) == 0


def test_images_without_a_real_label_do_not_count() -> None:
    assert suites.real_accuracy([3, 5, 7, 9], [[1, 3], [], [8], [9]]) == pytest.approx(200 / 3)
    with pytest.raises(UserError, match="none of the validation images"):
        suites.real_accuracy([3], [[]])
