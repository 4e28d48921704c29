"""Table 9 read off the networks, against what was printed."""

from __future__ import annotations

import re

from narrow import not_none

from convnext.paper.layer_table import architecture_rows

# As printed: kernel and channels of each layer of a block, and how many of them; "d" is a depthwise kernel.
CONVNEXT = {"res2": "d7x7,96;1x1,384;1x1,96 x3", "res3": "d7x7,192;1x1,768;1x1,192 x3",
            "res4": "d7x7,384;1x1,1536;1x1,384 x9", "res5": "d7x7,768;1x1,3072;1x1,768 x3"}  # fmt: skip
RESNET = {"res2": "1x1,64;3x3,64;1x1,256 x3", "res3": "1x1,128;3x3,128;1x1,512 x4",
          "res4": "1x1,256;3x3,256;1x1,1024 x6", "res5": "1x1,512;3x3,512;1x1,2048 x3"}  # fmt: skip
SWIN = {"res2": (96, 3, 2), "res3": (192, 6, 2), "res4": (384, 12, 6), "res5": (768, 24, 2)}  # width, heads, blocks


def test_table_9_is_what_was_printed() -> None:
    rows = {row["stage"]: row for row in architecture_rows()}
    assert [rows[stage]["output"] for stage in ("stem", *CONVNEXT)] == [
        f"{size} x {size}" for size in (56, 56, 28, 14, 7)
    ]
    assert rows["stem"] | {"output": ""} == {
        "stage": "stem",
        "output": "",
        "ResNet-50": "7 x 7, 64, stride 2, 3 x 3 max pool, stride 2",
        "ConvNeXt-T": "4 x 4, 96, stride 4",
        "Swin-T": "4 x 4, 96, stride 4",
    }
    for stage in CONVNEXT:
        assert compact(not_none(rows[stage]["ConvNeXt-T"])) == CONVNEXT[stage]
        assert compact(not_none(rows[stage]["ResNet-50"])) == RESNET[stage]
        width, heads, blocks = SWIN[stage]
        assert compact(not_none(rows[stage]["Swin-T"])) == (
            f"1x1,{width}x3;attention,window7x7,{heads}heads,relativeposition;1x1,{width};"
            f"1x1,{4 * width};1x1,{width} x{blocks}"
        )
    cost = [(rows["GFLOPs"][name], rows["M parameters"][name]) for name in ("ResNet-50", "ConvNeXt-T", "Swin-T")]
    assert cost == [("4.09", "25.6"), ("4.46", "28.6"), ("4.49", "28.3")]  # printed: 4.1, 4.5 and 4.5


def compact(text: str) -> str:
    """ "[1 x 1, 64; 3 x 3, 64] x 3" -> "1x1,64;3x3,64 x3"."""
    found = re.fullmatch(r"\[(.*)\] x (\d+)", text)
    assert found is not None, text
    return found[1].replace(" ", "") + f" x{found[2]}"
