import json
import warnings
from itertools import chain, islice
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch

from xlm_core.config import DebugConfig, SplitConfig
from xlm_core.data import tokenizers
from xlm_core.data.loaders import LoaderRole, Loaders
from xlm_core.data.store import MANIFEST
from xlm_core.errors import ConfigError, DataError
from xlm_core.training.data import DataModule

LINES = [f"{n}" + "x" * (n % 7) for n in range(103)]
SPLITS = {"train": SplitConfig(share=[0.0, 0.6]), "validation": SplitConfig(share=[0.6, 1.0])}


def collate(stage):
    def collator(examples):
        rows = [np.asarray(example["input_ids"], np.int64) for example in examples]
        return {"stage": stage, "draw": torch.tensor([example["draw"] for example in examples]), "rows": rows}

    return collator


@pytest.fixture
def make(text_config, byte_tokenizer, tmp_path):
    def loaders(*, debug=None, **fields):
        sizes = {name: fields.pop(name) for name in ("batch_size", "micro_batch_size", "eval_batch_size") if name in fields}
        sizes = {"batch_size": 8, "micro_batch_size": 4, "eval_batch_size": 7} | sizes
        config = text_config(LINES, **{"splits": SPLITS, "predict": {"validation": 5}} | fields)
        made = Loaders(config, byte_tokenizer, collate, **sizes, seed=3, debug=debug or DebugConfig(), cache=tmp_path / "cache")
        made.prepare()
        return made

    return loaders


def rows(batch):
    return list(zip(batch["draw"].tolist(), (row.tolist() for row in batch["rows"]), strict=True))


def encoded(tokenizer, lines):
    return tokenizers.encode(tokenizer, lines)


TRAIN, VALIDATION = LINES[:62], LINES[62:]


def test_training_sees_every_row_once_an_epoch_with_its_draw(make, byte_tokenizer):
    seen = list(chain(*map(rows, islice(make().training(), 62))))  # 62 micro-batches of 4: 4 epochs
    assert [draw for draw, _ in seen] == list(range(248))
    for epoch in range(4):
        assert sorted(ids for _, ids in seen[epoch * 62 : epoch * 62 + 62]) == sorted(encoded(byte_tokenizer, TRAIN))


def test_ranks_and_workers_do_not_change_what_a_step_trains_on(make):
    one = [rows(batch) for batch in islice(make(workers=1).training(), 10)]
    two = [[rows(batch) for batch in islice(make().training(rank, 2), 5)] for rank in range(2)]
    for step in range(5):
        assert sorted(chain(*one[step * 2 : step * 2 + 2])) == sorted(two[0][step] + two[1][step])


def test_training_goes_on_at_any_step(make):
    whole = [rows(batch) for batch in islice(make().training(), 40)]
    resumed = make()
    resumed.start_step = 15
    assert [rows(batch) for batch in islice(resumed.training(), 10)] == whole[30:]


@pytest.mark.parametrize("size", [7, 64])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_every_row_once_for_any_batch_size_and_ranks(size, world, make, byte_tokenizer):
    seen = []
    for rank in range(world):
        loss, _ = make(eval_batch_size=size).evaluation("validation", rank, world)
        seen += chain(*map(rows, loss))
    assert sorted(seen) == list(enumerate(encoded(byte_tokenizer, VALIDATION)))


def test_samples_from_nothing_are_numbered_over_all_ranks(make):
    seen = []
    for rank in range(2):
        _, prediction = make(eval_batch_size=2).evaluation("validation", rank, 2)
        seen += chain(*map(rows, prediction))
    assert sorted(seen) == [(draw, []) for draw in range(5)]


@pytest.mark.parametrize(("wanted", "count"), [(-1, 41), (5, 5), (1000, 41)])
def test_predictions_of_answers_are_of_the_first_rows(wanted, count, make, user_module):
    module = user_module(
        "def f(rows, tokenizer):\n    ids = [[7 + len(t)] for t in rows['text']]\n"
        "    return {'input_ids': ids, 'prompt_ids': ids}\n"
    )
    fields = {"layout": "seq2seq", "prompt_length": 3, "preprocess": f"{module}.f", "predict": {"validation": wanted}}
    _, prediction = make(**fields).evaluation("validation")
    assert list(chain(*map(rows, prediction))) == [(n, [7 + len(line)]) for n, line in enumerate(VALIDATION[:count])]


def test_roles_are_in_the_order_of_the_loaders(make):
    loaders = make()
    assert loaders.roles("validation") == [LoaderRole("loss", "evaluate"), LoaderRole("prediction", "predict")]
    assert [next(iter(loader))["stage"] for loader in loaders.evaluation("validation")] == ["evaluate", "predict"]
    assert next(iter(loaders.training()))["stage"] == "train"
    assert make(predict={"validation": 0}).roles("validation") == [LoaderRole("loss", "evaluate")]
    assert loaders.roles("test") == loaders.evaluation("test") == []


