"""How long `train` asks the start that ships whether mirrored pictures are others, before the first epoch.

    python benchmarks/mirror_cost.py [--pictures FOLDER] [--repeats 5]

Kinds of folder from benchmarks/stranger_folders.py: large photographs, many pictures, many classes. FOLDER holds
imagenette-112/. Times are seconds of this process with OMP_NUM_THREADS threads: median, least and most.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from stranger_folders import KINDS
from strangers import PICTURES

from convnext.classification.data import open_data
from convnext.classification.mirrors import what_a_mirror_changes

ASKED = ("12-megapixel photographs", "1,000 pictures", "200 classes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=PICTURES)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for kind in ASKED:
        with tempfile.TemporaryDirectory() as folder:
            train = open_data(KINDS[kind](Path(folder), options.pictures).data).train
            times = []
            for _ in range(options.repeats):
                began = time.perf_counter()
                what_a_mirror_changes(train)
                times.append(time.perf_counter() - began)
        print(f"{kind}: {len(train):,} pictures, {median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


if __name__ == "__main__":
    main()
