"""What the package asks of a task: four modules satisfy `TaskSlice`, and mypy checks that they do (tasks/)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from torch import Tensor, nn

from ..catalog.releases import AnyRelease
from ..data.layouts import Layout
from ..data.report import FolderReport, Problem
from ..data.request import DataRequest
from ..data.splits import Pictures, Split, Splits
from ..recipes.everyday import Choice
from ..recipes.recipe import Recipe, Settings, TaskName, TestMode
from ..system.tables import Row
from ..weights.checkpoint import Checkpoint
from ..weights.info import ModelInfo
from ..weights.keymaps import Weights
from ..weights.load_report import LoadReport
from . import B, R_co, Task
from .runtime import Batching, Runtime, Say

P = TypeVar("P", bound=Pictures)
T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)
ImageIds = Mapping[str, int | str]  # of each path, in COCO's result format
Result = dict[str, Any]  # an evaluation: figures by name; "intervals" and rows of classes or targets beside them
Attempt = Callable[[Recipe, T, nn.Module, int], Tensor]  # a loss of so many empty pictures, to try the memory


@dataclass(frozen=True)
class EvaluateOptions:
    """What `evaluate` can be asked; tasks/options.py says of which tasks."""

    flip: bool = False
    crops: int = 1
    batch_size: int = 256
    split: Split = "val"
    labels: str | Path | None = None
    mode: TestMode | None = None
    precision: str = "auto"
    per_class: bool = False
    say: Say | None = None


@dataclass(frozen=True)
class PredictOptions:
    """What `predict` can be asked; tasks/options.py says of which tasks."""

    top: int = 5
    batch_size: int | None = None
    precision: str = "auto"
    least_score: float | None = None
    mode: TestMode | None = None
    out: Path | None = None
    say: Say | None = None


@dataclass(frozen=True)
class CheckRequest:
    """What is to be checked: `kind` is what was seen there (tasks/look.py), `labels` a table or file of names."""

    where: str
    kind: str
    labels: str | Path | None = None
    progress: Callable[[int, int], None] | None = None
    tell: Callable[[Problem], None] | None = None  # called with each unusable picture as it is found

    @property
    def root(self) -> Path:
        return Path(os.path.expanduser(self.where))


class Answer(Protocol):
    """What a model says of one picture: as a line for people, as rows of a table, as objects of a JSON array."""

    columns: ClassVar[tuple[str, ...]]
    faults_in_json: ClassVar[bool]  # a file that cannot be read has an object there; else it is told on standard error

    @property
    def path(self) -> str: ...
    @property
    def error(self) -> str | None: ...
    def line(self) -> str: ...
    def table(self) -> list[Row]: ...
    def json(self, image_ids: ImageIds) -> list[Row]: ...


class Shown(Protocol):
    """How pictures are shown to a model."""

    def to_dict(self) -> dict[str, object]: ...


class RunTask(Task[B, R_co], Protocol[B, R_co]):
    """A task of a training run: its pictures under a recipe, on this process."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # it can be replaced, with other pictures to judge on
    recipe: Recipe
    run: Runtime

    @property
    def train(self) -> Pictures: ...

    @property
    def val(self) -> Pictures: ...

    @property
    def preprocess(self) -> Shown: ...

    @property
    def described(self) -> dict[str, str]:
        """What a checkpoint's metadata says of the task."""

    def under(self, recipe: Recipe) -> Self:
        """The same pictures under another recipe, shown at its size."""

    def alone(self) -> None:
        """From here on this process judges all pictures by itself: the others are gone."""


class TaskSlice(Protocol[P, T, M]):
    """One task, from a folder of pictures P to the page at the end: T is learned by a model M."""

    name: TaskName
    noun: str  # of its models, with the article
    layouts: tuple[Layout, ...]  # in which its pictures may lie
    unread: tuple[str, ...]  # recipe fields that training never reads; "x." stands for all fields of x
    options: tuple[str, ...]  # of `evaluate` and `predict`, beside those that all tasks have (tasks/options.py)
    outputs: str  # what its names stand for, in the plural: "classes"
    batching: Batching
    few_each: int  # pictures a step of one process, below which exchanging gradients is most of its work
    attempt: Attempt[T] | None

    def open_data(self, request: DataRequest, recipe: Recipe) -> Splits[P]:
        """The splits that a request names. Raises UserError for unfit data."""

    def derive(self, given: Recipe, splits: Splits[P], settings: Settings, run: Runtime) -> tuple[Recipe, list[Choice]]:
        """The recipe for this data; `settings` gains what `given` and the weights fix. UserError for what cannot be."""

    def require_labels(self, recipe: Recipe, splits: Splits[P]) -> None:
        """UserError where the recipe learns something that the data does not show."""

    def remarks(self, splits: Splits[P]) -> list[str]:
        """What there is to say of the data before training, in sentences."""

    def make_task(self, splits: Splits[P], recipe: Recipe, run: Runtime) -> T: ...

    def make_model(self, recipe: Recipe, task: T, run: Runtime) -> M: ...

    def finish(self, path: Path, task: T, model: M) -> None:
        """Writes the page of a finished run, whose published model is handed in."""

    def holds(self, model: nn.Module) -> bool:
        """Whether a model is one of this task's."""

    def recognise(self, opened: Checkpoint, network: nn.Module) -> M | None:
        """A fresh model of the shape of a checkpoint around a network of its; None where it is another task's."""

    def load(self, model: M, opened: Checkpoint, head: str, rows: Sequence[int] | None, strict: bool) -> LoadReport:
        """Fills a model from a checkpoint and says what became of every entry."""

    def weights_as(self, model: M, naming: str) -> Weights:
        """The weights under a library's names. Raises UserError for one without such a model."""

    def describe(self, model: M) -> dict[str, str]:
        """What a file's metadata says of the network."""

    def shown(self, release: AnyRelease | None) -> Shown:
        """The evaluation protocol where a file does not say."""

    def complete(self, model: M, info: ModelInfo, opened: Checkpoint, named: Sequence[str] | None) -> None:
        """Adds to `info` what the task needs besides names and protocol; `named` are those that a file gave."""

    def evaluate(self, model: M, checkpoint: str | Path, data: str | Path | None, options: EvaluateOptions) -> Result:
        """A model's figures on a data set."""

    def predict(
        self, model: M, checkpoint: str | Path, paths: Sequence[str], options: PredictOptions
    ) -> Iterator[Answer]:
        """An answer for each picture, as it comes."""

    def unreadable(self, path: str, error: str) -> Answer:
        """The answer for a file that cannot be read."""

    def check(self, asked: CheckRequest) -> FolderReport:
        """Whether a folder is fit to train on."""


AnySlice = TaskSlice[Any, Any, Any]  # whichever the look-up finds; its parts fit each other
