"""Which sample at which step: once an epoch, the same from any start, on any number of processes and loaders."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from convnext.data import Batch, Sample
from convnext.data.loader import Augmented, Collate, Order, Plain, earlier_draws, load, share
from convnext.data.source import ArrayReader, Label, Source
from convnext.errors import UserError
from convnext.recipes.recipe import micro_batches

SIZES = [(24, 8), (25, 8), (31, 8), (7, 7), (9, 4), (5, 1)]


def indices(order: Order, start: int, stop: int) -> list[list[int]]:
    return [[index for _, index, *_ in batch] for batch in order.steps(start, stop)]


@pytest.mark.parametrize(("samples", "batch"), SIZES)
def test_no_sample_comes_twice_in_an_epoch_and_only_the_rest_sits_it_out(samples: int, batch: int) -> None:
    order = Order(samples, batch, seed=3)
    per_epoch = order.steps_per_epoch
    assert per_epoch == samples // batch
    for epoch in range(3):
        steps = list(order.steps(epoch * per_epoch, (epoch + 1) * per_epoch))
        assert all(len(step) == batch for step in steps)
        assert {e for step in steps for e, _ in step} == {epoch}
        seen = [index for step in steps for _, index in step]
        assert len(set(seen)) == len(seen) == samples - samples % batch
        assert set(seen) <= set(range(samples))


@pytest.mark.parametrize(("samples", "batch"), SIZES)
@pytest.mark.parametrize("weighted", [False, True])
def test_resuming_anywhere_gives_the_same_tail(samples: int, batch: int, weighted: bool) -> None:
    order = Order(samples, batch, seed=1, weights=tuple(range(1, samples + 1)) if weighted else None)
    stop = 3 * order.steps_per_epoch + 1
    whole = list(order.steps(0, stop))
    assert len(whole) == stop
    for start in range(stop + 1):
        assert list(order.steps(start, stop)) == whole[start:]


def test_the_seed_decides_the_order_and_every_epoch_has_its_own() -> None:
    one, again, other = Order(50, 10, seed=0), Order(50, 10, seed=0), Order(50, 10, seed=1)
    assert indices(one, 0, 10) == indices(again, 0, 10)
    assert indices(one, 0, 5) != indices(other, 0, 5)
    assert indices(one, 0, 5) != indices(one, 5, 10)
    assert one.epoch(0).tolist() != one.epoch(1).tolist()


def test_the_ones_who_sit_out_differ_between_epochs() -> None:
    order = Order(11, 5, seed=0)
    left_out = {frozenset(range(11)) - {i for s in indices(order, 2 * e, 2 * e + 2) for i in s} for e in range(8)}
    assert len(left_out) > 1


def test_balanced_sampling_draws_every_class_as_often() -> None:
    labels = np.array([0] * 180 + [1] * 18 + [2] * 2)
    weights = 1 / np.bincount(labels)[labels]
    order = Order(200, 20, seed=0, weights=tuple(weights))
    drawn = np.bincount(labels[np.array(indices(order, 0, 100)).ravel()])
    assert drawn.sum() == 2000
    deviation = np.sqrt(2000 * (1 / 3) * (2 / 3))
    assert (np.abs(drawn - 2000 / 3) < 4 * deviation).all()


def test_a_weight_of_zero_is_never_drawn_and_weights_need_not_sum_to_one() -> None:
    drawn = Counter(itertools.chain.from_iterable(indices(Order(4, 4, 0, weights=(0.0, 3.0, 1.0, 0.0)), 0, 500)))
    assert drawn.keys() == {1, 2}
    assert drawn[1] / drawn.total() == pytest.approx(0.75, abs=0.04)


def test_a_shuffled_epoch_has_the_keys_and_the_numbers_it_always_had() -> None:
    """Runs of earlier versions must resume, and be repeated, bit for bit."""
    steps = [[(0, 3), (0, 4), (0, 0)], [(1, 4), (1, 2), (1, 0)], [(1, 3), (1, 6), (1, 5)]]
    assert list(Order(7, 3, seed=2).steps(1, 4)) == steps
    seen = [
        float((Augmented(pictures(), Noisy, 7)[key][0] - as_tensor(pictures()[5].image)).mean())
        for key in ((0, 5), (3, 5))
    ]
    assert seen == pytest.approx([0.372800, 30.972658], abs=1e-5)
    large = 2**62 + 5  # a seed of two words, after which numpy's padding would end
    value = float((Augmented(pictures(), Noisy, large)[0, 5][0] - as_tensor(pictures()[5].image)).mean())
    assert value == pytest.approx(1.299039, abs=1e-5)


def test_a_sample_drawn_again_in_an_epoch_is_another_picture() -> None:
    order = Order(20, 20, seed=0, weights=(100.0, *[1.0] * 19))
    (keys,) = order.steps(0, 1)
    assert len(set(keys)) == 20
    mine = [key for key in keys if key[1] == 0]
    assert len(mine) > 10
    assert [key[2:] for key in mine] == [(), *((i,) for i in range(1, len(mine)))]
    source = Augmented(pictures(), Noisy, 0)
    assert len({round(float(source[key][0].mean()), 5) for key in mine}) == len(mine)


@pytest.mark.parametrize(
    ("batch", "world", "micro", "lengths"),
    [
        (16, 6, 2, [[2, 1], [2, 1], [2, 1], [2, 1], [1, 1], [1, 1]]),
        (16, 7, 2, [[2, 1], [2, 1], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1]]),
        (20, 8, 2, [[2, 1]] * 4 + [[1, 1]] * 4),
        (10, 4, 2, [[2, 1], [2, 1], [1, 1], [1, 1]]),
        (5, 2, 1, [[1, 1, 1], [1, 1]]),  # the engine computes the last one's twice
        (16, 4, 2, [[2, 2]] * 4),
        (7, 1, 3, [[3, 2, 2]]),
    ],
)
def test_every_process_has_as_many_micro_batches(batch: int, world: int, micro: int, lengths: list[list[int]]) -> None:
    keys = [(0, i) for i in range(batch)]
    parts = [share(keys, rank, world, micro) for rank in range(world)]
    assert [[len(part) for part in mine] for mine in parts] == lengths
    assert micro_batches(batch, world, micro) == max(map(len, parts))


@pytest.mark.parametrize("batch", range(1, 30))
def test_shares_of_one_size_are_cut_as_they_always_were(batch: int) -> None:
    for world, micro in [(1, m) for m in range(1, batch + 3)] + [(2, 3), (2, 4), (4, 2), (4, 1)]:
        if batch % world:
            continue
        for rank in range(world):
            mine = np.array_split(np.arange(batch), world)[rank]
            before = [part.tolist() for part in np.array_split(mine, -(-len(mine) // micro)) if len(part)]
            assert [
                [i for _, i in part] for part in share([(0, i) for i in range(batch)], rank, world, micro)
            ] == before


@pytest.mark.parametrize("order", [[], [3], [1, 1, 1], [2, 0, 2, 1, 0, 2]])
def test_earlier_draws_are_counted(order: list[int]) -> None:
    found = earlier_draws(np.array(order, dtype=np.int64)).tolist()
    assert found == [order[:place].count(index) for place, index in enumerate(order)]


@pytest.mark.parametrize("micro", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("size", "world"), [(n, world) for n in (1, 2, 3, 5, 7, 8, 12, 13) for world in (1, 2, 3) if n >= world]
)
def test_the_shares_of_all_processes_in_rank_order_are_the_batch(size: int, world: int, micro: int) -> None:
    batch = [(0, 100 - i) for i in range(size)]
    shares = [share(batch, rank, world, micro) for rank in range(world)]
    assert [key for parts in shares for part in parts for key in part] == batch
    held = [sum(map(len, parts)) for parts in shares]
    assert max(held) - min(held) <= 1
    for parts in shares:
        sizes = [len(part) for part in parts]
        assert 1 <= min(sizes) <= max(sizes) <= micro
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == min(sum(sizes), -(-max(held) // micro))  # as many as the largest share needs


def pictures(count: int = 13, multi_label: bool = False) -> Source:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (4, 5, 3), dtype=np.uint8) for _ in range(count)]
    several: list[Label] = [(i % 3, 2) if i % 3 != 2 else () for i in range(count)]
    labels, ids = several if multi_label else [i % 3 for i in range(count)], [f"n/{i}" for i in range(count)]
    return Source(("a", "b", "c"), tuple(labels), tuple(ids), ArrayReader(arrays), 4, multi_label=multi_label)


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


class Noisy:
    """A training transform that depends on everything it is given."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        return as_tensor(image) + float(rng.normal()) + 10 * self.epoch


