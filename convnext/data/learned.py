"""The pictures that a model learned from, kept by name in its checkpoint, and found again in a folder that has changed.

Of each picture there is a hash of its name (path without suffix) and, where the pictures are few enough to be read for
it, of its contents; where they were decoded before training anyway, also of its look. So a copy is known that was
renamed or moved (contents), re-encoded in its place (name and look), or both, as long as it is clear which is gone.

    pictures           kept                      bytes a picture (base64)
    up to 20,000       names, contents, looks    24
    up to 50,000       names, contents           14
    up to 2,000,000    names                     7 (ImageNet-1K: 8.5 MB)
    more               the fingerprint alone
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from ..errors import UserError
from .folders import SPLIT_OF, TRAIN_NAMES
from .images import BadImage, open_image
from .levels import Levels
from .looks import LOOK_SIGNS, look, thumbnails
from .splits import Pictures

NAMES_UP_TO, CONTENTS_UP_TO, LOOKS_UP_TO = 2_000_000, 50_000, 20_000  # pictures
HASH_BYTES = 5  # of a name or of contents: of a million pictures, one in a million others is taken for one of them
BLOCK = 1 << 14  # bytes at the beginning, middle and end of a large file that stand for all of it
GONE_SIGNS = 8  # of 64 signs that may differ when a learned picture is gone: JPEG of quality 60 changes 3 to 8 of noise
SAME_NAME_SIGNS = 12  # of 64 signs that may differ when the name agrees as well: strangers differ in 32 +- 4
UNKNOWN = 0  # in place of a hash
UNTOLD = (
    "; the model's file does not name the pictures it learned from, so whether it knows some of these cannot be told"
)


@dataclass(frozen=True)
class Learned:
    """Three (N,) columns of uint64, sorted by name; UNKNOWN where contents or look were not kept."""

    names: np.ndarray
    contents: np.ndarray
    looks: np.ndarray
    levels: Levels | None = None  # which pictures of more than 8 bits were read with; their looks depend on it

    def __len__(self) -> int:
        return len(self.names)

    def joined(self, other: Learned | None) -> Learned:
        """Both models' pictures: of one that goes on from the weights of the other."""
        if other is None:
            return self
        columns = np.concatenate(
            [
                np.stack([self.names, self.contents, self.looks], 1),
                np.stack([other.names, other.contents, other.looks], 1),
            ]
        )
        return replace(_sorted(np.unique(columns, axis=0)), levels=self.levels)

    def to_dict(self) -> dict[str, int | str]:
        """Plain values for a checkpoint's metadata."""
        written: dict[str, int | str] = {"count": len(self), "names": _packed(self.names, HASH_BYTES)}
        if self.contents.any():
            written["contents"] = _packed(self.contents, HASH_BYTES)
        if self.looks.any():
            written["looks"] = _packed(self.looks, 8)
        return written

    @classmethod
    def from_dict(cls, values: object) -> Learned:
        """What `to_dict` wrote. Raises ValueError for anything else."""
        if not isinstance(values, dict) or not isinstance(count := values.get("count"), int) or count < 0:
            raise ValueError("no count of pictures")
        widths = (("names", HASH_BYTES), ("contents", HASH_BYTES), ("looks", 8))
        columns = [_unpacked(values.get(key), width, count, optional=key != "names") for key, width in widths]
        return _sorted(np.stack(columns, 1))


@dataclass(frozen=True)
class Recognised:
    """Which pictures of a source a model learned from, and how they were known."""

    positions: tuple[int, ...]
    renamed: int  # by their contents, under another name or in another folder
    recoded: int  # by their look, with other contents
    alike: tuple[int, ...]  # that have the look of a learned picture that is gone, but neither name nor contents
    unsure: int  # that have the name of a learned picture and may be one; not among the positions
    missing: int  # learned pictures that are nowhere in the folder
    blind: bool  # whether a copy that was both renamed and re-encoded would have gone unnoticed


@dataclass(frozen=True)
class LearnedBy:
    """What a model's file says of the pictures that it learned from: which they are, or, where it is older, their
    fingerprint, which tells them as long as the folder is the same and `val_fraction` of it was held out."""

    known: Learned | None = None
    trained_on: str | None = None
    val_fraction: float = 0.2


NOTHING_LEARNED = LearnedBy()


