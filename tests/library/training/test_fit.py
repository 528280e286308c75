"""`fit` against loops written out here, by PyTorch and by hand; and what it refuses."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import recurray as rr
from harness.needs import need

N, T, F, H = 13, 7, 3, 5


def rows(seed: int = 0, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, T, F)).astype(dtype), rng.standard_normal((N, T, 2)).astype(dtype)


def by_step(**options) -> rr.Sequential:
    return rr.Sequential(rr.LSTM(F, H, seed=0, dtype="float64", **options), rr.Linear(H, 2, seed=1, dtype="float64"))


def by_row() -> rr.Sequential:
    return rr.Sequential(rr.LSTM(F, H, seed=0, dtype="float64"), rr.Last(), rr.Linear(H, 2, seed=1, dtype="float64"))


def params_of(model) -> dict[str, np.ndarray]:
    return model.state_dict()


def assert_same(model, other, rtol: float = 1e-12) -> None:
    for name, value in params_of(model).items():
        np.testing.assert_allclose(value, params_of(other)[name], rtol=rtol, atol=1e-13, err_msg=name)


def looped(model, batches, *, epochs: int = 1, clip: float | None = None, lr: float = 1e-2) -> list[float]:
    """The loop, written out: for each batch (x, target, lengths, mask of the loss)."""
    optimizer = rr.optim.Adam(model.params, lr=lr)
    found = []
    for _ in range(epochs):
        total = count = 0.0
        for x, target, lengths, mask in batches:
            y, _, cache = model.forward(x, None, lengths)
            loss, dy = rr.losses.mse(y, target, mask=mask)
            _, _, grads = model.backward(cache, dy)
            if clip:
                grads, _ = rr.optim.clip_grad_norm(grads, clip)
            optimizer.step(grads)
            weight = x.shape[0] if y.ndim == 2 else (x.shape[0] * T if mask is None else mask.sum() / y.shape[-1])
            total += float(loss) * weight
            count += weight
        found.append(total / count)
    return found


def test_equals_the_loop_written_out() -> None:
    x, target = rows()
    model, other = by_step(), by_step()
    history = rr.fit(
        model,
        "mse",
        rr.optim.Adam(model.params, lr=1e-2),
        (x, target),
        epochs=3,
        batch_size=4,
        shuffle=False,
        clip_norm=0.1,
    )
    batches = [(x[i : i + 4], target[i : i + 4], None, None) for i in range(0, N, 4)]
    losses = looped(other, batches, epochs=3, clip=0.1)
    assert_same(model, other)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-12)
    assert history["step"] == [4, 8, 12]
    assert history["epoch"] == [1, 2, 3]
    assert history.stopped == "finished"


def test_equals_pytorch() -> None:
    torch = need("torch")
    x, target = rows()
    model = by_row()
    lstm, linear = torch.nn.LSTM(F, H, batch_first=True).double(), torch.nn.Linear(H, 2).double()
    lstm.load_state_dict({k[2:]: torch.tensor(v) for k, v in params_of(model).items() if k.startswith("0.")})
    linear.load_state_dict({k[2:]: torch.tensor(v) for k, v in params_of(model).items() if k.startswith("2.")})
    own = [*lstm.parameters(), *linear.parameters()]
    optimizer = torch.optim.Adam(own, lr=1e-2)
    target = target[:, -1]
    for _ in range(2):
        for i in range(0, N, 5):
            optimizer.zero_grad()
            y = linear(lstm(torch.tensor(x[i : i + 5]))[0][:, -1])
            torch.nn.functional.mse_loss(y, torch.tensor(target[i : i + 5])).backward()
            torch.nn.utils.clip_grad_norm_(own, 0.5)
            optimizer.step()
    rr.fit(
        model,
        "mse",
        rr.optim.Adam(model.params, lr=1e-2),
        (x, target),
        epochs=2,
        batch_size=5,
        shuffle=False,
        clip_norm=0.5,
    )
    for name, value in lstm.state_dict().items():
        np.testing.assert_allclose(params_of(model)[f"0.{name}"], value.numpy(), rtol=1e-9, atol=1e-12)


def test_lengths_are_masked_in_the_loss() -> None:
    x, target = rows()
    lengths = np.array([7, 3, 5, 1, 6, 2, 7, 4, 4, 5, 3, 2, 6])
    model, other = by_step(), by_step()
    rr.fit(
        model,
        "mse",
        rr.optim.Adam(model.params, lr=1e-2),
        {"x": x, "target": target, "lengths": lengths},
        epochs=1,
        batch_size=4,
        shuffle=False,
    )
    valid = np.arange(T) < lengths[:, None]
    mask = np.broadcast_to(valid[..., None], target.shape)
    looped(other, [(x[i : i + 4], target[i : i + 4], lengths[i : i + 4], mask[i : i + 4]) for i in range(0, N, 4)])
    assert_same(model, other)


@pytest.mark.parametrize("with_target", ["of each step", "of each row"])
def test_ragged_rows_equal_padded_ones(with_target: str) -> None:
    x, target = rows()
    lengths = np.array([7, 3, 5, 1, 6, 2, 7, 4, 4, 5, 3, 2, 6])
    ragged = [row[:length] for row, length in zip(x, lengths, strict=True)]
    each = with_target == "of each step"
    model, other = (by_step(), by_step()) if each else (by_row(), by_row())
    targets = [row[:length] for row, length in zip(target, lengths, strict=True)] if each else target[:, 0]
    given = {"epochs": 2, "batch_size": N, "shuffle": False}
    rr.fit(model, "mse", rr.optim.Adam(model.params, lr=1e-2), (ragged, targets), **given)
    padded = {"x": x, "target": target if each else target[:, 0], "lengths": lengths}
    rr.fit(other, "mse", rr.optim.Adam(other.params, lr=1e-2), padded, **given)
    assert_same(model, other)


@pytest.mark.parametrize("form", ["arrays", "time first", "mapped", "ragged"])
def test_each_epoch_has_each_row_once_in_an_order_of_its_own(form: str, tmp_path: Path) -> None:
    numbers = np.arange(1.0, N + 1)
    x = np.repeat(numbers[:, None, None], T, 1)
    if form == "mapped":
        np.save(tmp_path / "x.npy", x)
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
    given = {
        "arrays": x,
        "time first": x.swapaxes(0, 1),
        "mapped": x,
        "ragged": [row[: 1 + k % 3] for k, row in enumerate(x)],
    }
    model = rr.Sequential(rr.Last(batch_first=form != "time first"), rr.Linear(1, 1, dtype="float64"))
    model.load_state_dict({"1.weight": np.ones((1, 1)), "1.bias": np.zeros(1)})
    seen = []

    def look(prediction, target):
        np.testing.assert_array_equal(prediction[:, 0], target[:, 0])
        seen.extend(target[:, 0])
        return rr.losses.mse(prediction, target)

    options = {"epochs": 2, "batch_size": 5}
    rr.fit(model, look, rr.optim.SGD(model.params, lr=0.0), (given[form], numbers[:, None]), **options)
    first, second = seen[:N], seen[N:]
    assert sorted(first) == sorted(second) == [*numbers]
    assert first != second
    assert [*numbers] not in (first, second)


def test_ragged_batches_hold_rows_of_similar_lengths() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 50, 200)
    seen = []

    def look(prediction, target, mask=None):
        seen.append(prediction.shape[0] * prediction.shape[1])
        return rr.losses.mse(prediction, target, mask=mask)

    x = [rng.standard_normal((length, F)) for length in lengths]
    y = [rng.standard_normal((length, 2)) for length in lengths]
    model = by_step()
    rr.fit(model, look, rr.optim.SGD(model.params), (x, y), epochs=1, batch_size=10)
    assert sum(seen) < 1.06 * lengths.sum()
    assert sorted(seen) != seen  # batches come in a random order


def test_accumulated_batches_equal_a_large_one() -> None:
    x, target = rows()
    lengths = np.array([7, 3, 5, 1, 6, 2, 7, 4, 4, 5, 3, 2, 6])
    data = {"x": x, "target": target, "lengths": lengths}
    model, other = by_step(), by_step()
    common = {"epochs": 2, "shuffle": False}
    rr.fit(model, "mse", rr.optim.Adam(model.params, lr=1e-2), data, batch_size=2, accumulate=3, **common)
    history = rr.fit(other, "mse", rr.optim.Adam(other.params, lr=1e-2), data, batch_size=6, **common)
    assert_same(model, other, rtol=1e-9)
    assert history["step"] == [3, 6]


@pytest.mark.parametrize("batch_first", [True, False])
def test_truncated_backpropagation_carries_the_state(batch_first: bool) -> None:
    x, target = rows()
    lengths = np.array([7, 3, 5, 1, 6, 2, 7, 4, 4, 5, 3, 2, 6])
    model, other = by_step(batch_first=batch_first), by_step(batch_first=batch_first)
    swap = (lambda a: a) if batch_first else (lambda a: a.swapaxes(0, 1))
    data = {"x": swap(x), "target": swap(target), "lengths": lengths}
    rr.fit(
        model,
        "mse",
        rr.optim.Adam(model.params, lr=1e-2),
        data,
        epochs=2,
        batch_size=N,
        shuffle=False,
        chunk=3,
        burn_in=1,
    )

    optimizer = rr.optim.Adam(other.params, lr=1e-2)
    for _ in range(2):
        _, state = other(swap(x[:, :1]), None, np.clip(lengths, 0, 1))
        for begin, end in ((1, 4), (4, 7)):
            left = np.clip(lengths - begin, 0, end - begin)
            valid = (np.arange(end - begin) < left[:, None])[..., None]
            y, state, cache = other.forward(swap(x[:, begin:end]), state, left)
            mask = np.broadcast_to(swap(valid), y.shape)
            _, dy = rr.losses.mse(y, swap(target[:, begin:end]), mask=mask)
            optimizer.step(other.backward(cache, dy)[2])
    assert_same(model, other)


def test_streams_are_carried_from_batch_to_batch() -> None:
    x, target = rows()
    model, other, third = by_step(), by_step(), by_step()
    batches = [(x[:, :2], target[:, :2]), (x[:, 2:5], target[:, 2:5]), (x[:, 5:], target[:, 5:])]
    rr.fit(model, "mse", rr.optim.Adam(model.params, lr=1e-2), batches, epochs=2, carry=True)
    optimizer = rr.optim.Adam(other.params, lr=1e-2)
    for _ in range(2):
        state = None
        for a, b in batches:
            y, state, cache = other.forward(a, state)
            optimizer.step(other.backward(cache, rr.losses.mse(y, b)[1])[2])
    assert_same(model, other)
    rr.fit(third, "mse", rr.optim.Adam(third.params, lr=1e-2), batches, epochs=2)
    assert any((params_of(model)[name] != value).any() for name, value in params_of(third).items())


def test_mask_resets_and_static_reach_the_model() -> None:
    rng = np.random.default_rng(3)
    x, target = rows()
    mask, resets = rng.random((N, T)) < 0.7, rng.random((N, T)) < 0.2
    static = rng.standard_normal((N, 2))
    data = {"x": x, "target": target, "mask": mask, "resets": resets, "static": static}
    model, other = by_step(static_size=2), by_step(static_size=2)
    rr.fit(model, "mse", rr.optim.SGD(model.params, lr=0.1), data, epochs=1, batch_size=N, shuffle=False)
    y, _, cache = other.forward(x, mask=mask, resets=resets, static=static)
    _, dy = rr.losses.mse(y, target, mask=np.broadcast_to(mask[..., None], y.shape))
    rr.optim.SGD(other.params, lr=0.1).step(other.backward(cache, dy)[2])
    assert_same(model, other)


def test_the_same_seed_gives_the_same_bits() -> None:
    x, target = rows()
    found = []
    for seed in (0, 0, 1):
        model = rr.Sequential(
            rr.LSTM(F, H, seed=0, dtype="float64"), rr.Dropout(0.3), rr.Linear(H, 2, seed=1, dtype="float64")
        )
        rr.fit(
            model, "mse", rr.optim.Adam(model.params), (x, target), epochs=2, batch_size=4, seed=seed, validation=0.3
        )
        found.append(params_of(model))
    assert all((found[0][name] == found[1][name]).all() for name in found[0])
    assert any((found[0][name] != found[2][name]).any() for name in found[0])


def test_validation_and_metrics_are_means_over_what_counts() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, T, F))
    labels, lengths = rng.integers(0, 2, (N, T)), rng.integers(1, T + 1, N)
    model = by_step()
    data = {"x": x, "target": labels, "lengths": lengths}
    history = rr.fit(
        model, "cross_entropy", rr.optim.SGD(model.params, lr=0.0), data, epochs=1, batch_size=4, validation=data,
        metrics="accuracy",
    )  # fmt: skip
    y, _ = model(x, None, lengths)
    valid = np.arange(T) < lengths[:, None]
    loss, _ = rr.losses.cross_entropy(y, labels, mask=valid)
    right = (y.argmax(-1) == labels)[valid].mean()
    row = history[0]
    for name in ("loss", "validation_loss"):
        assert row[name] == pytest.approx(float(loss), rel=1e-12)
    for name in ("accuracy", "validation_accuracy"):
        assert row[name] == pytest.approx(right, rel=1e-12)


def test_patience_ends_it_and_the_best_params_come_back() -> None:
    x, target = rows()
    model = by_step()
    optimizer = rr.optim.SGD(model.params, lr=0.05)
    kept = []
    rates = iter([0.05] * 3 + [-0.0] * 0 + [0.05] * 100)

    class Raise:
        def on_epoch(self, run) -> None:
            kept.append({name: value.copy() for name, value in run.model.params.items()})
            optimizer.lr = next(rates) if run.epoch < 3 else 40.0  # from here on it gets worse

    history = rr.fit(
        model,
        "mse",
        optimizer,
        (x, target),
        epochs=50,
        batch_size=N,
        validation=(x, target),
        patience=3,
        callbacks=Raise(),
    )
    assert history.stopped == "patience"
    assert history.best == int(np.argmin(history["validation_loss"]))
    assert len(history) == history.best + 4
    for name, value in params_of(model).items():
        assert (value == kept[history.best][name]).all()


@pytest.mark.parametrize("bad", ["loss", "x", "gradient"])
def test_what_is_not_finite_stops_it(bad: str) -> None:
    x, target = rows()
    model = by_step()
    calls = []

    def loss(prediction, target, mask=None):
        value, dy = rr.losses.mse(prediction, target)
        calls.append(1)
        if len(calls) == 6:
            return (np.float64(np.nan), dy) if bad == "loss" else (value, dy * np.inf)
        return value, dy

    if bad == "x":
        x[7, 4, 1] = np.inf
        with pytest.raises(ValueError, match="x holds inf in row 7, step 4"):
            rr.fit(model, loss, rr.optim.SGD(model.params), (x, target), epochs=1)
        batches = [(x[i : i + 4], target[i : i + 4]) for i in range(0, N, 4)]
        with pytest.raises(rr.TrainingError, match="x holds inf in row 3, step 4 of the batch, in epoch 1, batch 2"):
            rr.fit(model, loss, rr.optim.SGD(model.params), batches, epochs=1)
        return
    with pytest.raises(rr.TrainingError, match=f"{bad}.* in epoch 2, batch 2, after 5 updates"):
        rr.fit(model, loss, rr.optim.SGD(model.params), (x, target), epochs=3, batch_size=4)


@pytest.mark.usefixtures("signals_arrive")
def test_an_interrupt_finishes_the_update() -> None:
    x, target = rows()
    model = by_step()
    optimizer = rr.optim.SGD(model.params)
    former = signal.getsignal(signal.SIGINT)

    class Interrupt:
        def on_step(self, run) -> None:
            if run.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="after 2 updates"):
        rr.fit(model, "mse", optimizer, (x, target), epochs=3, batch_size=4, callbacks=[Interrupt()])
    assert optimizer.step_count == 2
    assert signal.getsignal(signal.SIGINT) is former


def test_rows_by_updates_and_callbacks_that_stop() -> None:
    x, target = rows()
    model = by_step()
    history = rr.fit(
        model, "mse", rr.optim.SGD(model.params), (x, target), steps=7, batch_size=4, every=3,
        schedule=rr.schedules.Exponential(1.0, 0.5),
    )  # fmt: skip
    assert history["step"] == [3, 6, 7]
    assert history["lr"] == [0.25, 0.5**5, 0.5**6]
    history = rr.fit(
        model,
        "mse",
        rr.optim.SGD(model.params),
        (x, target),
        epochs=9,
        callbacks=lambda run: run.epoch < 2 or run.stop(),
    )
    assert (len(history), history.stopped) == (2, "callback")


def test_mapped_files_are_read_batch_by_batch(tmp_path) -> None:
    x, target = rows()
    model, other = by_step(), by_step()
    for name, value in (("x", x), ("target", target)):
        np.save(tmp_path / f"{name}.npy", value)
    mapped = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("x", "target"))
    rr.fit(model, "mse", rr.optim.SGD(model.params), mapped, epochs=2, batch_size=4)
    rr.fit(other, "mse", rr.optim.SGD(other.params), (x, target), epochs=2, batch_size=4)
    assert_same(model, other, rtol=0)


def test_functions_make_batches_of_each_epoch() -> None:
    x, target = rows()

    def made(rng):
        for _ in range(3):
            picked = rng.integers(0, N, 4)
            yield x[picked], target[picked]

    model, other = by_step(), by_step()
    history = rr.fit(model, "mse", rr.optim.SGD(model.params, lr=0.1), made, epochs=2)
    rr.fit(other, "mse", rr.optim.SGD(other.params, lr=0.1), made, epochs=2)
    assert history["step"] == [3, 6]
    assert_same(model, other, rtol=0)


X, TARGET = rows()
REFUSED = {
    "empty": ((X[:0], TARGET[:0]), {}, ValueError, "data is empty: x has the shape \\(0, 7, 3\\)"),
    "rows": ((X, TARGET[:5]), {}, ValueError, "x has 13 rows, but target has 5"),
    "text": ((X, np.array(["a"] * N)), {}, TypeError, "np.unique"),
    "three": ((X, TARGET, None), {}, ValueError, "a tuple of 2, not of 3"),
    "part": ({"x": X, "target": TARGET, "length": [1]}, {}, ValueError, "unknown part 'length'"),
    "both": ({"x": X, "target": TARGET, "lengths": [7] * N, "mask": X[..., 0] > 0}, {}, ValueError, "lengths and mask"),
    "number": (5, {}, TypeError, "data must be"),
    "list": ([X, TARGET], {}, TypeError, "batch 0 of data must be"),
    "nothing": ([], {}, ValueError, "at least one batch"),
    "end": ((X, TARGET), {"epochs": None}, ValueError, "say when training ends"),
    "size": ((X, TARGET), {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    "monitor": ((X, TARGET), {"monitor": "auc"}, ValueError, "monitor must be a column"),
    "share": ((X, TARGET), {"validation": 1.5}, ValueError, "between 0 and 1"),
    "metric": ((X, TARGET), {"metrics": "f1"}, ValueError, "metrics must be one of 'accuracy'"),
    "chunk": ((X, TARGET[:, 0]), {"chunk": 2}, ValueError, "chunk needs a target for each step"),
    "burn": ((X, TARGET), {"burn_in": 7}, ValueError, "burn_in must be below the steps"),
    "once": (iter([(X, TARGET)]), {"epochs": 2}, ValueError, "used up after one epoch"),
    "ragged": (([X[0], X[1, :, :2]], TARGET[:2]), {}, ValueError, r"x\[1\] must be \(steps, 3\) like x\[0\]"),
    "ragged target": (
        ([X[0], X[1, :4]], [TARGET[0], TARGET[1, :5]]), {}, ValueError, r"target\[1\] is \(5, 2\) and x\[1\] has 4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    data, options, error, text = REFUSED[name]
    model = by_step()
    before = params_of(model)
    with pytest.raises(error, match=text):
        rr.fit(model, "mse", rr.optim.SGD(model.params, lr=1.0), data, **{"epochs": 1, **options})
    if name not in ("once", "monitor"):
        assert all((before[key] == value).all() for key, value in params_of(model).items())


def test_one_hot_integers_and_another_models_optimizer_are_refused() -> None:
    model = by_row()
    with pytest.raises(ValueError, match="argmax"):
        rr.fit(model, "cross_entropy", rr.optim.SGD(model.params), (X, np.eye(2, dtype=int)[[0] * N]), epochs=1)
    for target in (np.eye(2, dtype=int)[[0] * N], np.zeros(N, int)):
        with pytest.raises(
            TypeError, match=r"int64 \(mse wants numbers of the prediction's shape and dtype; classes are"
        ):
            rr.fit(model, "mse", rr.optim.SGD(model.params), (X, target), epochs=1)
    with pytest.raises(ValueError, match=r"make it with model\.params"):
        rr.fit(model, "mse", rr.optim.SGD(by_row().params), (X, TARGET[:, 0]), epochs=1)


def test_callbacks_see_the_gradients_of_an_update() -> None:
    model, other, seen = by_row(), by_row(), []

    class Keep:
        def on_step(self, run) -> None:
            seen.append(dict(run.grads))

        def on_epoch(self, run) -> None:
            assert not run.grads

    given = {"epochs": 1, "batch_size": 5, "shuffle": False, "callbacks": Keep()}
    history = rr.fit(model, "mse", rr.optim.SGD(model.params), (X, TARGET[:, 0]), clip_norm=1e-3, **given)
    y, _, cache = other.forward(X[:5])
    grads = other.backward(cache, rr.losses.mse(y, TARGET[:5, 0])[1])[2]
    for name, grad in grads.items():
        np.testing.assert_allclose(seen[0][name], grad, rtol=1e-12)
    norms = [np.sqrt(sum((grad**2).sum() for grad in update.values())) for update in seen]
    assert history["grad_norm"] == [pytest.approx(np.mean(norms))]


def test_values_are_clipped_before_the_norm() -> None:
    model, other = by_step(), by_step()
    options = {"epochs": 1, "batch_size": N, "shuffle": False}
    history = rr.fit(
        model, "mse", rr.optim.SGD(model.params, lr=1.0), (X, TARGET), clip_value=0.01, clip_norm=0.05, **options
    )
    y, _, cache = other.forward(X)
    grads = other.backward(cache, rr.losses.mse(y, TARGET)[1])[2]
    norm = np.sqrt(sum((grad**2).sum() for grad in grads.values()))
    limited = {name: np.clip(grad, -0.01, 0.01) for name, grad in grads.items()}
    factor = min(1.0, 0.05 / (np.sqrt(sum((grad**2).sum() for grad in limited.values())) + 1e-6))
    rr.optim.SGD(other.params, lr=1.0).step({name: grad * factor for name, grad in limited.items()})
    assert_same(model, other)
    assert history["grad_norm"] == [pytest.approx(norm)]


def test_rows_with_time_first_may_have_a_target_each() -> None:
    models = []
    for first in (True, False):
        lstm = rr.LSTM(F, H, seed=0, dtype="float64", batch_first=first)
        model = rr.Sequential(lstm, rr.Last(batch_first=first), rr.Linear(H, 2, seed=1, dtype="float64"))
        data = (X if first else X.swapaxes(0, 1), TARGET[:, 0])
        rr.fit(model, "mse", rr.optim.SGD(model.params, lr=0.1), data, epochs=2, batch_size=4, validation=0.3)
        models.append(model)
    assert_same(*models)