def test_a_split_that_is_not_configured_has_no_loaders(make):
    loaders = make(splits={"test": SplitConfig()}, predict={})
    assert loaders.training() == loaders.evaluation("validation") == []
    assert len(list(chain(*map(rows, loaders.evaluation("test")[0])))) == 103


def test_debug_rows_limits_every_split_before_it_is_prepared(make, byte_tokenizer):
    debug = DebugConfig(rows=3)
    loaders = make(debug=debug, length=2)  # longer lines take more rows
    loss, prediction = loaders.evaluation("validation")
    assert len(list(chain(*map(rows, loss)))) == 3
    assert len(list(chain(*map(rows, prediction)))) == 3
    seen = list(chain(*map(rows, islice(loaders.training(), 6))))
    assert len({tuple(ids) for _, ids in seen}) <= 3
    assert loaders.manifest("train")["counts"]["rows_in"] == 3
    assert len(loaders.examples("train")) == 3


def test_overfitting_evaluates_on_the_rows_that_it_trains_on(make, byte_tokenizer):
    loaders = make(debug=DebugConfig(rows=4, overfit=True))
    loss, _ = loaders.evaluation("validation")
    assert [ids for _, ids in chain(*map(rows, loss))] == encoded(byte_tokenizer, TRAIN[:4])
    assert loaders.examples("validation")[2]["input_ids"].tolist() == encoded(byte_tokenizer, TRAIN)[2]
    assert loaders.manifest("validation") == loaders.manifest("train")
    trained = {tuple(ids) for _, ids in chain(*map(rows, islice(loaders.training(), 4)))}
    assert trained == {tuple(ids) for ids in encoded(byte_tokenizer, TRAIN[:4])}


def test_bucketing_puts_similar_lengths_into_a_micro_batch(make):
    def spread(loaders):
        return np.mean([np.ptp([len(ids) for _, ids in rows(batch)]) for batch in islice(loaders.training(), 30)])

    assert spread(make(bucketing=True)) < 0.5 * spread(make())
    with pytest.raises(ConfigError, match="stream"):
        make(bucketing=True, streaming=True)


def test_streams_number_their_draws_alike(make, byte_tokenizer):
    loaders = make(streaming=True, splits={"train": SplitConfig()})
    seen = list(chain(*map(rows, islice(loaders.training(), 206))))
    assert [draw for draw, _ in seen] == list(range(206 * 4))
    assert sorted(ids for _, ids in seen[:103]) == sorted(encoded(byte_tokenizer, LINES))
    assert not list((loaders._cache).rglob("*.arrow"))


def test_given_examples_are_loaded_in_their_order(make):
    examples = [{"input_ids": [n]} for n in range(10)]
    loader = make(eval_batch_size=4).loader(examples, "predict")
    assert list(chain(*map(rows, loader))) == [(n, [n]) for n in range(10)]
    assert examples[3] == {"input_ids": [3]}


def test_samples_from_nothing_need_a_number(make):
    with pytest.raises(ConfigError, match="validation"):
        make(predict={"validation": -1})


def test_batches_that_do_not_divide_are_refused(make):
    with pytest.raises(ConfigError, match=r"trainer\.batch_size=7"):
        make(batch_size=7, micro_batch_size=4).training()


def test_a_missing_file_is_found_out_when_data_are_prepared(make):
    with pytest.raises(DataError, match="nowhere"):
        make(path="/nowhere")


class Recorder(lightning.LightningModule):
    """Writes down which draws come, in which loader."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained, self.validated = [], []

    def training_step(self, batch, index):
        self.trained.append(batch["draw"].tolist())
        return self.weight * 0.0

    def validation_step(self, batch, index, dataloader_idx=0):
        self.validated.append((dataloader_idx, batch["draw"].tolist()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_runs_it_in_steps(make, tmp_path):
    loaders, recorder = make(), Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=20, max_epochs=-1, val_check_interval=20, check_val_every_n_epoch=None,
        accumulate_grad_batches=2, use_distributed_sampler=False, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(recorder, datamodule=DataModule(loaders))
    assert list(chain(*recorder.trained)) == list(range(160))
    rounds = len(recorder.validated) // 7
    assert rounds == 2
    assert list(chain(*(draws for loader, draws in recorder.validated[:7] if loader == 0))) == list(range(41))
    assert list(chain(*(draws for loader, draws in recorder.validated[:7] if loader == 1))) == list(range(5))


def test_the_policy_names_the_commit_that_rows_were_read_from(make):
    loaders = make()
    assert loaders.policy("validation", (), exact_bytes=True)["text"]["revision"] is None
    file = Path(loaders.manifest("validation")["folder"]) / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"revision": "0" * 40}))
    assert loaders.policy("validation", (), exact_bytes=True)["text"]["revision"] == "0" * 40
