"""Texts for a character language model: reading, the vocabulary, the held-out part, and contiguous streams."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray import files
from recurray.language_model.errors import TextError
from recurray.training.batch import Batch

Tokens = NDArray[np.int64]

DEFAULT_TEXT = "pydoc_data.topics"
STANDARD_INPUT = "-"
_MOST = 2**30  # bytes or characters of a text, whose numbers take eight times as much memory


def default_text() -> str:
    """English that every Python has: the help topics of `pydoc_data.topics`, joined by newlines in sorted order.

    It is some 0.5 million characters, and differs a little from one Python version to the next.

    Raises
    ------
    TextError
        This Python comes without its documentation.

    Examples
    --------
    >>> from recurray.language_model.text import default_text
    >>> len(default_text()) > 300_000
    True
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise TextError(f"this Python has no {DEFAULT_TEXT}; name a text file") from error
    return "\n".join(topics[name] for name in sorted(topics))


def read_text(path: str | Path) -> str:
    r"""Read a UTF-8 text file, or a pipe; every kind of line end becomes "\n", and a byte order mark is dropped.

    Raises
    ------
    TextError
        The file can't be read, isn't a file or pipe, isn't UTF-8, is empty, or is larger than a gibibyte.
    """
    try:
        return _decoded(files.read_bytes(path, _MOST), path)
    except OSError as error:
        raise TextError(f"can't read {path}: {files.reason(error)}") from error


@dataclass(frozen=True)
class Source:
    """Where a text comes from: files that are read one after the other, each beginning on a line of its own.

    Attributes
    ----------
    paths : tuple of str
        The files; "-" stands for standard input.
    """

    paths: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> Source:
        """Take the files, the .txt files in and below the folders, and for "-" standard input, in their order.

        Raises
        ------
        TextError
            A folder has no such files or can't be read, or standard input is named twice.
        """
        if names.count(STANDARD_INPUT) > 1:
            raise TextError("standard input can be read only once")
        return cls(tuple(path for name in names for path in _files_of(name)))

    def reads(self, path: str | Path) -> bool:
        """Tell whether ``path`` is one of the files."""
        try:
            status = Path(path).stat()
            others = [Path(other) for other in self.paths if other != STANDARD_INPUT]
            return any(other.exists() and os.path.samestat(other.stat(), status) for other in others)
        except (OSError, ValueError):
            return False

    def read(self) -> str:
        """Read everything.

        Raises
        ------
        TextError
            See `read_text`.
        """
        text = ""
        for path in self.paths:
            text += "\n" if text and not text.endswith("\n") else ""
            text += _read_standard_input() if path == STANDARD_INPUT else read_text(path)
            if len(text) > _MOST:
                raise TextError(f"the texts have more than {_MOST:,} characters together")
        return text


def _files_of(name: str) -> list[str]:
    if name == STANDARD_INPUT or not os.path.isdir(name):  # noqa: PTH112 - which never raises
        return [name]
    try:
        found = sorted(str(path) for path in Path(name).rglob("*.txt") if path.is_file())
    except OSError as error:
        raise TextError(f"can't read the folder {name}: {files.reason(error)}") from error
    if not found:
        raise TextError(f"the folder {name} has no .txt files, in it or below")
    return found


def _read_standard_input() -> str:
    try:
        return _decoded(files.read_stream(sys.stdin.buffer, _MOST), "standard input")
    except (OSError, AttributeError) as error:  # None, or something that isn't a file
        reason = files.reason(error) if isinstance(error, OSError) else "it is closed"
        raise TextError(f"can't read standard input: {reason}") from error


def _decoded(data: bytes, name: str | Path) -> str:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise TextError(f"{name} isn't UTF-8 text: byte {error.start} ({error.reason})") from error
    if not text:
        raise TextError(f"{name} is empty")
    return text


