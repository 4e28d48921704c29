"""Checkpoint files: find one by path, released name or hub id; open it safely; take the weights out of their container.

Pickles are opened with `weights_only=True` only, so a file can hold values but cannot run code.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import files
from ..catalog.releases import RELEASES, AnyRelease, Release, find_dense, find_release, parse_name
from ..catalog.variants import STARTER
from ..data.palette import spread_colours
from ..errors import UserError
from .class_names import names_in
from .foreign import CONFIG, PROCESSOR, Foreign, described_beside
from .keymaps import BOOKKEEPING, Weights
from .metadata import Described, described
from .released import holds, named_as, nearest

WeightsSource = str | Path | Mapping[str, object]

RAW_ENTRIES = ("model", "state_dict", "model_state_dict")
EMA_ENTRIES = ("model_ema", "state_dict_ema", "ema_state_dict")
INDEX = ".index.json"  # ends the name of the file that lists the parts of large weights
HUB_FILES = tuple(name + end for end in ("", INDEX) for name in ("model.safetensors", "pytorch_model.bin"))
TAGS = tuple(dict.fromkeys(row.tag for row in RELEASES))
HUB_OWNERS = ("timm/", "facebook/", "openmmlab/")  # ids that need no "hf:" before them
FORMAT = "convnext/1"
HEADER_LENGTH = 8  # bytes before a .safetensors header that say how long it is
# Other libraries' loaders take a pickled state dict's entries and, as torch's own `_metadata`, nothing but those.
ASIDE = "convnext"  # the attribute of the state dict that carries ours
DENSE_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8, torch.int8,
               torch.int16, torch.int32, torch.int64)  # fmt: skip
# Plain values that trainers store beside the weights: their arguments as a Namespace, best scores as numpy numbers.
HARMLESS: list[Any] = [
    argparse.Namespace, np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?")},
    *((np.dtype(np.float64).type(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """Weights as they lie in the file, and where they came from."""

    source: str  # what a person would call it
    entry: str  # which entry of the container was taken; "" for a file that is only weights
    weights: Weights
    metadata: dict[str, str] = field(default_factory=dict)
    release: AnyRelease | None = None
    notes: tuple[str, ...] = ()
    described: Described = field(default_factory=Described)  # the metadata, read
    foreign: Foreign = field(default_factory=Foreign)  # what another library's file or folder says


def open_checkpoint(source: WeightsSource, *, variant: str | None = None, ema: bool | None = None) -> Checkpoint:
    """The weights that `source` names: a path, a released name, a hub id, or a state dict (perhaps in its container).

    `variant` is the size that a bare tag such as "in1k" is for. `ema` True takes the averaged weights, False the raw
    ones, None the file's main entry. Released and hub files are fetched, once, because they were named.
    Raises UserError when nothing is found, the file is damaged or holds no weights, or has no averaged weights.
    """
    if isinstance(source, Mapping):
        return _unwrapped(source, "the given state dict", {}, None, ema)
    path, release = find(source, variant)
    values, metadata = read(path)
    name = f"{release.variant} {release.tag} ({path.name})" if release else str(source)
    opened = _unwrapped(values, name, metadata, release, ema)
    if "arch" not in metadata:  # ours describe themselves
        beside = described_beside(path, in_folder=path.name in HUB_FILES)
        foreign = replace(beside, classes=names_in(values) or beside.classes)
        opened = replace(opened, foreign=foreign, notes=(*opened.notes, *foreign.notes))
    claimed = named_as(path) if release is None and "arch" not in metadata else None  # ours say what they are
    if claimed is None:
        return opened
    if holds(opened.weights, claimed):
        return replace(opened, release=claimed)
    note = f"{path.name} is called as released weights of {claimed.variant} are, but holds others"
    return replace(opened, notes=(*opened.notes, note))


def find(source: str | Path, variant: str | None = None) -> tuple[Path, AnyRelease | None]:
    """The file that a path, released name or hub id stands for, fetched if need be; UserError when there is none."""
    path, text = Path(source).expanduser(), str(source)
    if text in TAGS:
        return _released(text, variant)
    if text == STARTER and not path.exists():
        return files.asset_path(f"{STARTER}.safetensors"), None
    if path.is_dir():
        inside = [path / name for name in HUB_FILES if (path / name).is_file()]
        if not inside:
            raise UserError(f"the folder {path} holds none of {', '.join(HUB_FILES)}; pass the checkpoint file itself")
        return inside[0], None
    if path.exists():
        return path, None
    if text.startswith(("hf:", *HUB_OWNERS)):
        return _from_hub(text.removeprefix("hf:")), None
    return _released(text, variant)


def read(path: Path) -> tuple[Mapping[str, object], dict[str, str]]:
    """What a .safetensors file or a pickle holds, and its metadata; UserError when it is damaged or would run code."""
    if path.name.endswith(INDEX):
        return _parts(path), {}
    with _explained(path):
        if _is_safetensors(path):
            return load_file(path), load_checkpoint_metadata(path)
        # To a path, torch would go by the name and not by what is in the file.
        with path.open("rb") as handle, torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sparse and quantised tensors, which are refused below
            values = torch.load(handle, map_location="cpu", weights_only=True)
    if not isinstance(values, Mapping):
        raise UserError(f"{path} holds a {type(values).__name__}, not a checkpoint; pass a file with a state dict")
    meta = values.get("meta")
    places = (values.get("metadata"), meta.get("convnext") if isinstance(meta, Mapping) else None, _aside(values))
    return values, next((dict(place) for place in places if place is not None and _strings(place)), {})


def _is_safetensors(path: Path) -> bool:
    """By its first bytes, whatever it is called: the length of a header, and a JSON object. Those of a damaged file say
    nothing, and its name counts."""
    with path.open("rb") as handle:
        start = handle.read(HEADER_LENGTH + 1)
    length = int.from_bytes(start[:HEADER_LENGTH], "little")
    if start[HEADER_LENGTH:] == b"{" and length < path.stat().st_size:
        return True
    return path.suffix == ".safetensors" and not start.startswith(b"PK")


def _strings(value: object) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _aside(values: object) -> object:
    return getattr(values, ASIDE, None)


def _parts(index: Path) -> dict[str, object]:
    """The weights of all the files that an index lists, which lie beside it. Raises UserError where one is missing."""
    try:
        listed = json.loads(index.read_bytes())["weight_map"]
        names = sorted(set(listed.values()))
        if not names or any(Path(name).name != name or name.endswith(INDEX) for name in names):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{index} lists no files of weights; fetch or save the folder again") from None
    weights: dict[str, object] = {}
    for name in names:
        weights |= read(index.with_name(name))[0]
    if lacking := sorted(listed.keys() - weights.keys()):
        raise UserError(f"{index} lists {lacking[0]}, which none of its files holds; fetch or save the folder again")
    return weights


def load_checkpoint_metadata(path: str | Path) -> dict[str, str]:
    """The metadata in a .safetensors header, without reading the weights; {} when it has none.

    Raises UserError when there is no such file or it is not a safetensors file.
    """
    with _explained(Path(path)), safe_open(path, framework="pt") as handle:
        return dict(handle.metadata() or {})


def write(weights: Weights, path: Path, *, naming: str, metadata: dict[str, str]) -> None:
    """Writes weights atomically: .safetensors with metadata, or .pth / .pt in the container the naming's library uses.

    Raises UserError for another suffix, or when the place cannot be written.
    """
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()
    }
    if path.suffix == ".safetensors":
        with files.atomic(path) as temporary:
            save_file(tensors, temporary, metadata)
            _in_order(temporary)
    elif path.suffix in (".pth", ".pt"):
        if naming.startswith("mm") or (naming == "official" and {"detector", "segmenter"} & metadata.keys()):
            container: dict[str, object] = {"meta": _meta(metadata), "state_dict": tensors}
        elif naming == "official":
            container = {"model": tensors, "metadata": metadata}
        else:
            container = OrderedDict(tensors)
            setattr(container, ASIDE, dict(metadata))
        # To a path, torch would hide why it failed, and the file would hold the temporary's name.
        with files.atomic(path) as temporary, temporary.open("wb") as handle:
            torch.save(container, handle)
    else:
        raise UserError(f"{path} has no suffix this package writes; end it in .safetensors or .pth")


def _in_order(path: Path) -> None:
    """Sorts the metadata in a .safetensors header, which its library writes in another order each time."""
    with path.open("r+b") as handle:
        length = int.from_bytes(handle.read(HEADER_LENGTH), "little")
        header = json.loads(handle.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:  # the same characters in another order
            handle.seek(HEADER_LENGTH)
            handle.write(text.ljust(length))


def _meta(metadata: dict[str, str]) -> dict[str, object]:
    """What the released detectors and segmenters carry beside the weights, and mmengine's; ours has its own entry."""
    if "classes" not in metadata:
        return {"convnext": metadata}
    names = json.loads(metadata["classes"])
    coding = json.loads(metadata.get("mask_coding", "{}"))
    palette = [list(colour) for colour in coding.get("colours", spread_colours(len(names)))]
    new = {"classes": tuple(names), "palette": palette}  # mmdetection 3, mmsegmentation 1; before them in capitals
    return {"convnext": metadata, "dataset_meta": new} | {key.upper(): value for key, value in new.items()}


