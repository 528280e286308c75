"""Policies against PyTorch's distributions and their derivatives, on every backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need
from recurray.backend import Backend

RNG = np.random.default_rng(11)
LOGITS, MEAN, LOG = 3 * RNG.standard_normal((3, 5, 4)), RNG.standard_normal((3, 5, 2)), RNG.standard_normal((3, 5, 2))
DLOG, DENTROPY = RNG.standard_normal((2, 3, 5))
GRADIENTS = [(DLOG, DENTROPY), (DLOG, None), (None, DENTROPY), (None, None)]


def torch_gradients(policy: Any, actions: Any, dlog: Any, dentropy: Any, *leaves: Any) -> list[np.ndarray]:
    """What PyTorch's own distribution brings back, zeros where nothing was given."""
    torch = need("torch")
    value = sum(0 * leaf.sum() for leaf in leaves)
    if dlog is not None:
        value = value + (policy.log_prob(actions) * torch.tensor(dlog)).sum()
    if dentropy is not None:
        value = value + (policy.entropy() * torch.tensor(dentropy)).sum()
    return [gradient.numpy() for gradient in torch.autograd.grad(value, leaves)]


def close(backend: Backend, found: Any, wanted: Any) -> None:
    assert backend.owns(found)
    assert backend.on_device(found)
    np.testing.assert_allclose(backend.to_numpy(found), wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("dlog", "dentropy"), GRADIENTS)
def test_categorical_is_pytorchs(dlog: Any, dentropy: Any, backend: Backend) -> None:
    torch = need("torch")
    on = backend.asarray
    leaf = torch.tensor(LOGITS, requires_grad=True)
    policy, wanted = rr.policies.Categorical(on(LOGITS)), torch.distributions.Categorical(logits=leaf)
    actions = policy.sample(np.random.default_rng(0))
    goal = torch.tensor(backend.to_numpy(actions))
    close(backend, policy.log_probability(actions), wanted.log_prob(goal).detach().numpy())
    close(backend, policy.entropy(), wanted.entropy().detach().numpy())
    close(backend, policy.probabilities, wanted.probs.detach().numpy())
    given = (None if d is None else on(d) for d in (dlog, dentropy))
    close(backend, policy.backward(actions, *given), torch_gradients(wanted, goal, dlog, dentropy, leaf)[0])


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("dlog", "dentropy"), GRADIENTS)
def test_gaussian_is_pytorchs(dlog: Any, dentropy: Any, own: bool, backend: Backend) -> None:
    torch = need("torch")
    on, log = backend.asarray, LOG[0, 0] if own else LOG
    mean, deviation = torch.tensor(MEAN, requires_grad=True), torch.tensor(log.copy(), requires_grad=True)
    normal = torch.distributions.Normal(mean, torch.exp(deviation))
    wanted = torch.distributions.Independent(normal, 1)
    policy = rr.policies.Gaussian(on(MEAN), on(log.copy()))
    actions = policy.sample(np.random.default_rng(0))
    goal = torch.tensor(backend.to_numpy(actions))
    close(backend, policy.log_probability(actions), wanted.log_prob(goal).detach().numpy())
    close(backend, policy.entropy(), wanted.entropy().detach().numpy())
    given = (None if d is None else on(d) for d in (dlog, dentropy))
    found = policy.backward(actions, *given)
    for got, want in zip(found, torch_gradients(wanted, goal, dlog, dentropy, mean, deviation), strict=True):
        close(backend, got, want)


def test_draws_follow_the_distribution_and_are_the_same_on_every_backend(backend: Backend) -> None:
    logits = np.tile(np.log([0.5, 1e-300, 0.3, 0.2]), (20_000, 1))
    logits[:, 1] = -np.inf
    actions = backend.to_numpy(rr.policies.Categorical(backend.asarray(logits)).sample(np.random.default_rng(3)))
    np.testing.assert_allclose(np.bincount(actions, minlength=4) / 20_000, [0.5, 0, 0.3, 0.2], atol=0.015)
    np.testing.assert_array_equal(actions, rr.policies.Categorical(logits).sample(np.random.default_rng(3)))
    mean, log = np.full((20_000, 1), 2.0), np.array([math.log(3.0)])
    drawn = backend.to_numpy(
        rr.policies.Gaussian(backend.asarray(mean), backend.asarray(log)).sample(np.random.default_rng(3))
    )
    assert drawn.mean() == pytest.approx(2, abs=0.1)
    assert drawn.std() == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_action_that_is_ruled_out(dtype: Any, backend: Backend) -> None:
    policy = rr.policies.Categorical(backend.asarray(np.array([[0.0, -np.inf, 0.0]]), dtype))
    close(backend, policy.entropy(), [np.float32(math.log(2)) if dtype == "float32" else math.log(2)])
    actions, one = backend.asarray(np.array([2])), backend.asarray(np.ones(1), dtype)
    gradient = backend.to_numpy(policy.backward(actions, one, one))
    np.testing.assert_allclose(gradient, [[-0.5, 0.0, 0.5]], atol=1e-6)
    assert backend.to_numpy(policy.log_probability(backend.asarray(np.array([1]))))[0] == -np.inf


