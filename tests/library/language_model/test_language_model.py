"""Texts, n-gram models, training that resumes exactly, measuring and sampling."""

from __future__ import annotations

import dataclasses
import math
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recurray as rr
from recurray.language_model import evaluation, text
from recurray.language_model.errors import CheckpointError, TextError, TrainingError
from recurray.language_model.evaluation import held_out_bits
from recurray.language_model.model import build, load
from recurray.language_model.ngram import WittenBell
from recurray.language_model.sampling import sample
from recurray.language_model.settings import Settings
from recurray.language_model.text import Corpus, Streams, Vocabulary, default_text, read_text
from recurray.language_model.training import Training

SMALL = Settings(
    hidden_size=12, embedding_size=6, layers=2, dropout=0.3, batch_size=4, steps=10, epochs=1.7, lr=0.02, seed=3
)


@pytest.fixture(scope="module")
def english() -> str:
    return default_text()[:1200]


# Texts


def test_default_text_is_english_and_always_the_same():
    assert default_text() == default_text()
    assert default_text().count(" the ") > 2000


def test_read_text_unifies_line_ends_and_drops_the_byte_order_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\rthrée\n".encode())
    assert read_text(path) == "one\ntwo\nthrée\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\xef\xbb\xbf", "is empty"), (b"caf\xe9 au lait", "isn't UTF-8 text: byte 3")],
)
def test_texts_that_cannot_be_used_are_refused(tmp_path, content, message):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(TextError, match=message):
        read_text(path)


@pytest.mark.parametrize("name", ["missing.txt", ".", "nul\0.txt"])
def test_files_that_cannot_be_read_are_refused(tmp_path, name):
    with pytest.raises(TextError, match="can't read"):
        read_text(f"{tmp_path}/{name}")


@given(st.text(min_size=1))
def test_vocabulary_decodes_what_it_encodes(characters):
    vocabulary = Vocabulary.of(characters)
    assert vocabulary.decode(vocabulary.encode(characters)) == characters
    assert len(vocabulary) == len(set(characters))


def test_vocabulary_names_unknown_characters():
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\), '☃' \(U\+2603\)$"):
        Vocabulary.of("abc").encode("aéb☃é")


@pytest.mark.parametrize("characters", ["", "aba"])
def test_vocabulary_needs_distinct_characters(characters):
    with pytest.raises(ValueError, match="only once"):
        Vocabulary(characters)


def test_corpus_holds_out_the_end():
    corpus = Corpus.of("abcdefghij" * 3, held_out=0.2)
    assert corpus.vocabulary.decode(corpus.training) == ("abcdefghij" * 3)[:24]
    assert corpus.vocabulary.decode(corpus.held_out) == "efghij"


@pytest.mark.parametrize("characters", ["", "a", "short"])
def test_a_text_too_short_to_hold_out_anything_is_refused(characters):
    with pytest.raises(TextError):
        Corpus.of(characters)


@given(st.integers(2, 200), st.integers(1, 6), st.integers(1, 9), st.integers(0, 1000))
def test_streams_read_the_text_once_and_in_order(length, batch_size, steps, offset):
    tokens = np.arange(length)
    if length < batch_size * steps:
        with pytest.raises(TextError, match="choose smaller ones or a longer text"):
            Streams(tokens, batch_size, steps)
        return
    streams = Streams(tokens, batch_size, steps)
    chunks = [streams.chunk(number, offset) for number in range(streams.chunks)]
    read = np.concatenate([x for x, _ in chunks], axis=1)  # (B, all steps)
    follow = np.concatenate([target for _, target in chunks], axis=1)
    assert (follow == (read + 1) % length).all()  # the next character, across chunks and around the ring
    assert (read[:, 1:] == follow[:, :-1]).all()  # each chunk goes on where the last one ended
    assert len(set(read.ravel().tolist())) == read.size  # nothing twice in an epoch
    assert length - read.size < batch_size * (steps + 1)  # and little left out
    assert read[0, 0] == offset % length


# n-gram models


def witten_bell_by_the_book(tokens: list[int], size: int, order: int, context: list[int], token: int) -> float:
    """The formula in ngram.py, for one character, counted anew from the text."""
    if order == 0:
        return 1 / size
    length = order - 1
    shorter = witten_bell_by_the_book(tokens, size, length, context, token)
    if length > len(context):
        return shorter
    h = context[len(context) - length :]
    followers = Counter(tokens[i + length] for i in range(len(tokens) - length) if tokens[i : i + length] == h)
    total, distinct = sum(followers.values()), len(followers)
    return shorter if total == 0 else (followers[token] + distinct * shorter) / (total + distinct)


