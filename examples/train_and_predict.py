"""Train on the built-in digits, then ask the model about single pictures.

python examples/train_and_predict.py [EPOCHS]
"""

import sys
import tempfile
from pathlib import Path

import convnext
from convnext.classification.data import open_data


def main() -> None:
    epochs = float(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as place:
        result = convnext.train(out=Path(place) / "run", settings={"epochs": epochs})
        print(f"{result.metric:.1f} % of the held-out digits are right; beside it: {result.comparisons}")

        held_out = open_data().val
        files = []
        for i in range(5):
            files.append(Path(place) / f"a {held_out.classes[held_out.labels[i]]}.png")
            held_out[i].image.save(files[-1])
        for answer in convnext.predict(result.path / "model.safetensors", files, top=2):
            print(Path(answer.path).stem, "->", answer.top)


if __name__ == "__main__":  # the loader's processes import this file again
    main()