def learned_from(source: Pictures, decoded: Pictures | None = None) -> Learned | None:
    """What a checkpoint keeps of the pictures of `source`; None when they are too many even for their names.

    `decoded` is the same source with its pictures in memory, where it has been read anyway.
    """
    if source.drawn:
        return _sorted(np.zeros((0, 3), np.uint64))
    names = source.names
    if len(names) > NAMES_UP_TO:
        return None
    columns = np.zeros((len(names), 3), np.uint64)
    columns[:, 0] = [_name_key(name) for name in names]
    if len(names) <= CONTENTS_UP_TO:
        columns[:, 1] = _contents(source, range(len(names)))
    read = source if decoded is None else decoded
    if len(names) <= LOOKS_UP_TO and read.arrays is not None:
        columns[:, 2] = _looks(read, range(len(read)))
    return _sorted(columns)


def copies(train: Pictures, held_out: Pictures) -> int:
    """How many of the `held_out` files are, byte for byte, a training file, too; files of other sizes are not read.

    Of pictures in memory, and of more than `CONTENTS_UP_TO`, nothing is said: 0.
    """
    few = 0 < len(held_out) <= len(train) + len(held_out) <= CONTENTS_UP_TO
    if not few or train.drawn or train.arrays is not None:
        return 0
    sizes = [list(map(_size_of, map(part.path, range(len(part))))) for part in (train, held_out)]
    both = set(sizes[0]) & set(sizes[1])
    alike = [[i for i, size in enumerate(own) if size in both] for own in sizes]
    learned, judged = (_contents(part, own) for part, own in zip((train, held_out), alike, strict=True))
    return int((np.isin(judged, learned) & (judged != UNKNOWN)).sum())


def recognise(known: Learned, source: Pictures, everywhere: Iterable[str] = ()) -> Recognised:
    """The pictures of `source` among the `known` ones; `everywhere` are names of others in the same folder."""
    names = source.names
    contents = _contents(source, range(len(names))) if known.contents.any() else np.zeros(len(names), np.uint64)
    row_of_content = {int(value): i for i, value in enumerate(known.contents) if value != UNKNOWN}
    row_of_name = {int(value): i for i, value in enumerate(known.names)}
    by_content = {i: row_of_content[int(c)] for i, c in enumerate(contents) if int(c) in row_of_content}
    keys = [_name_key(name) for name in names]
    others = [i for i in range(len(names)) if i not in by_content]
    by_name = {i: row_of_name[keys[i]] for i in others if keys[i] in row_of_name}
    matched, doubtful = _by_name(known, source, by_content, by_name, contents)
    recoded = _moved_and_recoded(known, source, [i for i in others if i not in by_name], row_of_name)
    sure = by_content | matched | recoded
    elsewhere = {row_of_name[key] for name in everywhere if (key := _name_key(name)) in row_of_name}
    missing = np.ones(len(known), bool)
    missing[[*sure.values(), *elsewhere, *doubtful.values()]] = False
    same_folder = 2 * int(missing.sum()) <= len(known)
    candidates = [i for i in others if i not in sure and i not in doubtful]
    alike, blind = _by_look(known, source, candidates, missing, GONE_SIGNS if same_folder else LOOK_SIGNS)
    if same_folder:  # most were found: what looks like one that is gone is that one
        sure, recoded, alike = sure | alike, recoded | alike, {}
    missing[[*recoded.values(), *alike.values()]] = False
    return Recognised(
        positions=tuple(sorted(sure)),
        renamed=sum(keys[i] != int(known.names[row]) for i, row in by_content.items()),
        recoded=len(recoded) + sum(known.contents[row] != UNKNOWN for row in matched.values()),
        alike=tuple(sorted(alike)),
        unsure=len(doubtful),
        missing=int(missing.sum()),
        blind=blind and bool(missing.any()),
    )


