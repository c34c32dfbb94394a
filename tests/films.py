"""Small MP4 and MOV files, made box by box: sound ones, and whatever else a file may be."""

import struct


def box(kind: bytes, *content: bytes, size: int | None = None) -> bytes:
    """`size`: what it claims, where that is not the truth."""
    inside = b"".join(content)
    return struct.pack(">I4s", len(inside) + 8 if size is None else size, kind) + inside


def wide_box(kind: bytes, *content: bytes, size: int | None = None) -> bytes:
    """With its size in 64 bits."""
    inside = b"".join(content)
    return struct.pack(">I4sQ", 1, kind, len(inside) + 16 if size is None else size) + inside


def header(kind: bytes, duration: int, scale: int = 1_000, *, wide: bool = False) -> bytes:
    """mvhd or mdhd, as far as they are alike."""
    times = struct.pack(">QQIQ" if wide else ">IIII", 0, 0, scale, duration)
    rest = bytes(80) if kind == b"mvhd" else bytes(4)
    return box(kind, bytes([int(wide)]), bytes(3), times, rest)


_UPRIGHT = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_TURNED = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)


def track(
    handler: bytes = b"vide",
    codec: bytes = b"avc1",
    *,
    milliseconds: int = 2_000,
    size: tuple[int, int] = (1920, 1080),
    turned: bool = False,
    scale: int = 1_000,
    samples: bytes | None = None,
    number: int = 1,
) -> bytes:
    """One trak. `samples` = what stts says: (count, length) in 32 bits each."""
    matrix = struct.pack(">9i", *(_TURNED if turned else _UPRIGHT))
    shown = struct.pack(">II", size[0] << 16, size[1] << 16)
    ids = struct.pack(">IIIII", 0, 0, number, 0, milliseconds)
    tkhd = box(b"tkhd", b"\0\0\0\3", ids, bytes(16), matrix, shown)
    hdlr = box(b"hdlr", bytes(8), handler, bytes(13))
    sides = struct.pack(">HH", *size)
    # What a sample entry of pictures, or of sound, has to have.
    if handler == b"vide":
        entry = bytes(6) + b"\0\1" + bytes(16) + sides + bytes(50)
    else:
        entry = bytes(6) + b"\0\1" + bytes(8) + b"\0\2\0\x10" + bytes(4) + b"\xac\x44\0\0"
    stsd = box(b"stsd", bytes(4), b"\0\0\0\1", box(codec, entry))
    said = struct.pack(">II", 2, milliseconds // 2) if samples is None else samples
    stts = box(b"stts", bytes(4), struct.pack(">I", len(said) // 8), said)
    places = (
        box(b"stsc", bytes(4), struct.pack(">IIII", 1, 1, 2, 1)),
        box(b"stsz", bytes(4), struct.pack(">II", 1, 2)),
        box(b"stco", bytes(4), struct.pack(">II", 1, 40)),
    )
    stbl = box(b"stbl", stsd, stts, *places)
    mdia = box(b"mdia", header(b"mdhd", milliseconds, scale), hdlr, box(b"minf", stbl))
    return box(b"trak", tkhd, mdia)


def index(
    *tracks: bytes, milliseconds: int = 2_000, scale: int = 1_000, more: bytes = b""
) -> bytes:
    """moov; one track of pictures unless some are given."""
    inside = tracks or (track(milliseconds=milliseconds),)
    return box(b"moov", header(b"mvhd", milliseconds, scale), *inside, more)


FTYP = box(b"ftyp", b"isom", bytes(4), b"isomavc1")
QUICKTIME = box(b"ftyp", b"qt  ", bytes(4), b"qt  ")
SAMPLES = box(b"mdat", b"two samples")


def film(
    *tracks: bytes, milliseconds: int = 2_000, brand: bytes = FTYP, content: bytes = SAMPLES
) -> bytes:
    """A whole file: 2 s of Full HD in H.264 unless said otherwise, without a picture in it."""
    return brand + content + index(*tracks, milliseconds=milliseconds)
