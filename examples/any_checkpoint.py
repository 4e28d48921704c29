"""Any library's ConvNeXt file into any ConvNeXt: other names, other classes, other channels.

    python examples/any_checkpoint.py [CHECKPOINT]

Without an argument a file in timm's naming is made up on the spot, with random weights.
"""

import sys
import tempfile
from pathlib import Path

import torch

import convnext


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(place) / "from_timm.safetensors"
        if len(sys.argv) == 1:
            convnext.save_weights(convnext.create_model("convnext_atto"), source, naming="timm")
        # Five classes, pictures of one channel: the backbone is kept, the stem adapted, the head made anew.
        model = convnext.create_model("convnext_atto", num_classes=5, in_chans=1)
        print(convnext.load_weights(model, source))
        print("logits:", tuple(model.eval()(torch.zeros(2, 1, 64, 64)).shape))
        maps = convnext.create_model("convnext_atto", features_only=True)(torch.zeros(1, 3, 64, 64))
        print("maps for a detector:", [tuple(one.shape) for one in maps])


if __name__ == "__main__":
    main()