def to_judge(
    known: Learned, source: Pictures, split: str, place: str, whole: str, everywhere: Iterable[str] = ()
) -> tuple[list[int], str]:
    """Positions of the pictures to judge a model on, and a sentence that says which they are.

    They are those that the model did not learn from; with the split "train" those that it did. `whole` is the sentence
    for a source in which it knows none. Raises UserError when no picture is left.
    """
    found, count = recognise(known, source, everywhere), len(source)
    learned = set(found.positions)
    rest = [i for i in range(count) if i not in learned]
    in_doubt = f"; {len(found.alike):,} others look like pictures that it learned from, under other names and with "
    in_doubt = in_doubt + "other contents, and are left out" if found.alike else ""
    if split == "train":
        if not learned:
            return rest, f"{whole}, none of which it is known to have learned from"
        others = f"; the other {len(rest):,} are left out" if rest else ""
        return sorted(learned), f"the {len(learned):,} images of {place} that it learned from{others}"
    if not rest:
        raise UserError(
            f"the model learned from all {count:,} images of {place}, so none is left to judge it on; "
            "pass other pictures, or --split train to see how well it knows these"
        )
    if not (rest := [i for i in rest if i not in set(found.alike)]):
        raise UserError(
            f"all {count:,} images of {place} are ones that the model learned from, or look like them, so "
            "none is left to judge it on; pass other pictures"
        )
    if not learned:
        judged = f"the {len(rest):,} images of {place} that look like none it learned from" if in_doubt else whole
        return rest, judged + in_doubt + _what_cannot_be_told(found)
    ways = ((found.renamed, "renamed, moved or copied since"), (found.recoded, "re-encoded since"))
    how = ", ".join(f"{number:,} {way}" for number, way in ways if number)
    left_out = f"; {len(learned):,} others, that it learned from, are left out" + (f" ({how})" if how else "")
    said = f"the {len(rest):,} images of {place} that were held out of its training or are new to it"
    return rest, said + left_out + in_doubt + _what_cannot_be_told(found)


def _by_name(
    known: Learned, source: Pictures, by_content: dict[int, int], by_name: dict[int, int], contents: np.ndarray
) -> tuple[dict[int, int], dict[int, int]]:
    """Of the pictures with a learned one's name, but not its contents: those that are it, and those in doubt.

    The look decides where it is known. Where it is not, a folder most of whose names have kept their contents is the
    one that was learned from, and elsewhere names agree by chance: "0001.jpg".
    """
    sure = {i: row for i, row in by_name.items() if known.contents[row] == UNKNOWN or contents[i] == UNKNOWN}
    rest = {i: row for i, row in by_name.items() if i not in sure}
    seen = {i: row for i, row in rest.items() if known.looks[row] != UNKNOWN}
    blind = {i: row for i, row in rest.items() if i not in seen}
    for (i, row), own in zip(seen.items(), _looks(source, list(seen), known.levels), strict=True):
        if own == UNKNOWN:
            blind[i] = row
        elif _distance(own, known.looks[row]) <= SAME_NAME_SIGNS:
            sure[i] = row
    there = set(by_content.values())  # such a picture is another one of that name, as 1.png beside 1.jpg
    gone = {i: row for i, row in blind.items() if row not in there}
    return (
        (sure | gone, {i: row for i, row in blind.items() if i not in gone})
        if len(there) >= len(gone)
        else (sure, blind)
    )


def _moved_and_recoded(
    known: Learned, source: Pictures, candidates: Sequence[int], row_of_name: dict[int, int]
) -> dict[int, int]:
    """Pictures with the look of a learned one that had their name in another split."""
    names = source.names
    rows = {
        i: row_of_name[key]
        for i in candidates
        for other in _in_other_splits(names[i])
        if (key := _name_key(other)) in row_of_name and known.looks[row_of_name[key]] != UNKNOWN
    }
    own = _looks(source, list(rows), known.levels)
    return {
        i: row
        for (i, row), mine in zip(rows.items(), own, strict=True)
        if mine != UNKNOWN and _distance(mine, known.looks[row]) <= SAME_NAME_SIGNS
    }


def _by_look(
    known: Learned, source: Pictures, candidates: Sequence[int], missing: np.ndarray, signs: int
) -> tuple[dict[int, int], bool]:
    """Pictures that look like a learned one that is missing, each like another; and whether some could not be compared.

    In sets of like pictures several resemble one that is gone: the nearest is it, and the others are new.
    """
    rows = np.flatnonzero(missing & (known.looks != UNKNOWN))
    blind = len(rows) < int(missing.sum())
    if not len(rows) or not candidates:
        return {}, blind
    if len(candidates) > LOOKS_UP_TO:
        return {}, True
    near: list[tuple[int, int, int]] = []
    for i, mine in zip(candidates, _looks(source, candidates, known.levels), strict=True):
        if mine != UNKNOWN:
            distances = np.bitwise_count(known.looks[rows] ^ mine)
            near += [(int(distances[k]), i, int(rows[k])) for k in np.flatnonzero(distances <= signs)]
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, row in sorted(near):
        if i not in found and row not in taken:
            found[i] = row
            taken.add(row)
    return found, blind