def test_logits_far_apart_overflow_nothing() -> None:
    with np.errstate(all="raise", under="ignore"):
        policy = rr.policies.Categorical(np.array([[1e4, 0.0], [-1e4, 3.0]], "float32"))
        np.testing.assert_allclose(policy.log_probability(np.array([1, 0])), [-1e4, -10003])
        assert np.all(policy.entropy() == 0)


def test_the_gradient_of_ppos_surrogate_is_pytorchs() -> None:
    torch = need("torch")
    old, advantage = DLOG[0] - 1, DENTROPY[0]
    leaf = torch.tensor(LOGITS[0], requires_grad=True)
    policy = rr.policies.Categorical(LOGITS[0])
    actions = policy.sample(np.random.default_rng(1))
    ratio = np.exp(policy.log_probability(actions) - old)
    inside = ((advantage >= 0) & (ratio < 1.2)) | ((advantage < 0) & (ratio > 0.8))
    found = policy.backward(actions, np.where(inside, -advantage * ratio, 0.0) / 5, np.full(5, -0.01 / 5))

    wanted = torch.distributions.Categorical(logits=leaf)
    ratio = torch.exp(wanted.log_prob(torch.tensor(actions)) - torch.tensor(old))
    a = torch.tensor(advantage)
    loss = -torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a).mean() - 0.01 * wanted.entropy().mean()
    loss.backward()
    np.testing.assert_allclose(found, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_an_action_that_does_not_exist_is_nan_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recurray.policies.on_host", lambda array: False)
    found = rr.policies.Categorical(np.zeros((3, 2))).log_probability(np.array([0, 2, -1]))
    assert np.isnan(found).tolist() == [False, True, True]


P = rr.policies.Categorical(np.zeros((2, 3)))
G = rr.policies.Gaussian(np.zeros((2, 3)), np.zeros(3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rr.policies.Categorical([[0.0, 1.0]]), TypeError, "logits must be an array of an array library"),
        (lambda: rr.policies.Categorical(np.zeros((2, 3), int)), TypeError, "logits must be float32 or float64"),
        (lambda: rr.policies.Categorical(np.zeros((2, 0))), ValueError, "logits must have actions on the last axis"),
        (lambda: P.log_probability(np.array([0, 3])), ValueError, "actions must be from 0 to 2, but there is 3"),
        (lambda: P.log_probability(np.array([0.0, 1.0])), TypeError, "actions must be integers"),
        (lambda: P.log_probability(np.array([0])), ValueError, r"actions must have the shape \(2,\), not \(1,\)"),
        (lambda: P.log_probability([0, 1]), TypeError, "actions must be an array of"),
        (lambda: P.backward(np.array([0, 1]), np.ones(3)), ValueError, r"dlog_probability must have the shape \(2,\)"),
        (lambda: P.backward(np.array([0, 1]), None, 1.0), TypeError, "dentropy must be an array"),
        (lambda: rr.policies.Categorical(np.full((1, 2), np.nan)).sample(RNG), ValueError, "logits must give each row"),
        (
            lambda: rr.policies.Gaussian(np.zeros(3), np.zeros(2)),
            ValueError,
            r"log_deviation must .*\(3,\), not \(2,\)",
        ),
        (lambda: rr.policies.Gaussian(np.zeros(3), np.zeros(3, "float32")), TypeError, "log_deviation must be float64"),
        (lambda: rr.policies.Gaussian(np.zeros(()), np.zeros(3)), ValueError, "mean must have an action's numbers"),
        (lambda: G.log_probability(np.zeros((2, 2))), ValueError, r"actions must have the shape \(2, 3\)"),
        (lambda: G.log_probability(np.zeros((2, 3), int)), TypeError, "actions must be floating-point"),
    ],
)
def test_refusals(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
