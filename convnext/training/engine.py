"""fit(): the one loop for every task; step(): the one update."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor, nn

from ..recipes.recipe import Recipe, micro_batches
from . import B, MicroBatch, Task, runtime
from .log import Log
from .optim import set_lr
from .runtime import Runtime
from .schedule import schedule_of
from .state import Best, TrainState, record, save

CHECK_LAG = {"cpu": 0}  # steps before a loss is looked at: on an accelerator, looking at once would stall the queue
DEFAULT_CHECK_LAG = 8
LOGS_PER_EPOCH = 10
NAMED = 5  # files of the batch that a message about it names

Publish = Callable[[TrainState, dict[str, float]], None]


class NonFiniteLoss(RuntimeError):
    """Training diverged; the message holds step, learning rate and files, and nothing of it was saved."""


@dataclass
class _Pending:
    """A step whose loss has not been looked at yet."""

    step: int
    lr: float
    ids: tuple[str, ...]
    loss: Tensor


def step(
    task: Task[B, object],
    model: nn.Module,
    state: TrainState,
    batches: Sequence[MicroBatch[B]],
    recipe: Recipe,
    run: Runtime,
) -> dict[str, Tensor]:
    """One optimiser step over this process's micro-batches; their share of the total batch's mean, as "loss".

    Where it is a sum of several losses, theirs stand beside it, by the names that the task gives them.
    """
    means: dict[str, Tensor] = {}
    count = (
        len(batches)
        if run.world == 1
        else micro_batches(recipe.batch_size, run.world, recipe.micro_batch or recipe.batch_size)
    )
    for i in range(count):
        # A process with a sample too few sees its last ones again, at no weight: SyncBatchNorm waits for all.
        weight = len(batches[i].ids) if i < len(batches) else 0
        waiting = batches[min(i, len(batches) - 1)]
        batch = waiting.to(run.device, channels_last=recipe.channels_last)  # one at a time: the rest waits on the host
        wait = contextlib.nullcontext() if i == count - 1 or run.world == 1 else model.no_sync()  # type: ignore[operator]
        with wait:
            with run.autocast():
                losses = task.losses(model, batch)
            loss = torch.stack([value.float() for value in losses.values()]).sum()
            loss = loss * (weight * run.world / recipe.batch_size)  # gradients are averaged over processes
            loss.backward()
        shares = {"loss": loss.detach() / run.world}
        if len(losses) > 1:
            shares |= {name: value.detach().float() * (weight / recipe.batch_size) for name, value in losses.items()}
        means |= {name: means.get(name, 0.0) + value for name, value in shares.items()}
    if recipe.optim.clip_grad is not None:
        nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip_grad)
    state.optimiser.step()
    state.optimiser.zero_grad(set_to_none=True)
    if recipe.ema is not None:
        state.update_average(recipe.ema)
    state.step += 1
    return means


@dataclass(frozen=True)
class Outlet:
    """Where a run's results go, and what becomes of the weights that are judged.

    `publish` is called on the main process whenever the best metric improves; where the evaluations are not to
    `choose` the weights, at each of them, with the averaged weights if there are any.
    """

    folder: Path
    publish: Publish
    choose: bool = True


def fit(task: Task[B, object], state: TrainState, recipe: Recipe, run: Runtime, outlet: Outlet) -> TrainState:
    """Trains from `state.step` to `recipe.steps`, evaluating, logging and saving as the recipe says.

    Raises NonFiniteLoss when the loss is not a number; `best` and `last` then still name the checkpoints from before.
    """
    per_epoch, total = task.steps_per_epoch, recipe.steps or 0
    schedule = schedule_of(recipe, per_epoch)
    model = prepared(state.model, recipe, run)
    due = _Due(recipe, per_epoch)
    pending: deque[_Pending] = deque()
    with Log(outlet.folder / "log.jsonl", total, quiet=not run.is_main) as log:
        judge = _Judge(task, state, recipe, run, log, outlet)
        if not state.evaluated:  # a run that was killed in this evaluation
            judge()
        end = state.step if _stale(state, recipe) else total  # one that was killed after it may have nothing to do
        progress = _Progress(log, recipe, state.step)
        for batches in task.batches(state.step, end):
            train_mode(state.model)
            lr = schedule.at(state.step)
            set_lr(state.optimiser, lr)
            runtime.seed_step(recipe.seed, state.step, run.rank)
            shares = step(task, model, state, batches, recipe, run)
            ids = tuple(i for b in batches for i in b.ids)
            pending.append(_Pending(state.step - 1, lr, ids, shares["loss"]))
            _check(pending, CHECK_LAG.get(run.device.type, DEFAULT_CHECK_LAG), run)
            progress.add(shares, state.step)
            if due.log(state.step):
                progress.write(state.step, state.step / per_epoch, lr, run)
            if due.checkpoint(state.step):  # before the evaluation: should that fail, nothing is lost
                _check(pending, 0, run)
                _check_weights(state, lr)
                _save(state, outlet.folder, run, evaluated=not due.evaluation(state.step))
            if not state.evaluated:
                judge(progress.loss, progress.pace(state.step))  # every evaluation is at the end of a window
            if _stale(state, recipe):
                log.say(f"stopped early: no better {task.metric.name} in {recipe.patience} evaluations")
                break
            progress.go_on()
        log.row("end", state.step, steps=total)
    return state


def _save(state: TrainState, folder: Path, run: Runtime, *, evaluated: bool) -> None:
    """Saves a checkpoint, which says whether its evaluation is done; before one, all processes get the same buffers."""
    state.evaluated = evaluated
    if not evaluated:
        run.broadcast_buffers(state.model.buffers())
        run.broadcast_buffers(state.averaged_buffers())
    if run.is_main:
        save(state, folder)
    run.barrier()


class _Progress:
    """The steps since the last row of the log, and the pace of all steps since `first`, evaluations not counted."""

    def __init__(self, log: Log, recipe: Recipe, first: int) -> None:
        self.log, self.batch_size, self.first = log, recipe.batch_size, first
        self.loss = ""  # of the last window, for people
        self.speed = 0.0  # pictures a second
        self._window: list[dict[str, Tensor]] = []
        self._training_s = 0.0
        self.go_on()

    def go_on(self) -> None:
        """The clock runs from here, and the wait for the next batch counts."""
        self._mark = time.perf_counter()

    def add(self, shares: dict[str, Tensor], step: int) -> None:
        self._window.append(shares)
        self._training_s += time.perf_counter() - self._mark
        self.speed = (step - self.first) * self.batch_size / self._training_s
        self.log.tick(step, self.speed, self.first)

    def write(self, step: int, epoch: float, lr: float, run: Runtime) -> None:
        """Writes the window's row, and begins the next."""
        loss, parts = _means(self._window, run)
        losses = {"losses": parts} if parts else {}
        self.log.row("train", step, epoch=epoch, loss=loss, **losses, lr=lr, images_per_s=round(self.speed, 1))
        self._window, self.loss = [], f"loss {loss:.4f}  "

    def pace(self, step: int) -> str:
        """For people."""
        return f"{self.speed:,.0f} images/s  {self.log.left(step, self.first)} left"


