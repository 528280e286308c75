"""A CSV file as columns of text, with the lines that they stand in."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recurray.files import FormatError, read_bytes, read_stream, reading
from recurray.messages import shown

MOST_BYTES = 1 << 30
_DELIMITERS = ",;\t|"
MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-"}  # small letters


@dataclass(frozen=True)
class CsvFile:
    """What a file holds.

    Attributes
    ----------
    path : str
        Where it is.
    columns : dict of str to list of str
        Texts by the columns' names.
    lines : list of int
        The line of each row.
    decimal : str
        What stands before a number's decimals.
    """

    path: str
    columns: dict[str, list[str]]
    lines: list[int]
    decimal: str


def read(
    path: str | Path, *, delimiter: str | None = None, decimal: str = ".", names: Sequence[str] | None = None
) -> CsvFile:
    """Read a CSV file in UTF-8.

    Parameters
    ----------
    path : path-like
        The file; "-" is standard input.
    delimiter : str, optional
        What stands between columns; if omitted, the comma, semicolon, tab or bar that the first line has most of.
    decimal : "." or ","
        What stands before decimals.
    names : sequence of str, optional
        The names of the columns, of a file without a header.

    Raises
    ------
    FormatError
        It is no table with a header; the message names the line.
    OSError
        It can't be read.
    """
    with reading(path):
        data = read_stream(sys.stdin.buffer, MOST_BYTES) if str(path) == "-" else read_bytes(path, MOST_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(f"{path}, line {line}: this isn't UTF-8: save the file in that encoding") from None
    if not text.strip():
        raise FormatError(
            f"{path} is empty: a first line with the names of columns is expected, and a line for each time"
        )
    if "\0" in text:
        raise FormatError(
            f"{path}, line {text.count(chr(10), 0, text.index(chr(0))) + 1}: there is a NUL: this is no text"
        )
    if delimiter is None:
        first = text.lstrip().splitlines()[0]
        delimiter = max(_DELIMITERS, key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    table: list[list[str]] = []
    lines: list[int] = []
    begin = 1
    try:
        for row in rows:
            if any(field.strip() for field in row):
                table.append(row)
                lines.append(begin)
            begin = rows.line_num + 1
    except csv.Error as error:
        raise FormatError(f"{path}, line {rows.line_num}: {error}") from None
    if names is None:
        header, table, lines = [field.strip() for field in table[0]], table[1:], lines[1:]
        _check_header(path, header, delimiter)
    else:
        header = [str(name) for name in names]
    _check_names(path, header)
    for row, line in zip(table, lines, strict=True):
        if len(row) != len(header):
            raise FormatError(
                f"{path}, line {line}: it has {_fields(len(row))}, and the names are {len(header)}: "
                f'{", ".join(header)}; between columns stands {shown(delimiter)}, unless delimiter="..." says otherwise'
            )
    columns = {name: [row[k].strip() for row in table] for k, name in enumerate(header)}
    return CsvFile(str(path), columns, lines, decimal)


def _fields(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def _check_header(path: str | Path, header: Sequence[str], delimiter: str) -> None:
    if all(_is_value(field) for field in header):
        raise FormatError(
            f"{path}, line 1: there is no header, but {shown(delimiter.join(header))}: write the names of the "
            "columns above, "
            'or give names="..."'
        )


def _is_value(field: str) -> bool:
    """Whether this is a number, or a date, rather than a name."""
    return bool(field) and field[0] in "+-.0123456789" and any(letter.isdecimal() for letter in field)


def _check_names(path: str | Path, header: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in header:
        if name and name in seen:
            raise FormatError(f"{path}, line 1: two columns have the name {shown(name)}: give each one of its own")
        seen.add(name)