def _released(text: str, variant: str | None) -> tuple[Path, AnyRelease]:
    release = find_dense(text) or _release_named(text, variant)
    target = files.cache_folder() / "weights" / release.filename
    return files.download(release.url, target, expected_sha256=release.sha256), release


def _release_named(text: str, variant: str | None) -> Release:
    if text in TAGS:
        if variant is None:
            raise UserError(
                f"{text!r} names released weights of several sizes; say which, as in 'convnext_tiny.fb_{text}'"
            )
        return find_release(variant, text)
    looks_like_file = text.endswith((".safetensors", ".pth", ".pt", ".tar", ".bin", ".ckpt")) or "/" in text
    try:
        name = parse_name(text)
    except UserError:
        if dense := nearest(text):
            meant = f"did you mean {', '.join(map(repr, dense))}?"
            raise UserError(f"{text!r} is neither a file nor released weights; {meant}") from None
        if not looks_like_file:
            near = get_close_matches(text, TAGS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"released weights: {', '.join(TAGS)}"
            raise UserError(
                f"{text!r} is neither a file, released weights, nor a hub id (hf:org/name); {hint}"
            ) from None
        raise UserError(f"there is no file {text}; check the path, or write hf:org/name for a hub id") from None
    if variant not in (None, "custom", name.variant):
        raise UserError(f"{text!r} names weights of {name.variant}, the model is {variant}; create that one instead")
    return find_release(name.variant, name.tag or "in1k")


def _from_hub(repository: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise UserError(f"reading {repository} from the hub needs huggingface_hub: pip install convnext[hub]") from None
    for name in HUB_FILES:
        try:
            found = Path(hf_hub_download(repository, name))
            for beside in (CONFIG, PROCESSOR):
                with contextlib.suppress(EntryNotFoundError):
                    hf_hub_download(repository, beside)
            if name.endswith(INDEX):
                for part in sorted(set(json.loads(found.read_bytes())["weight_map"].values())):
                    hf_hub_download(repository, part)
            return found
        except LocalEntryNotFoundError:  # a kind of EntryNotFoundError, but it means: no network and not cached
            raise UserError(
                f"cannot reach the hub for {repository}, and it is not cached; fetch it elsewhere and pass the path"
            ) from None
        except EntryNotFoundError:
            continue
        except Exception as error:  # the hub client lets several HTTP libraries' errors through
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"cannot fetch {repository} from the hub ({reason}); check the id, or pass a local path"
            ) from None
    raise UserError(f"{repository} holds none of {', '.join(HUB_FILES)}; pass a local checkpoint file")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what the readers raise into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check the path") from None
    except pickle.UnpicklingError as error:
        if found := re.search(r"(?:GLOBAL|class|function) `?([\w.]+)`?", str(error)):
            raise UserError(
                f"{path} asks to run {found[1]} when opened; refused, as a checkpoint needs only tensors and numbers"
            ) from None
        raise UserError(f"{path} is not a checkpoint, or is damaged; fetch it again") from None
    except (
        SafetensorError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
    ) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise UserError(f"{path} is damaged or not a checkpoint ({reason}); fetch or save it again") from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch asks for a place before the start of a file that was cut short
            raise UserError(f"{path} is damaged: its end is missing; fetch or save it again") from None
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def _unwrapped(
    values: Mapping[str, object], source: str, metadata: dict[str, str], release: AnyRelease | None, ema: bool | None
) -> Checkpoint:
    entry, found, notes = _choose(values, source, ema)
    weights = {key: value for key, value in found.items() if isinstance(value, Tensor) and isinstance(key, str)}
    if not weights:
        shown = ", ".join(map(str, list(values)[:5])) or "nothing"
        raise UserError(f"{source} holds no weights (it has: {shown}); pass a checkpoint with a state dict")
    if other := sorted(str(key) for key in found if key not in weights):
        notes = (*notes, f"not tensors with names, not read: {', '.join(other[:5])}")
    for name, value in weights.items():
        if problem := _unusable(name, value):
            raise UserError(f"{source} holds {name} {problem}; save its weights as ordinary tensors")
    return Checkpoint(source, entry, weights, metadata, release, notes, described(metadata, source))


def _unusable(name: str, value: Tensor) -> str | None:
    """Why an entry cannot be copied into a network; None where it can."""
    if value.layout is not torch.strided or value.is_quantized:
        return "as a sparse or quantised tensor"
    if value.dtype not in DENSE_TYPES:
        return f"as {value.dtype}".replace("torch.", "")
    if value.ndim == 0 and name.split(".")[-1] not in (*BOOKKEEPING, "num_batches_tracked"):
        return "as a single number"
    return None


def _choose(
    values: Mapping[str, object], source: str, ema: bool | None
) -> tuple[str, Mapping[str, object], tuple[str, ...]]:
    """The entry to take: its name, its weights, and what else there was."""
    states = {name: state for name, state in values.items() if name in RAW_ENTRIES + EMA_ENTRIES and _is_state(state)}
    raw = next((name for name in RAW_ENTRIES if name in states), None)
    averaged = next((name for name in EMA_ENTRIES if name in states), None)
    if raw and averaged == "ema_state_dict":  # mmengine swaps the two when it saves: state_dict is the average
        taken = averaged if ema is False else raw
        return taken, states[taken], (f"mmengine stores the average as {raw} and the raw weights as {averaged}",)
    if averaged and (ema or not raw):
        if ema is False:
            raise UserError(f"{source} holds only averaged weights ({averaged}); leave out ema=False")
        return averaged, states[averaged], ()
    entry = raw or ""
    state = states[raw] if raw else values
    plain, old_average = _split_mmcv(state)
    if ema:
        if not old_average:
            raise UserError(f"{source} holds no averaged weights; leave out ema=True")
        note = "mmcv 1 may have swapped the average and the raw weights on saving, depending on its hooks' order"
        return f"{entry}[ema_*]", old_average, (note,)
    also = averaged or ("ema_*" if old_average else None)
    return entry, plain, ((f"averaged weights are there too ({also}); ema=True takes them",) if also else ())


def _split_mmcv(state: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """mmcv 1 keeps a second copy of `a.b.c` as the buffer `ema_a_b_c`: (the state without them, that copy renamed)."""
    copies = {f"ema_{str(key).replace('.', '_')}": key for key in state if not str(key).startswith("ema_")}
    average = {copies[key]: value for key, value in state.items() if key in copies}
    return {key: value for key, value in state.items() if key not in copies}, average


def _is_state(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping) and any(isinstance(v, Tensor) for v in value.values())