def _means(window: Sequence[dict[str, Tensor]], run: Runtime) -> tuple[float, dict[str, float]]:
    """The loss of some steps, over all processes, and its parts by name where it has several."""
    names = list(window[0])  # every batch has the same losses, on every process
    sums = torch.stack([torch.stack([shares[name] for shares in window]).sum() for name in names])
    means = dict(zip(names, run.all_reduce_sum(sums.cpu().double() / len(window)).tolist(), strict=True))
    return means.pop("loss"), means


def prepared(model: nn.Module, recipe: Recipe, run: Runtime) -> nn.Module:
    """The network as steps run it: compiled where the recipe says so, its gradients averaged over processes."""
    return run.distribute(torch.compile(model) if recipe.compile else model)  # type: ignore[arg-type]


def train_mode(model: nn.Module) -> None:
    """Training mode, but for modules whose parameters are all frozen: their BatchNorm averages stay as they are."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def _stale(state: TrainState, recipe: Recipe) -> bool:
    return recipe.patience is not None and state.stale >= recipe.patience


class _Due:
    """At which steps to log, evaluate and save: functions of the step alone, so that a resumed run does the same."""

    def __init__(self, recipe: Recipe, per_epoch: int) -> None:
        self.total = recipe.steps or 0
        self.eval_every = max(1, round(recipe.eval_every * per_epoch))
        self.save_every = max(1, round(recipe.save_every * per_epoch))
        self.log_every = max(1, per_epoch // LOGS_PER_EPOCH)

    def evaluation(self, step: int) -> bool:
        return step % self.eval_every == 0 or step == self.total

    def checkpoint(self, step: int) -> bool:
        return step % self.save_every == 0 or self.evaluation(step)

    def log(self, step: int) -> bool:
        """Every checkpoint closes a window too: an open one would be lost on resuming."""
        return step % self.log_every == 0 or self.checkpoint(step)


def _check(pending: deque[_Pending], lag: int, run: Runtime) -> None:
    while len(pending) > lag:
        entry = pending.popleft()
        # Every process must agree to stop, or the others would wait for this one for ever.
        bad = (
            run.all_reduce_sum((~torch.isfinite(entry.loss)).to(torch.int64))
            if run.world > 1
            else ~torch.isfinite(entry.loss)
        )
        if bool(bad):
            parts = run.gather((float(entry.loss), entry.ids))
            loss = next(loss for loss, _ in parts if not isfinite(loss))
            names = [name for _, some in parts for name in some]
            shown = ", ".join(names[:NAMED]) + f" and {len(names) - NAMED} more" * (len(names) > NAMED)
            raise NonFiniteLoss(
                f"the loss became {loss} at step {entry.step} with learning rate {entry.lr:.3g}; lower "
                f"the rate (--set optim.lr=…) or clip (--set optim.clip_grad=1). The batch held: {shown}"
            )


def _check_weights(state: TrainState, lr: float) -> None:
    """A finite loss can have a gradient that is not: such weights are neither judged nor saved."""
    norms = torch._foreach_norm([parameter.detach() for parameter in state.model.parameters()])
    if not bool(torch.isfinite(torch.stack(norms)).all()):
        raise NonFiniteLoss(
            f"the weights are no longer numbers after step {state.step - 1} at learning rate {lr:.3g}; lower it "
            "(--set optim.lr=…) or clip (--set optim.clip_grad=1)"
        )


@dataclass(frozen=True)
class _Judge(Generic[B]):
    """Judges the weights, publishes them if they are the best, and records it in the log and the checkpoint."""

    task: Task[B, object]
    state: TrainState
    recipe: Recipe
    run: Runtime
    log: Log
    outlet: Outlet

    def __call__(self, loss: str = "", pace: str = "") -> None:
        """`loss` and `pace` are what is said of the steps before."""
        task, state, run = self.task, self.state, self.run
        state.model.eval()
        results = {"raw": task.evaluate(state.model)}
        if state.ema is not None:
            with state.averaged() as model:
                results["ema"] = task.evaluate(model)
        name, direction, unit = task.metric
        sign = 1 if direction == "max" else -1
        which = max(results, key=lambda key: sign * results[key][name]) if self.outlet.choose else list(results)[-1]
        value = results[which][name]
        better = not self.outlet.choose or state.best is None or sign * value > sign * state.best.value
        state.stale = 0 if better else state.stale + 1
        if better:
            state.best = Best(state.step, value, which)
            if run.is_main:
                self.outlet.publish(state, results[which])
        epoch, total = state.step / task.steps_per_epoch, (self.recipe.steps or 0) / task.steps_per_epoch
        judged = results["raw"].get("count", 1) > 0  # else no picture was held out
        self.log.row(
            "eval",
            state.step,
            epoch=epoch,
            raw=results["raw"],
            ema=results.get("ema"),
            metric=name,
            value=value if judged else None,
            which=which,
            best=better,
            chosen=self.outlet.choose,
            **({} if unit == "%" else {"unit": unit}),
        )
        if run.is_main:  # last: a run that is killed before this evaluates once more
            record(state, self.outlet.folder)
        state.evaluated = True
        run.barrier()
        places = 2 if unit == "%" else 4
        average = f"  EMA {results['ema'][name]:6.{places}f}" if "ema" in results else ""
        scores = (
            f"{name} {results['raw'][name]:6.{places}f}{average}{' *' if better and self.outlet.choose else '  '}"
            if judged
            else "saved"
        )
        self.log.say(f"epoch {epoch:6.1f}/{total:.1f}  {loss}{scores}  {pace}".rstrip())
