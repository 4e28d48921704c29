"""Tables 5 and 6 as printed from the recipes, against the extracted tables of the paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convnext.errors import UserError
from convnext.paper.settings_tables import LETTERS, settings_rows

TABLES = Path(__file__).parents[1] / "fixtures" / "paper_tables.json"
# Table, column, entry of the extracted tables.
COLUMNS = [("5", "ImageNet-1K", "table5_pretrain", "in1k"), ("5", "ImageNet-22K", "table5_pretrain", "in22k"),
           ("6", "1K to 384", "table6_finetune", "from_in1k"), ("6", "22K to 1K, 224", "table6_finetune", "from_in22k"),
           ("6", "22K to 1K, 384", "table6_finetune", "from_in22k")]  # fmt: skip


def column(table: str, name: str) -> dict[str, str]:
    return {row["setting"]: row[name] for row in settings_rows(table)}


def test_values_that_differ_by_size_stand_side_by_side() -> None:
    from_scratch, fine_tuned = column("5", "ImageNet-22K"), column("6", "22K to 1K, 224")
    assert (from_scratch["models"], from_scratch["stochastic depth"]) == ("T/S/B/L/XL", "0/0/0.1/0.1/0.2")
    assert (from_scratch["learning rate"], from_scratch["batch size"]) == ("0.004", "4,096")
    assert fine_tuned["average (EMA)"] == "none/none/none/none/0.9999"
    assert column("5", "isotropic (A.1)")["layer scale"] == "none/none/1e-06"
    assert (column("5", "roadmap (A.1)")["models"], column("5", "roadmap (A.1)")["layer scale"]) == ("T/B", "1e-06")
    with pytest.raises(UserError, match="no table '7'"):
        settings_rows("7")


@pytest.mark.parametrize(("table", "name", "where", "entry"), COLUMNS)
def test_every_setting_is_the_papers(table: str, name: str, where: str, entry: str) -> None:
    printed, ours = json.loads(TABLES.read_text(encoding="utf-8"))[where][entry], column(table, name)
    by_name = {
        "learning rate": "base_lr",
        "weight decay": "weight_decay",
        "epochs": "epochs",
        "Mixup": "mixup",
        "CutMix": "cutmix",
        "warm-up epochs, linear": "warmup_epochs",
        "layer-wise decay": "layer_decay",
        "layer scale": "layer_scale",
        "stochastic depth": "stochastic_depth",
        "average (EMA)": "ema",
        "head's initial scale": "head_init_scale",
        "random erasing": "random_erasing",
        "optimiser": "optimizer",
        "label smoothing": "label_smoothing",
        "gradient clipping": "gradient_clip",
        "schedule": "lr_schedule",
        "lowest learning rate": "min_lr",
        "models": "models",
    }
    assert {setting: ours[setting] for setting in by_name} == {
        setting: shown(printed[key]) for setting, key in by_name.items()
    }
    assert ours["batch size"] == f"{printed['batch_size']:,}"
    assert ours["betas"] == "0.9, 0.999"
    assert ours["RandAugment"] == "(9, 0.5)"
    assert set(ours["models"].split("/")) <= set(LETTERS.values())


def shown(value: dict[str, float | None] | str | float | None) -> str:
    """A printed value, or those of the sizes, as our tables write it."""
    if isinstance(value, dict):
        several = [f"{one:g}" if one is not None else "none" for one in value.values()]
        return several[0] if len(set(several)) == 1 else "/".join(several)
    if isinstance(value, str):
        return value
    return f"{value:g}" if value else "none"
