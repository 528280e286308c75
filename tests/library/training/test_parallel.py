"""Ranks that train one model together, as threads: what comes out is what one process finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import recurray as rr
from harness.ranks import in_threads
from recurray.parallel.buckets import buckets_of
from recurray.training.batch import Form
from recurray.training.data import source as source_of
from recurray.training.share import Share

N, T, F, H = 11, 7, 3, 5
RNG = np.random.default_rng(0)
X, TARGET = RNG.standard_normal((N, T, F)), RNG.standard_normal((N, T, 2))
LENGTHS = np.array([7, 3, 5, 1, 6, 2, 7, 4, 4, 1, 7])
MASK = RNG.random((N, T)) < 0.7
RAGGED = tuple([row[:n] for row, n in zip(part, LENGTHS, strict=True)] for part in (X, TARGET))
STREAMS = [(X[:5, :3], TARGET[:5, :3]), (X[:5, 3:5], TARGET[:5, 3:5]), (X[:5, 5:], TARGET[:5, 5:])]
STATIC = RNG.standard_normal((N, 2))

CASES = {
    "lengths": ({"x": X, "target": TARGET, "lengths": LENGTHS}, {"validation": 0.3}),
    "mask": ({"x": X, "target": TARGET, "mask": MASK, "target_mask": MASK[::-1]}, {"clip_norm": 0.5}),
    "static": ({"x": X, "target": TARGET, "static": STATIC, "resets": ~MASK}, {"static_size": 2}),
    "ragged": (RAGGED, {"accumulate": 2}),
    "fewer rows than ranks": ((X, TARGET), {"batch_size": 2, "metrics": {"error": lambda p, t: abs(p - t).mean()}}),
    "chunks": ({"x": X, "target": TARGET, "lengths": LENGTHS}, {"chunk": 2, "burn_in": 1}),
    "streams": (STREAMS, {"carry": True}),
    "nothing counts": ((X, TARGET), {"batch_size": 3, "target_mask": np.arange(N) % 3 > 0}),
    "time first": (
        {"x": X.swapaxes(0, 1), "target": TARGET.swapaxes(0, 1), "lengths": LENGTHS},
        {"batch_first": False, "validation": 0.3},
    ),
    "plateau": ((X, TARGET), {"schedule": "plateau", "patience": 2}),
}


class Halve:
    """A schedule that is told a value."""

    def __init__(self) -> None:
        self.lr = 0.05

    def observe(self, value: float) -> float:
        self.lr = self.lr / 2 if value > 0.9 else self.lr * 0.99
        return self.lr


def trained(data, communicator=None, **options):
    form = {name: options.pop(name) for name in ("batch_first", "static_size", "dropout") if name in options}
    form |= {"num_layers": 2} if "dropout" in form else {}
    model = rr.Sequential(
        rr.LSTM(F, H, seed=0, dtype="float64", **form),
        rr.Linear(H, 2, seed=1, dtype="float64"),
    )
    if options.get("schedule") == "plateau":
        options["schedule"] = Halve()
    if "target_mask" in options:
        data = {"x": data[0], "target": data[1], "target_mask": np.repeat(options.pop("target_mask")[:, None], T, 1)}
    options = {"epochs": 3, "batch_size": 4, "progress": False} | options
    optimizer = rr.optim.Adam(model.params, lr=0.02)
    history = rr.fit(model, options.pop("loss", "mse"), optimizer, data, communicator=communicator, **options)
    return history, model.state_dict()


@pytest.mark.parametrize(("case", "size"), [*((case, 3) for case in CASES), ("lengths", 2), ("chunks", 2)])
def test_ranks_equal_one(case: str, size: int) -> None:
    data, options = CASES[case]
    history, params = trained(data, **options)
    found = in_threads(size, lambda rank: trained(data, rank, **options))
    for other in found:
        assert not isinstance(other, BaseException), other
        assert other[0].rows == found[0][0].rows
        for name, value in params.items():
            np.testing.assert_array_equal(other[1][name], found[0][1][name])
            np.testing.assert_allclose(other[1][name], value, rtol=1e-8, atol=1e-10)
    for column in history.columns:
        if column != "seconds":
            np.testing.assert_allclose(found[0][0][column], history[column], rtol=1e-8, err_msg=column)


def test_dropout_is_the_same_each_time_and_draws_on_each_rank_apart() -> None:
    losses: list[list[float]] = [[], []]

    def work(rank):
        def loss(prediction, target):
            value, dy = rr.losses.mse(prediction, target)
            losses[rank.rank].append(float(value))
            return value, dy

        rows = np.repeat(X[:1], 4, 0), np.repeat(TARGET[:1], 4, 0)  # all alike, but for what is dropped
        return trained(rows, rank, loss=loss, dropout=0.5)

    one, other = in_threads(2, work), in_threads(2, work)
    for name, value in one[0][1].items():
        np.testing.assert_array_equal(value, other[1][1][name])
    assert len(losses[0]) == len(losses[1]) == 6
    assert not set(losses[0]) & set(losses[1])


@pytest.mark.parametrize("case", ["lengths", "chunks", "streams"])
@pytest.mark.parametrize("step", [1, 5])
def test_resumed_equals_uninterrupted(case: str, step: int, tmp_path: Path) -> None:
    data, options = CASES[case]
    options = {**options, "dropout": 0.3}
    whole = in_threads(3, lambda rank: trained(data, rank, **options))
    path = tmp_path / "run.safetensors"
    in_threads(3, lambda rank: trained(data, rank, **options, steps=step, checkpoint=path))
    assert sorted(file.name for file in tmp_path.iterdir() if "best" not in file.name) == [path.name]
    resumed = in_threads(3, lambda rank: trained(data, rank, **options, checkpoint=path, resume=True))
    for rank, (history, params) in enumerate(resumed):
        assert history[-1]["epoch"] == 3
        for name, value in params.items():
            np.testing.assert_array_equal(value, whole[rank][1][name])


def test_carried_states_go_on_with_as_many_ranks(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    in_threads(3, lambda rank: trained(STREAMS, rank, carry=True, steps=2, checkpoint=path))
    with pytest.raises(ValueError, match="the states that 3 ranks carried amid an epoch: go on with as many, not 1"):
        trained(STREAMS, carry=True, resume=path)


def test_another_number_of_ranks_goes_on_where_nothing_is_carried(tmp_path: Path) -> None:
    data, options = CASES["lengths"]
    path = tmp_path / "run.safetensors"
    in_threads(3, lambda rank: trained(data, rank, **options, steps=4, checkpoint=path))
    found = in_threads(2, lambda rank: trained(data, rank, **options, resume=path))
    _, params = trained(data, **options)
    for name, value in params.items():
        np.testing.assert_allclose(found[1][1][name], value, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("differs", "words"),
    [
        ({"batch_size": (4, 5)}, "the ranks differ in data: .*batch_size 4.* on rank 0; .*batch_size 5.* on rank 1"),
        ({"seed": (0, 1)}, "the ranks differ in seed: 0 on rank 0; 1 on rank 1"),
        ({"epochs": (3, 6)}, "the ranks differ in epochs: 3 on rank 0; 6 on rank 1"),
        ({"clip_norm": (1.0, None)}, r"the ranks differ in clip_norm: 1.0 on rank 0; None on rank 1"),
        ({"schedule": (rr.schedules.Cosine(0.1, 10), rr.schedules.Cosine(0.1, 9))}, "steps=10.* on rank 0; .*steps=9"),
        ({"rows": (11, 10)}, "the ranks differ in data: rows 11.* on rank 0; rows 10.* on rank 1"),
    ],
)
def test_ranks_that_differ_are_refused(differs: dict, words: str) -> None:
    def work(rank):
        options = {name: values[rank.rank] for name, values in differs.items()}
        rows = options.pop("rows", N)
        return trained((X[:rows], TARGET[:rows]), rank, **options)

    for error in in_threads(2, work):
        with pytest.raises(ValueError, match=words):
            raise error


@pytest.mark.parametrize("rows", [[4, 3], [4]])
def test_batches_that_differ_are_refused(rows: list[int]) -> None:
    def work(rank):
        mine = [4, 4] if rank.rank == 0 else rows
        return trained(lambda _: [(X[:n], TARGET[:n]) for n in mine], rank)

    for error in in_threads(2, work):
        with pytest.raises(ValueError, match="the ranks' batches differ in their rows or in their number"):
            raise error


OTHERS = X.copy()
OTHERS[6, 0, 0] += 1e-3


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (lambda x: (x, TARGET), "the values of data's x"),
        (lambda x: (X, x[..., :2]), "the values of data's target"),
        (lambda x: ([*x], TARGET[:, 0]), "the values of data's x"),
        (lambda x: ([*X], [*TARGET + x[6, 0, 0]]), "the values of data's target"),
        (lambda x: [(x[4:8], TARGET[4:8])], "the first batch of data, in its x"),
        (lambda x: lambda _: iter([(x[4:8], TARGET[4:8])]), "the first batch of data, in its x"),
    ],
)
def test_values_that_differ_are_refused(data, what: str) -> None:
    errors = in_threads(2, lambda rank: trained(data(X if rank.rank == 0 else OTHERS), rank))
    for error in errors:
        with pytest.raises(ValueError, match=f"the ranks differ in {what}: .* on rank 0; .* on rank 1"):
            raise error


def test_values_of_validation_that_differ_are_refused() -> None:
    def work(rank):
        return trained((X, TARGET), rank, validation=(X if rank.rank == 0 else OTHERS, TARGET))

    for error in in_threads(2, work):
        with pytest.raises(ValueError, match="the ranks differ in the values of validation's x"):
            raise error


@pytest.mark.parametrize("form", ["arrays", "ragged", "made"])
def test_a_rank_takes_its_rows_alone(form: str) -> None:
    data = {"arrays": (X, TARGET), "ragged": RAGGED, "made": [(X, TARGET)]}[form]
    found = []
    for rank in range(3):
        source = source_of("data", data, Form(N, False, True, Share(rank, 3)))
        (batch,) = source.epoch(np.random.default_rng(0))
        assert batch.whole == (N, len(batch.x), 7 if form == "ragged" else None)
        found.append(batch.x)
    expected = source_of("data", data, Form(N, False, True))
    (batch,) = expected.epoch(np.random.default_rng(0))
    assert batch.whole is None
    assert [len(x) for x in found] == [3, 4, 4]
    np.testing.assert_array_equal(np.concatenate(found), batch.x)


def test_tied_params_of_a_rank_without_rows() -> None:
    def work(rank):
        tie = {"1.weight_ih_l0": "0.weight_ih_l0"}
        layers = [rr.LSTM(F, F, seed=seed, dtype="float64") for seed in (0, 1)]
        model = rr.Sequential(*layers, rr.Linear(F, 2, seed=1, dtype="float64"), tie=tie)
        options = {"epochs": 2, "batch_size": 2, "progress": False}
        rr.fit(model, "mse", rr.optim.Adam(model.params, lr=0.02), (X, TARGET), communicator=rank, **options)
        return model

    whole = work(None).state_dict()
    for model in in_threads(3, work):
        assert model.layers[1].params["weight_ih_l0"] is model.params["0.weight_ih_l0"]
        for name, value in whole.items():
            np.testing.assert_allclose(model.state_dict()[name], value, rtol=1e-8, atol=1e-10)


def test_nan_on_one_rank_ends_all_with_the_same_words() -> None:
    def data(_):
        x = X.copy()
        x[3, 2, 1] = np.nan
        return [(X[:4], TARGET[:4]), (x[:4], TARGET[:4])]

    errors = in_threads(2, lambda rank: trained(data, rank))
    for error in errors:
        with pytest.raises(
            rr.TrainingError, match="x holds nan in row 1, step 2 of rank 1's part of the batch, in epoch 1, batch 2"
        ):
            raise error


def test_one_rank_stops_all() -> None:
    def work(rank):
        def stop(run: rr.Run) -> None:
            if rank.rank == 1 and run.epoch == 2:
                run.stop()

        return trained((X, TARGET), rank, callbacks=[stop])

    for history, _ in in_threads(2, work):
        assert (len(history), history.stopped) == (2, "callback")


def test_buckets_hold_arrays_of_one_dtype_and_at_most_so_many_bytes() -> None:
    arrays = {"a": np.zeros(3), "c": np.zeros(9), "b": np.zeros(2, "float32"), "d": np.zeros((2, 2)), "e": np.zeros(0)}
    found = buckets_of(arrays, 64)
    assert [(bucket.names, bucket.length) for bucket in found] == [(["a"], 3), (["c"], 9), (["d", "e"], 4), (["b"], 2)]
    assert dict(found[2].places(arrays)) == {"d": slice(0, 4), "e": slice(4, 4)}


def test_what_is_no_communicator_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"communicator must be one of recurray.parallel or of mpi4py, not builtins.int 3"
    ):
        trained((X, TARGET), 3)
    with pytest.raises(TypeError, match=r"control must be a Communicator, not builtins.int 3"):
        rr.parallel.NCCLCommunicator(3)


def test_alone_sums_are_ones_own() -> None:
    alone = rr.parallel.Serial()
    grads = {"w": np.arange(3.0)}
    assert alone.total(grads, 1)["w"] is grads["w"]
    assert (alone.total(grads, 0.5)["w"] == grads["w"] / 2).all()
    assert alone.total({"w": np.array([np.nan, np.inf])}, 0)["w"].tolist() == [0, 0]  # of nothing that counts
    assert alone.broadcast(b"x") == b"x"
    alone.barrier()
    alone.check_same({"seed": "0"})
