from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from xlm_core.data import order as module
from xlm_core.data.order import BatchStream, Division, EvaluationBatches, Order
from xlm_core.errors import ConfigError

SIZES = st.integers(1, 40)


def epochs(order, rows, count):
    return order(np.arange(rows * count)).reshape(count, rows)


@given(SIZES, st.integers(0, 3), st.booleans(), st.integers(1, 6), st.data())
def test_every_row_comes_once_an_epoch(rows, seed, bucketing, group, data):
    lengths = np.array(data.draw(st.lists(st.integers(0, 9), min_size=rows, max_size=rows))) if bucketing else None
    for epoch in epochs(Order(rows, seed, lengths=lengths, group=group), rows, 3):
        assert sorted(epoch) == list(range(rows))


def test_the_order_is_a_function_of_seed_and_draw_alone():
    order, draws = Order(100, 1), np.arange(1000)
    assert (Order(100, 1)(draws) == order(draws)).all()
    assert (Order(100, 1)(draws[::-1]) == order(draws)[::-1]).all()  # asked in another order
    assert (Order(100, 1)(np.array([734])) == order(draws)[734]).all()  # from far ahead
    first, second, *_ = epochs(order, 100, 3)
    assert (first != second).any()
    assert (Order(100, 2)(draws) != order(draws)).any()


def test_the_first_row_of_an_epoch_is_uniform():
    first = [Order(5, seed)(np.array([epoch * 5]))[0] for seed in range(40) for epoch in range(25)]
    assert stats.chisquare(np.bincount(first, minlength=5)).pvalue > 1e-3


def test_without_shuffling_rows_come_in_order():
    assert Order(4, 1, shuffle=False)(np.arange(10)).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_buckets_hold_rows_of_similar_length_in_every_epoch(monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 10)
    lengths = np.random.default_rng(0).integers(1, 1000, 403)
    order = Order(403, 5, lengths=lengths, group=8)
    groups = lengths[order(np.arange(403 * 3 // 8 * 8))].reshape(-1, 8)
    plain = lengths[Order(403, 5)(np.arange(403 * 3 // 8 * 8))].reshape(-1, 8)
    spread, plain_spread = np.ptp(groups, axis=1), np.ptp(plain, axis=1)
    whole = np.arange(len(groups)) % 50 != 0  # where an epoch ends and the next begins, a group is a mixture
    assert np.median(spread[whole]) < 0.2 * np.median(plain_spread)
    rising = np.diff(groups.mean(1)) > 0
    assert 0.3 < rising.mean() < 0.7  # the groups themselves are shuffled


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("micro", [1, 3, 12])
def test_a_step_trains_on_the_same_draws_for_any_division(world, micro):
    streams = [BatchStream(24, micro, rank, world) for rank in range(world)]
    count = streams[0].division.count
    own = [list(islice(stream, 5 * count)) for stream in streams]
    for step in range(5):
        batches = [batch for batches in own for batch in batches[step * count : (step + 1) * count]]
        assert all(len(batch) <= micro for batch in batches)
        assert len({len(batch) for batch in batches}) == 1
        assert sorted(chain(*batches)) == list(range(step * 24, step * 24 + 24))


def test_a_resumed_stream_is_the_rest_of_the_stream():
    whole = list(islice(BatchStream(24, 4, 1, 2), 3 * 7))
    resumed = list(islice(BatchStream(24, 4, 1, 2, start_step=3), 3 * 4))
    assert whole[3 * 3 :] == resumed


def test_with_one_rank_micro_batches_are_consecutive_so_that_buckets_stay_together():
    assert list(islice(BatchStream(6, 3), 3)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize(
    ("batch", "micro", "world", "division"),
    [
        (512, 64, 1, (64, 8)),
        (512, 64, 4, (64, 2)),
        (100, 64, 1, (50, 2)),
        (8, 64, 8, (1, 1)),
        (6, 64, 1, (6, 1)),
    ],
)
def test_divisions(batch, micro, world, division):
    assert Division.of(batch, micro, world) == Division(*division)


@pytest.mark.parametrize(
    ("batch", "micro", "world", "valid"),
    [(97, 64, 1, (96, 98)), (10, 4, 1, (9, 12)), (512, 64, 3, (504, 513)), (3, 64, 4, (4,))],
)
def test_batches_that_do_not_divide_name_the_nearest_that_do(batch, micro, world, valid):
    with pytest.raises(ConfigError) as caught:
        Division.of(batch, micro, world)
    assert caught.value.hint == f"Set trainer.batch_size to {' or '.join(map(str, valid))}."
    for size in valid:
        Division.of(size, micro, world)


@pytest.mark.parametrize(("batch", "micro"), [(0, 4), (4, 0)])
def test_sizes_have_to_be_positive(batch, micro):
    with pytest.raises(ConfigError, match="positive"):
        Division.of(batch, micro, 1)


@given(st.integers(0, 200), st.integers(1, 70), st.integers(1, 5))
def test_evaluation_sees_every_row_once_with_equal_numbers_of_batches(rows, size, world):
    ranks = [EvaluationBatches(rows, size, rank, world) for rank in range(world)]
    batches = [list(rank) for rank in ranks]
    assert [len(rank) for rank in ranks] == [len(own) for own in batches]
    assert sorted(chain(*chain(*batches))) == list(range(rows))
    for rank, own in enumerate(batches):
        assert all(0 < len(batch) <= max(size, 2) for batch in own)
        assert list(chain(*own)) == list(range(rank, rows, world))
    if rows >= world:
        assert len({len(own) for own in batches}) == 1
    if size > 1:
        assert all(len(batch) <= size for batch in chain(*batches))
