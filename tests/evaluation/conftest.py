"""Two ranks without a network between them."""

from __future__ import annotations

import datetime
import pickle

import pytest
import torch


@pytest.fixture
def on_two(tmp_path):
    """What `work(rank)` gives on each of two ranks. Neither ends before the other is done."""

    def on_two(work):
        context = torch.multiprocessing.get_context("fork")
        done = context.Barrier(2)

        def process(rank):
            torch.set_num_threads(1)
            group = {"init_method": f"file://{tmp_path / 'store'}", "rank": rank, "world_size": 2}
            torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=30), **group)
            (tmp_path / f"rank{rank}").write_bytes(pickle.dumps(work(rank)))
            done.wait(60)
            torch.distributed.destroy_process_group()

        processes = [context.Process(target=process, args=(rank,)) for rank in range(2)]
        for one in processes:
            one.start()
        for one in processes:
            one.join(120)
        assert [one.exitcode for one in processes] == [0, 0]
        return [pickle.loads((tmp_path / f"rank{rank}").read_bytes()) for rank in range(2)]

    return on_two
