"""JSON values one at a time from a stream, each with the physical line it begins on; holds one value, never the file."""

from __future__ import annotations

import json
import re
from typing import TextIO

from whet.data.rows import MAX_ROW

CHUNK = 1 << 18
_SPACE = re.compile(r"[ \t\r\n\ufeff]*")


class BrokenJson(Exception):
    """The text is no JSON from `line` on."""

    def __init__(self, line: int, what: str, too_long: bool = False) -> None:
        super().__init__(what)
        self.line = line
        self.what = what
        self.too_long = too_long


class JsonStream:
    """A cursor over the JSON text of a stream."""

    def __init__(self, stream: TextIO, newline: str = "\n") -> None:
        self._stream = stream
        self._newline = newline
        self._buffer = ""
        self._position = 0
        self._counted = 0  # the lines before this place of the buffer are in `_line`
        self._line = 1
        self._ended = False
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Return the next character that is no white space, or '' at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._position)
            assert match is not None, "an empty match is a match"
            self._position = match.end()
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._more(CHUNK):
                return ""

    def take(self, allowed: str) -> str:
        """Return and pass the next character, which must be one of `allowed`."""
        character = self.peek()
        if not character or character not in allowed:
            found = "the end of the file" if not character else "something else"
            raise BrokenJson(self.line, f"{found} where {' or '.join(repr(one) for one in allowed)} should stand")
        self._position += 1
        return character

    def value(self) -> tuple[object, int]:
        """Return the next value and the line where it begins. Raises BrokenJson."""
        self.peek()
        line, size = self.line, CHUNK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
                if end < len(self._buffer) or not self._more(CHUNK):  # else a number could go on in the next chunk
                    self._position = end
                    return value, line
            except RecursionError:
                raise BrokenJson(line, "nested too deeply") from None
            except ValueError as error:
                if len(self._buffer) - self._position > MAX_ROW:
                    raise BrokenJson(line, f"a value longer than {MAX_ROW // 2**20} MiB", too_long=True) from None
                if not self._more(size):
                    raise BrokenJson(self._line_of(error, line), _what(error)) from None
                size *= 2

    @property
    def line(self) -> int:
        """Line of the cursor."""
        self._line += self._buffer.count(self._newline, self._counted, self._position)
        self._counted = self._position
        return self._line

    def _more(self, size: int) -> bool:
        if self._ended:
            return False
        chunk = self._stream.read(size)
        if not chunk:
            self._ended = True
            return False
        self._line = self.line
        self._buffer = self._buffer[self._position :] + chunk
        self._position = self._counted = 0
        return True

    def _line_of(self, error: ValueError, line: int) -> int:
        if not isinstance(error, json.JSONDecodeError):
            return line
        return line + self._buffer.count(self._newline, self._position, error.pos)


def _what(error: ValueError) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "a number that is too long"
