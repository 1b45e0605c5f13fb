# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's half of the channel to guest_init.c: frames over a serial port.

Owns: framing and its check. Refuses to know what the frames mean. See guest_init.c for the format.
"""

import struct
import zlib

FLAG = b'\x7e'
ESCAPE = b'\x7d'
PAYLOAD_MAX = 1024


def encode(kind, payload=b''):
    """One frame as bytes for the wire; `kind` is one byte."""
    raw = kind + payload
    raw += struct.pack('<I', zlib.crc32(raw))
    raw = raw.replace(ESCAPE, b'\x7d\x5d').replace(FLAG, b'\x7d\x5e')
    return FLAG + raw + FLAG


class Decoder:
    """Turns what arrives, in pieces of any size, into (kind, payload) pairs. Damaged frames are
    dropped.
    """

    def __init__(self):
        self.pending = b''

    def feed(self, data):
        pieces = (self.pending + data).split(FLAG)
        self.pending = pieces.pop()
        frames = []
        for piece in pieces:
            if ESCAPE in piece:
                piece = piece.replace(b'\x7d\x5e', FLAG).replace(b'\x7d\x5d', ESCAPE)
            if len(piece) < 5:
                continue
            raw, crc = piece[:-4], struct.unpack('<I', piece[-4:])[0]
            if zlib.crc32(raw) == crc:
                frames.append((raw[:1], raw[1:]))
        return frames