def _what_cannot_be_told(found: Recognised) -> str:
    said = ""
    if found.unsure:
        verb = "has" if found.unsure == 1 else "have"
        said += f"; {found.unsure:,} of them {verb} the name of a picture that it learned from, but other "
        said += "contents, and may be copies"
    if found.missing and (found.blind or found.positions or found.alike):
        verb = "was" if found.missing == 1 else "were"
        said += f"; {found.missing:,} that it learned from {verb} not found, and whether one of these is a copy that "
        said += f"was renamed and re-encoded cannot be told{'' if found.blind else ' for certain'}"
    return said


def _in_other_splits(name: str) -> list[str]:
    first, slash, rest = name.partition("/")
    plain = rest if slash and first.lower() in SPLIT_OF else name
    return [other for other in (plain, *(f"{split}/{plain}" for split in TRAIN_NAMES)) if other != name]


def _name_key(name: str) -> int:
    """Of the path without its suffix: a picture that is saved in another format keeps its key."""
    return _hash(os.path.splitext(name)[0].encode("utf-8", "surrogatepass"))


def _hash(*parts: bytes) -> int:
    return int.from_bytes(blake2b(b"".join(parts), digest_size=HASH_BYTES).digest(), "little") or 1


def _contents(source: Pictures, indices: Sequence[int]) -> np.ndarray:
    arrays = source.arrays
    if arrays is not None:
        return np.array([_hash(str(arrays[i].shape).encode(), arrays[i].tobytes()) for i in indices], np.uint64)
    with ThreadPoolExecutor() as pool:
        return np.array(list(pool.map(lambda i: _content_of(source.path(i)), indices)), np.uint64)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _content_of(path: Path) -> int:
    """UNKNOWN for a file that cannot be read: whoever needs its picture says so."""
    try:
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            if size <= 4 * BLOCK:
                return _hash(handle.read())
            parts = [str(size).encode()]
            for start in (0, size // 2, size - BLOCK):
                handle.seek(start)
                parts.append(handle.read(BLOCK))
            return _hash(*parts)
    except OSError:
        return UNKNOWN


def _looks(source: Pictures, indices: Sequence[int], levels: Levels | None = None) -> np.ndarray:
    """(M,) words of signs; UNKNOWN for flat pictures and for those that cannot be read."""
    if not len(indices):
        return np.zeros(0, np.uint64)
    arrays = source.arrays

    def one(index: int) -> bytes | None:
        try:
            if arrays is not None:
                return look(Image.fromarray(arrays[index]))
            return look(open_image(source.path(index), levels=levels))
        except BadImage:
            return None

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(one, indices))
    words = np.zeros(len(found), np.uint64)
    if sound := [i for i, value in enumerate(found) if value is not None]:
        words[sound] = thumbnails([value for value in found if value is not None])[1]
    return words


def _distance(one: np.uint64, other: np.uint64) -> int:
    return int(np.bitwise_count(np.uint64(one) ^ np.uint64(other)))


def _sorted(columns: np.ndarray) -> Learned:
    columns = columns[np.argsort(columns[:, 0], kind="stable")]
    return Learned(columns[:, 0], columns[:, 1], columns[:, 2])


def _packed(values: np.ndarray, width: int) -> str:
    raw = np.ascontiguousarray(values.astype("<u8")).view(np.uint8).reshape(-1, 8)[:, :width]
    return base64.b64encode(raw.tobytes()).decode("ascii")


def _unpacked(text: object, width: int, count: int, *, optional: bool) -> np.ndarray:
    if text is None and optional:
        return np.zeros(count, np.uint64)
    try:
        raw = base64.b64decode(cast(str, text), validate=True)  # which raises TypeError for what is no text
    except (TypeError, binascii.Error) as error:
        raise ValueError(f"not base64: {error}") from None
    if len(raw) != width * count:
        raise ValueError(f"{len(raw)} bytes for {count} pictures")
    wide = np.zeros((count, 8), np.uint8)
    wide[:, :width] = np.frombuffer(raw, np.uint8).reshape(count, width)
    return wide.view("<u8").ravel().astype(np.uint64)