def test_the_plain_view_is_the_transformed_picture_with_label_and_name() -> None:
    source = pictures()
    plain = Plain(source, as_tensor)
    assert len(plain) == 13
    image, label, name = plain[4]
    assert torch.equal(image, as_tensor(source[4].image))
    assert (label, name) == (1, "n/4")


def test_an_augmented_sample_depends_on_seed_epoch_and_index_alone() -> None:
    one, again, other = (Augmented(pictures(), Noisy, seed) for seed in (0, 0, 1))
    assert len(one) == 13
    first = one[0, 5]
    one[0, 6], one[1, 5]  # what was looked at in between does not matter
    assert torch.equal(one[0, 5][0], first[0])
    assert torch.equal(again[0, 5][0], first[0])
    assert first[1:] == (2, "n/5")
    assert not torch.equal(other[0, 5][0], first[0])


def test_epochs_and_samples_have_their_own_randomness() -> None:
    source = pictures()
    noise = {
        (epoch, i): (Augmented(source, Noisy, 0)[epoch, i][0] - as_tensor(source[i].image)).mean() - 10 * epoch
        for epoch in range(3)
        for i in range(5)
    }
    assert len({round(float(value), 4) for value in noise.values()}) == 15


def test_the_transform_is_asked_for_the_epoch_of_the_key() -> None:
    source = pictures()
    mean = (Augmented(source, Noisy, 0)[40, 2][0] - as_tensor(source[2].image)).mean()
    assert abs(float(mean) - 400) < 10


