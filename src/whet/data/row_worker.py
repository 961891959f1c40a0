"""The process that makes examples of rows for `workers.py`: it answers on standard output what comes on standard input, and ends with it."""

from __future__ import annotations

import pickle
import struct
import sys
from typing import BinaryIO

from whet.data.making import Made, Maker, Making, packed_made, unpacked_rows
from whet.data.signed import signed_ahead
from whet.data.stretch import packed_stretch
from whet.types import Example

LENGTH = struct.Struct("<q")
"""What precedes each message: its bytes. An answer of -1 says that these rows could not be worked on here."""
JUDGED, LEARNT = b"j", b"l"
"""What each stretch of rows begins with; as a capital where a stretch is answered as it is kept on the disk."""


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the requests end; the first is what has to be known."""
    making: Making = pickle.loads(_message(requests))
    maker = Maker(making)
    while message := _message(requests):
        try:
            kind = message[:1]
            made = maker(unpacked_rows(message[1:]), kind.lower() == JUDGED)
            answer = _shelved(made, making) if kind.isupper() else packed_made(made)
        except Exception:  # whoever asked does it again, and sees what is wrong
            answers.write(LENGTH.pack(-1))
        else:
            answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


def _shelved(made: Made, making: Making) -> bytes:
    """Return a stretch and what its texts are compared by, as `two_of` takes them apart."""
    stretch = packed_stretch(made)
    signed = signed_ahead(making.columns, [item for item in made.items if isinstance(item, Example)])
    return b"".join([LENGTH.pack(len(stretch)), stretch, signed])


def two_of(answer: bytes) -> tuple[bytes, bytes]:
    """Return a stretch, and what its texts are compared by, or nothing."""
    end = LENGTH.size + LENGTH.unpack_from(answer)[0]
    return answer[LENGTH.size : end], answer[end:]


def _message(stream: BinaryIO) -> bytes:
    """Return one message; nothing where the stream ends."""
    head = stream.read(LENGTH.size)
    return stream.read(*LENGTH.unpack(head)) if len(head) == LENGTH.size else b""


if __name__ == "__main__":
    with open(
        sys.stdout.fileno(), "wb", closefd=False
    ) as whole:  # with PYTHONUNBUFFERED, standard output writes in part where it is stopped
        serve(sys.stdin.buffer, whole)