def digest(text: str) -> str:
    """SHA-256 of the text in hexadecimal, which tells whether a training run goes on with the text it began with."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Vocabulary:
    """The characters that a model knows; a character's number is its place among them.

    Parameters
    ----------
    characters : str
        The known characters, each once.

    Raises
    ------
    ValueError
        There is none, or one stands twice.

    Examples
    --------
    >>> from recurray.language_model.text import Vocabulary
    >>> vocabulary = Vocabulary.of("banana")
    >>> vocabulary.characters
    'abn'
    >>> vocabulary.encode("nab")
    array([2, 0, 1])
    >>> vocabulary.decode([1, 0, 2])
    'ban'
    """

    def __init__(self, characters: str) -> None:
        if not characters or len(set(characters)) != len(characters):
            raise ValueError("a vocabulary needs at least one character, and each only once")
        self.characters = characters
        self._numbers = {character: number for number, character in enumerate(characters)}

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """Return the characters of ``text`` by code point."""
        return cls("".join(sorted(set(text))))

    def unknown(self, text: str) -> str:
        """Return the characters of ``text`` that the vocabulary lacks, each once, in the order of their appearance."""
        return "".join(dict.fromkeys(character for character in text if character not in self._numbers))

    def encode(self, text: str) -> Tokens:
        """Turn text into numbers.

        Raises
        ------
        ValueError
            A character isn't in the vocabulary; the message names all such characters.
        """
        unknown = self.unknown(text)
        if unknown:
            names = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in unknown)
            raise ValueError(f"not in the model's vocabulary: {names}")
        return np.fromiter((self._numbers[character] for character in text), dtype=np.int64, count=len(text))

    def decode(self, numbers: Tokens | list[int]) -> str:
        """Turn numbers into text."""
        return "".join(self.characters[number] for number in numbers)

    def __len__(self) -> int:
        return len(self.characters)


@dataclass(frozen=True)
class Corpus:
    """A text as numbers, its last part held out from training.

    The vocabulary is that of the whole text, so that a held-out character is never unknown: one that the training
    part lacks is merely improbable, to the recurrent model as to the n-gram models it is compared with.

    Attributes
    ----------
    tokens : array of int, shape (N,)
        The whole text.
    cut : int
        Training reads ``tokens[:cut]``; ``tokens[cut:]`` is held out.
    vocabulary : Vocabulary
        The characters of the whole text.
    digest : str
        SHA-256 of the text.

    Examples
    --------
    >>> from recurray.language_model.text import Corpus
    >>> corpus = Corpus.of("to be or not to be", held_out=0.25)
    >>> corpus.vocabulary.decode(corpus.training), corpus.vocabulary.decode(corpus.held_out)
    ('to be or not t', 'o be')
    """

    tokens: Tokens
    cut: int
    vocabulary: Vocabulary
    digest: str

    @classmethod
    def of(cls, text: str, held_out: float = 0.1) -> Corpus:
        """Number the characters of ``text`` and hold out the last ``held_out`` of it (rounded down).

        Raises
        ------
        TextError
            The text is empty, or so short that one of the parts would be.
        """
        if not text:
            raise TextError("the text is empty")
        held = int(len(text) * held_out)
        if not 0 < held < len(text):
            raise TextError(
                f"the text has {len(text)} characters: "
                f"too short to hold out a share of {held_out:g} and train on the rest"
            )
        vocabulary = Vocabulary.of(text)
        return cls(vocabulary.encode(text), len(text) - held, vocabulary, digest(text))

    @property
    def training(self) -> Tokens:
        """What is learnt from."""
        return self.tokens[: self.cut]

    @property
    def held_out(self) -> Tokens:
        """What the model is measured on."""
        return self.tokens[self.cut :]


class Streams:
    """A text cut into ``batch_size`` contiguous streams, read in chunks of ``steps`` characters.

    Chunk after chunk continues every stream where the last one ended, which is what lets a recurrent model carry its
    state from chunk to chunk. The text is taken as a ring that each epoch enters at another ``offset``, so that the
    streams' beginnings and the chunks' borders fall elsewhere each time; what is left over at the end of an epoch
    (less than one chunk in every stream) is skipped.

    Parameters
    ----------
    tokens : array of int, shape (N,)
        The text.
    batch_size, steps : int
        B streams, T characters in a chunk.

    Raises
    ------
    TextError
        The text is shorter than one chunk of every stream.

    Examples
    --------
    >>> import numpy as np
    >>> from recurray.language_model.text import Streams
    >>> streams = Streams(np.arange(14), batch_size=2, steps=3)
    >>> streams.chunks
    2
    >>> x, target = streams.chunk(0, offset=0)
    >>> x
    array([[0, 1, 2],
           [7, 8, 9]])
    >>> target
    array([[ 1,  2,  3],
           [ 8,  9, 10]])
    """

    def __init__(self, tokens: Tokens, batch_size: int, steps: int) -> None:
        self._tokens = tokens
        self._stream_length = len(tokens) // batch_size
        self._batch_size, self._steps = batch_size, steps
        self.chunks = self._stream_length // steps  # in an epoch
        if self.chunks == 0 or len(tokens) < 2:
            raise TextError(
                f"the text to train on has {len(tokens)} characters, one chunk needs {max(2, batch_size * steps)} "
                f"(batch size {batch_size} x {steps} steps): choose smaller ones or a longer text"
            )

    @property
    def batches(self) -> int:
        """Chunks of an epoch; see `recurray.training.batch.Source`."""
        return self.chunks

    def facts(self) -> dict[str, Any]:
        """Nothing that the settings don't say; see `recurray.training.batch.Source`."""
        return {}

    def sample(self) -> dict[str, Any]:
        """Nothing, for no ranks train on them; see `recurray.training.batch.Source`."""
        return {}

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Return the chunks of an epoch, from an offset that is drawn."""
        offset = int(rng.integers(len(self._tokens)))
        for number in range(self.chunks):
            yield Batch(*self.chunk(number, offset))

    def chunk(self, number: int, offset: int) -> tuple[Tokens, Tokens]:
        """Return the input and the characters that follow it, both (B, T), of chunk ``number`` of an epoch."""
        streams = np.arange(self._batch_size)[:, None] * self._stream_length
        times = np.arange(self._steps + 1)[None, :] + number * self._steps
        both = self._tokens[(streams + times + offset) % len(self._tokens)]  # (B, T + 1)
        return both[:, :-1], both[:, 1:]