def test_rows_become_a_batch() -> None:
    rows = [Plain(pictures(), as_tensor)[i] for i in (3, 1)]
    batch = Collate(3)(rows)
    assert batch.images.shape == (2, 3, 4, 5)
    assert torch.equal(batch.images[1], rows[1][0])
    assert batch.targets.tolist() == [0, 1]
    assert batch.targets.dtype == torch.int64
    assert batch.ids == ("n/3", "n/1")


def test_rows_of_several_labels_become_multi_hot_targets() -> None:
    rows = [Plain(pictures(multi_label=True), as_tensor)[i] for i in range(3)]
    batch = Collate(4, multi_label=True)(rows)
    assert batch.targets.tolist() == [[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert batch.targets.dtype == torch.float32


def loaded(workers: int, start: int = 0, world: int = 1, rank: int = 0, micro: int = 3) -> list[Batch]:
    order = Order(13, 6, seed=4)
    parts = (part for keys in order.steps(start, 6) for part in share(keys, rank, world, micro))
    return list(load(Augmented(pictures(), Noisy, 4), parts, Collate(3), workers))


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.targets, b.targets)
        assert a.ids == b.ids


def test_loader_processes_change_nothing() -> None:
    assert_same(loaded(workers=0), loaded(workers=2))


def test_what_is_loaded_after_resuming_is_the_tail() -> None:
    assert_same(loaded(workers=0)[6:], loaded(workers=0, start=3))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_samples_look_the_same_on_any_number_of_processes(world: int) -> None:
    def joined(parts: list[list[Batch]]) -> list[tuple[str, list[float]]]:
        """Each step's samples over all ranks; one micro-batch a step and rank."""
        steps = zip(*parts, strict=True)
        return [
            (i, row.flatten().tolist()) for step in steps for b in step for i, row in zip(b.ids, b.images, strict=True)
        ]

    alone = joined([loaded(0, micro=6)])
    assert joined([loaded(0, world=world, rank=rank, micro=6) for rank in range(world)]) == alone


def test_evaluation_batches_come_in_the_given_order_with_the_last_one_short() -> None:
    chunks = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12]]
    found = list(load(Plain(pictures(), as_tensor), chunks, Collate(3), 0))
    assert [len(batch.ids) for batch in found] == [5, 5, 3]
    assert [name for batch in found for name in batch.ids] == [f"n/{i}" for i in range(13)]


class Bad(Source):
    """A source whose third picture cannot be read."""

    def __getitem__(self, index: int) -> Sample:
        if index == 3:
            raise UserError("n/3.png is cut short; replace it")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_picture_is_reported_in_its_own_words(workers: int) -> None:
    sound = pictures(6)
    bad = Bad(sound.classes, sound.labels, sound.ids, sound.read, sound.typical_size)
    with pytest.raises(UserError) as error:
        list(load(Plain(bad, as_tensor), [[0, 1], [2, 3]], Collate(3), workers))
    assert str(error.value) == "n/3.png is cut short; replace it"