texts = st.lists(st.integers(0, 3), min_size=5, max_size=40)


@given(texts, st.lists(st.integers(0, 3), max_size=7), st.integers(1, 5))
@settings(max_examples=60)
def test_ngram_probabilities_are_the_formula_and_sum_to_one(tokens, context, order):
    model = WittenBell(np.array(tokens), 4, order)
    p = model.probabilities(context)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    expected = [witten_bell_by_the_book(tokens, 4, order, context, token) for token in range(4)]
    np.testing.assert_allclose(p, expected, rtol=1e-12)


@given(texts, st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(1, 5))
@settings(max_examples=60)
def test_ngram_bits_are_the_mean_over_the_text(tokens, held_out, order):
    model = WittenBell(np.array(tokens), 4, order)
    alone = [-math.log2(model.probabilities(held_out[:i])[token]) for i, token in enumerate(held_out)]
    assert model.bits(np.array(held_out)) == pytest.approx(np.mean(alone), rel=1e-12)
    after = [-math.log2(model.probabilities(tokens + held_out[:i])[token]) for i, token in enumerate(held_out)]
    assert model.bits(np.array(held_out), before=np.array(tokens)) == pytest.approx(np.mean(after), rel=1e-12)


def test_longer_contexts_help_on_english():
    corpus = Corpus.of(default_text()[:100_000])
    bits = [WittenBell(corpus.training, len(corpus.vocabulary), order).bits(corpus.held_out) for order in (1, 2, 3, 4)]
    assert bits == sorted(bits, reverse=True)
    assert 4 < bits[0] < 5.2
    assert 2 < bits[3] < 3


@pytest.mark.parametrize(("length", "order"), [(3, 0), (3, 4)])
def test_ngram_order_is_checked(length, order):
    with pytest.raises(ValueError, match="order"):
        WittenBell(np.zeros(length, dtype=int), 1, order)


# Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", 0), ("hidden_size", 2.5), ("hidden_size", True), ("layers", "1"), ("dropout", 1.0), ("lr", 0),
        ("lr", math.nan), ("epochs", -1), ("dtype", "float16"), ("seed", -1), ("held_out", 1), ("clip", None),
        ("lr", math.inf),
    ],
)  # fmt: skip
def test_settings_refuse_what_makes_no_sense(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected "):
        Settings(**{name: value})


def test_settings_survive_json():
    assert Settings.from_mapping(SMALL.as_dict()) == SMALL
    with pytest.raises(ValueError, match="expected the settings"):
        Settings.from_mapping({"hidden_size": 3})


# Training


def test_training_learns_what_repeats():
    training = Training("abcdefg " * 300, Settings(hidden_size=24, batch_size=4, steps=16, epochs=8, lr=0.02))
    before = training.measure()
    *_, last = training.run()
    assert before > 2.5
    assert last.held_out_bits == pytest.approx(training.measure(), abs=0.05)
    assert training.measure() < 0.05


def test_the_backends_agree(backend, english):
    bits = []
    for where in ("numpy", backend):
        training = Training(english, dataclasses.replace(SMALL, dtype="float64", epochs=0.2), where)
        bits.append([progress.training_bits for progress in training.run()] + [training.measure()])
    np.testing.assert_allclose(bits[1], bits[0], rtol=1e-9)


def test_the_seed_decides_everything(english):
    runs = [Training(english, dataclasses.replace(SMALL, seed=seed)) for seed in (1, 1, 2)]
    bits = [[progress.training_bits for progress in training.run()] for training in runs]
    assert bits[0] == bits[1]
    assert bits[0] != bits[2]


def test_state_is_carried_from_chunk_to_chunk_and_begins_anew_with_each_epoch(english, monkeypatch):
    training = Training(english, SMALL)
    calls = []
    forward = training.model.forward

    def spy(x, state, *args, **kwargs):
        result = forward(x, state, *args, **kwargs)
        calls.append((state, result[1]))
        return result

    monkeypatch.setattr(training.model, "forward", spy)
    for _ in training.run():
        pass
    chunks = Streams(training.corpus.training, SMALL.batch_size, SMALL.steps).chunks
    assert len(calls) > chunks + 1
    for step, (given_state, _) in enumerate(calls):
        assert given_state is (None if step % chunks == 0 else calls[step - 1][1])


def test_the_learning_rate_falls_along_a_cosine(english, monkeypatch):
    training = Training(english, SMALL)
    rates = []
    step = training._optimizer.step
    monkeypatch.setattr(training._optimizer, "step", lambda grads: (rates.append(training._optimizer.lr), step(grads)))
    for _ in training.run():
        pass
    expected = [0.02 * (1 + math.cos(math.pi * k / training.steps)) / 2 for k in range(training.steps)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_gradients_are_clipped(english, monkeypatch):
    training = Training(english, dataclasses.replace(SMALL, clip=0.01))
    norms = []
    step = training._optimizer.step
    monkeypatch.setattr(
        training._optimizer,
        "step",
        lambda grads: (norms.append(math.sqrt(sum((g.astype(float) ** 2).sum() for g in grads.values()))), step(grads)),
    )
    for _ in training.run():
        pass
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("stop", [1, 10, 27, 40])  # an epoch has 27 steps, the run 46
def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(tmp_path, english, stop):
    whole = Training(english, SMALL)
    for _ in whole.run():
        pass
    whole.save(tmp_path / "whole")

    part = Training(english, SMALL)
    for progress in part.run():
        if progress.step == stop:
            break
    part.save(tmp_path / "part")
    resumed = Training.resume(tmp_path / "part", english)
    assert resumed.step == stop
    steps = [progress.step for progress in resumed.run()]
    assert steps == list(range(stop + 1, whole.steps + 1))
    resumed.save(tmp_path / "resumed")
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()


def test_saving_does_not_disturb_the_run(tmp_path, english):
    files = []
    for saves in (False, True):
        training = Training(english, SMALL)
        for _ in training.run(measure_every=7 if saves else 1000):
            if saves:
                training.save(tmp_path / "x")
        training.save(tmp_path / "x")
        files.append((tmp_path / "x").read_bytes())
    assert files[0] == files[1]


def test_resuming_needs_the_text_it_began_with(tmp_path, english):
    Training(english, SMALL).save(tmp_path / "x")
    with pytest.raises(CheckpointError, match="another text"):
        Training.resume(tmp_path / "x", english + "!")


def test_resuming_before_the_first_step_and_after_the_last(tmp_path, english):
    training = Training(english, SMALL)
    training.save(tmp_path / "x")
    assert Training.resume(tmp_path / "x", english).step == 0
    for _ in training.run():
        pass
    training.save(tmp_path / "x")
    assert list(Training.resume(tmp_path / "x", english).run()) == []


def test_a_loss_that_is_not_finite_ends_the_run(english):
    training = Training(english, SMALL)
    training.model.params["3.bias"] = training.model.params["3.bias"] * np.float32("nan")
    with pytest.raises(TrainingError, match="lower learning rate"):
        next(training.run())
    with pytest.raises(TrainingError, match="the loss became nan"):
        training.measure()


def test_a_gradient_that_is_not_finite_does_not_reach_the_params(english, monkeypatch):
    training = Training(english, SMALL)
    backward = training.model.backward

    def broken(cache, dy):
        dx, dstate, grads = backward(cache, dy)
        return dx, dstate, grads | {"3.bias": grads["3.bias"] * np.float32("inf")}

    monkeypatch.setattr(training.model, "backward", broken)
    before = training.model.state_dict()
    with pytest.raises(TrainingError, match="the gradients' norm became"):
        next(training.run())
    assert all((training.model.params[name] == value).all() for name, value in before.items())


def test_progress_says_where_the_run_stands(english):
    records = list(Training(english, SMALL).run(measure_every=20))
    assert [p.step for p in records] == list(range(1, len(records) + 1))
    assert {p.steps for p in records} == {len(records)} == {46}
    assert [p.step for p in records if p.measured] == [20, 40, 46]
    assert records[0].held_out_bits is None
    assert records[-1].epoch == pytest.approx(46 / 27)
    assert records[-1].seconds_left == 0
    assert all(p.characters_per_second > 0 for p in records)


def test_the_default_number_of_epochs_suits_the_text():
    settings_ = Settings(hidden_size=2, embedding_size=2)
    assert Training("ab" * 10_000, settings_).settings.epochs == 50
    assert Training("ab" * 2_000_000, settings_).settings.epochs == 2


# Measuring


@pytest.mark.parametrize(("length", "rel"), [(40, 1e-3), (333, 1e-9), (2000, 1e-9)])
def test_every_held_out_character_is_measured_once_with_what_precedes_it(length, rel, monkeypatch):
    monkeypatch.setattr(evaluation, "_CHUNK", 4)  # several chunks to a piece, also of a short text
    rng = np.random.default_rng(0)
    corpus = Corpus.of("".join(rng.choice(list(string.ascii_lowercase), length)), held_out=0.3)
    model = build(Settings(hidden_size=8, embedding_size=4, dtype="float64"), len(corpus.vocabulary))
    bits = []
    for place in range(corpus.cut, length):
        before = corpus.tokens[max(0, place - 128) : place]
        logits, _ = model(before[None, :])
        scores = logits[0, -1, :] - logits[0, -1, :].max()
        bits.append(-(scores[corpus.tokens[place]] - math.log(np.exp(scores).sum())) / math.log(2))
    # An untrained model has forgotten what is more than 128 characters ago. (The shortest text is shorter.)
    assert held_out_bits(model, corpus) == pytest.approx(np.mean(bits), rel=rel)


def test_a_part_of_the_held_out_text_is_spread_over_all_of_it(monkeypatch):
    corpus = Corpus.of("ab" * 20_000)
    model = build(Settings(hidden_size=4, embedding_size=4), 2)
    seen = []
    tokens = corpus.tokens.view(type("Spy", (np.ndarray,), {"__getitem__": lambda self, i: _note(seen, self, i)}))
    held_out_bits(model, dataclasses.replace(corpus, tokens=tokens), characters=320)
    read = np.unique(np.concatenate([np.ravel(places) for places in seen if isinstance(places, np.ndarray)]))
    assert evaluation._STREAMS * 10 <= len(read) < evaluation._STREAMS * (10 + evaluation._WARM_UP + 1)
    assert read.min() >= corpus.cut - evaluation._WARM_UP - 1
    assert read.max() > len(corpus.tokens) - 200


def _note(seen, array, index):
    seen.append(index)
    return np.asarray(array)[index]


# Sampling


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "x"
    training = Training("abcdefg\n" * 200, Settings(hidden_size=24, batch_size=4, steps=16, epochs=8, lr=0.02))
    for _ in training.run():
        pass
    training.save(path)
    return load(path)


def test_samples_continue_the_prompt_as_learnt(trained):
    assert "".join(sample(*trained, "abcdefg\nabc", 12, temperature=0)) == "defg\nabcdefg"
    text = "".join(sample(*trained, "", 800, temperature=1, rng=np.random.default_rng(0)))
    assert text.count("abcdefg\n") > 90


def test_samples_repeat_with_the_seed(trained):
    def draw(seed):
        return "".join(sample(*trained, "a", 100, temperature=5, rng=np.random.default_rng(seed)))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_draws_follow_the_softmax():
    vocabulary = Vocabulary("abc")
    model = build(Settings(hidden_size=2, embedding_size=2), 3)
    zero = {name: np.zeros_like(value) for name, value in model.state_dict().items()}
    p = np.array([0.2, 0.5, 0.3])
    model.load_state_dict(zero | {"3.bias": np.log(p)})
    for temperature, expected in ((1.0, p), (2.0, np.sqrt(p) / np.sqrt(p).sum())):
        text = "".join(sample(model, vocabulary, "a", 1500, temperature, np.random.default_rng(0)))
        shares = [text.count(character) / 1500 for character in "abc"]
        np.testing.assert_allclose(shares, expected, atol=0.05)
    assert set(sample(model, vocabulary, "a", 50, 1e-300)) == {"b"}  # no overflow either


def test_samples_of_no_length_and_bad_arguments(trained):
    assert list(sample(*trained, "a", 0)) == []
    with pytest.raises(ValueError, match="vocabulary"):
        sample(*trained, "xyz", 3)
    with pytest.raises(ValueError, match="length"):
        sample(*trained, "a", -1)
    with pytest.raises(ValueError, match="temperature"):
        sample(*trained, "a", 3, temperature=math.nan)


def test_a_vocabulary_without_line_ends_can_begin_too():
    model = build(Settings(hidden_size=2, embedding_size=2), 3)
    assert len(list(sample(model, Vocabulary("abc"), "", 5))) == 5


def test_the_digest_tells_texts_apart():
    assert text.digest("a") != text.digest("b")
    assert isinstance(build(SMALL, 5), rr.Sequential)
