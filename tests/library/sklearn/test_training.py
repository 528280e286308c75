"""What is trained, against the same training written out in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.needs import need

need("sklearn")
torch = need("torch")
torch.set_num_threads(1)

from recurray.sklearn import LSTMClassifier, LSTMRegressor  # noqa: E402 - where it is here

N, F, H, EPOCHS = 7, 3, 5, 4
OPTIONS: dict[str, Any] = {
    "hidden_size": H,
    "epochs": EPOCHS,
    "batch_size": N,  # one batch, so that the order of rows doesn't matter
    "weight_decay": 0.1,
    "clip_norm": 0.2,
    "dtype": "float64",
    "random_state": 3,
}
rng = np.random.default_rng(0)
LENGTHS = rng.integers(5, 10, N)
X = [2 + 3 * rng.standard_normal((steps, F)) for steps in LENGTHS]
WEIGHTS = rng.uniform(0.1, 3, N)


class Written:
    """The network in PyTorch, with the params that an estimator starts with, and its training."""

    def __init__(self, start: Any) -> None:
        state = {name: torch.from_numpy(value) for name, value in start.model_.state_dict().items()}
        outputs = next(value for name, value in state.items() if name.endswith(".bias")).shape[0]
        self.lstm = torch.nn.LSTM(F, H, bidirectional=start.bidirectional, batch_first=True, dtype=torch.float64)
        width = H * (2 if start.bidirectional else 1)
        self.linear = torch.nn.Linear(width, outputs, dtype=torch.float64)
        last = max(name.partition(".")[0] for name in state)
        self.lstm.load_state_dict({name[2:]: value for name, value in state.items() if name.startswith("0.")})
        self.linear.load_state_dict({name[2:]: value for name, value in state.items() if name.startswith(last)})
        steps = np.concatenate(X)
        self.mean, self.deviation = steps.mean(axis=0), steps.std(axis=0)

    def outputs(self, *, by_step: bool) -> list[Any]:
        """What it gives for each row."""
        found = []
        for row in X:
            y, (h, _) = self.lstm(torch.from_numpy((row - self.mean) / self.deviation)[None])
            found.append(self.linear(y[0] if by_step else torch.cat(list(h[:, 0]))))
        return found

    def train(self, loss: Any, *, by_step: bool = False) -> None:
        """Train on all rows at once; ``loss`` is a function of the rows' outputs."""
        params = [*self.lstm.parameters(), *self.linear.parameters()]
        optimizer = torch.optim.AdamW(params, lr=0.01, weight_decay=0.1)
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            loss(self.outputs(by_step=by_step)).backward()
            torch.nn.utils.clip_grad_norm_(params, 0.2)
            optimizer.step()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_classifier_is_what_pytorch_trains(bidirectional: bool, weighted: bool) -> None:
    y = np.array(["one", "two", "three"])[rng.integers(3, size=N)]
    y[:3] = "one", "two", "three"
    weights = WEIGHTS if weighted else None
    options = OPTIONS | {"bidirectional": bidirectional}
    written = Written(LSTMClassifier(**options, lr=0.0).fit(X, y))
    numbers = torch.from_numpy(np.unique(y, return_inverse=True)[1])
    each = torch.from_numpy(WEIGHTS / WEIGHTS.mean()) if weighted else torch.ones(N, dtype=torch.float64)

    def loss(outputs: list[Any]) -> Any:
        return (torch.nn.functional.cross_entropy(torch.stack(outputs), numbers, reduction="none") * each).mean()

    written.train(loss)
    classifier = LSTMClassifier(**options).fit(X, y, weights)
    expected = torch.stack(written.outputs(by_step=False)).log_softmax(-1).detach().numpy()
    np.testing.assert_allclose(classifier.predict_log_proba(X), expected, rtol=0, atol=1e-9)
    assert abs(np.diff(classifier.history_["loss"][:2])) > 1e-3  # it has learned something


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_a_regressor_is_what_pytorch_trains(loss: str, weighted: bool) -> None:
    y = 100 + 10 * rng.standard_normal((N, 2))
    written = Written(LSTMRegressor(**OPTIONS, loss=loss, lr=0.0).fit(X, y))
    target = torch.from_numpy((y - y.mean(axis=0)) / y.std(axis=0))
    each = torch.from_numpy(WEIGHTS / WEIGHTS.mean()) if weighted else torch.ones(N, dtype=torch.float64)
    formula = {"mse": "mse_loss", "mae": "l1_loss", "huber": "huber_loss"}[loss]

    def total(outputs: list[Any]) -> Any:
        values = getattr(torch.nn.functional, formula)(torch.stack(outputs), target, reduction="none")
        return (values * each[:, None]).mean()

    written.train(total)
    regressor = LSTMRegressor(**OPTIONS, loss=loss).fit(X, y, WEIGHTS if weighted else None)
    expected = torch.stack(written.outputs(by_step=False)).detach().numpy() * y.std(axis=0) + y.mean(axis=0)
    np.testing.assert_allclose(regressor.predict(X), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_with_an_answer_to_each_step_it_is_what_pytorch_trains(weighted: bool) -> None:
    """The mean is over all steps of all rows, however long they are."""
    y = [100 + 10 * rng.standard_normal((steps, 2)) for steps in LENGTHS]
    written = Written(LSTMRegressor(**OPTIONS, lr=0.0).fit(X, y))
    answers = np.concatenate(y)
    mean, deviation = answers.mean(axis=0), answers.std(axis=0)
    each = torch.from_numpy(np.repeat(WEIGHTS / WEIGHTS.mean(), LENGTHS))

    def loss(outputs: list[Any]) -> Any:
        errors = (torch.cat(outputs) - torch.from_numpy((answers - mean) / deviation)) ** 2
        return (errors * each[:, None]).mean() if weighted else errors.mean()

    written.train(loss, by_step=True)
    regressor = LSTMRegressor(**OPTIONS).fit(X, y, WEIGHTS if weighted else None)
    found = regressor.predict(X)
    assert [len(row) for row in found] == LENGTHS.tolist()
    expected = torch.cat(written.outputs(by_step=True)).detach().numpy() * deviation + mean
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=0, atol=1e-8)
    squares = ((answers - expected) ** 2, (answers - answers.mean(axis=0)) ** 2)
    np.testing.assert_allclose(
        regressor.score(X, y), np.mean(1 - squares[0].sum(axis=0) / squares[1].sum(axis=0)), atol=1e-8
    )
