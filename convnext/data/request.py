"""Which pictures a run learns from, as the user named them."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserError


@dataclass(frozen=True)
class DataRequest:
    """Which pictures a run learns from, as the user named them; kept in the log so that resuming finds the same."""

    data: str | None = None  # None: the built-in digits
    labels: str | None = None
    val_fraction: float = 0.2
    fold: int | None = None  # which of so many `folds` judges the others' model; None: the data's own split
    folds: int | None = None
    test_chooses: bool = False  # as in runs of earlier versions: a test split without val chose the best weights

    def arguments(self) -> list[str]:
        """The same request as words of the command line."""
        words = [] if self.data is None else [self.data]
        if self.labels is not None:
            words += ["--labels", self.labels]
        if self.folds is not None:
            words += ["--folds", str(self.folds)]
        if self.val_fraction != DataRequest.val_fraction:
            words += ["--val-fraction", str(self.val_fraction)]
        return words


def require_no_folds(request: DataRequest) -> None:
    """UserError where folds are asked of boxes or masks."""
    if request.folds is not None and request.fold is not None:
        raise UserError("--folds is for classifiers; of boxes and masks hold out a share by --val-fraction")
