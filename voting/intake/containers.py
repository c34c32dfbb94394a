"""MP4 and MOV files, read as far as it takes to know how long they are and who can play them.

    the file      ftyp  moov  mdat ...          boxes: size in 4 bytes, type in 4, then content
    moov          mvhd  trak  trak ...          mvhd: length of the whole
    trak          tkhd  mdia                    tkhd: size of the picture
    mdia          mdhd  hdlr  minf/stbl         hdlr: picture or sound; stbl: codec, length of all
                                                its samples

Nothing is believed without being held against something else: a box ends where its parent does, the
length is the longest that anything in the file says, and of what is claimed only headers are read.
Boxes are looked for at their place alone, however they are nested. Reading is bounded: see *_MAX.

Known weakness: that the pictures between can be decoded is not known here (see `videos`).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

INDEX_BYTES_MAX = 16_000_000
"""Of moov. Three minutes take some 200 kB."""
BOXES_MAX = 10_000
"""That are looked at in one file."""
_TRACKS_MAX = 32
_SIDE_MAX = 16_384
_LEADING = frozenset((b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))
"""What a MOV from before there was ftyp begins with."""


class Unsound(Exception):
    """The file is none that can be taken; the message says why, as a predicate."""


@dataclass(frozen=True, slots=True)
class Film:
    """What a file says of itself."""

    kind: str
    """mp4 or mov, by its bytes."""
    seconds: float
    width: int | None
    height: int | None
    """Of the largest picture track; None where it does not say."""
    video_codecs: tuple[str, ...]
    sound_codecs: tuple[str, ...]
    """Four characters each, as "avc1"; what is not printable is "?"."""


class _Box(NamedTuple):
    type: bytes
    begin: int
    """Of the content."""
    end: int


def read_film(file: BinaryIO, size: int) -> Film:
    """Read the headers of a file of `size` bytes; raises Unsound for whatever is in it."""
    try:
        return _read_film(file, size)
    except (struct.error, IndexError):
        raise Unsound(_DAMAGED) from None  # a box is shorter than what it must hold


_DAMAGED = "is cut off or damaged"


def _read_film(file: BinaryIO, size: int) -> Film:
    boxes = _Boxes()
    index, has_samples, kind = None, False, ""
    for box in boxes.of_file(file, size):
        if not kind:
            kind = _kind_by(box, file)
        if box.type == b"moov" and index is None:
            if box.end - box.begin > INDEX_BYTES_MAX:
                raise Unsound(f"has an index of more than {INDEX_BYTES_MAX // 1_000_000} MB")
            file.seek(box.begin)
            index = file.read(box.end - box.begin)
        elif box.type == b"moof":
            raise Unsound(_IN_FRAGMENTS)
        elif box.type == b"mdat":
            has_samples = has_samples or box.end > box.begin
    if not kind:
        raise Unsound("is empty")
    if index is None:
        raise Unsound(f"{_DAMAGED}: it has no index (moov)")
    if not has_samples:
        raise Unsound(f"{_DAMAGED}: it has no pictures in it (mdat)")
    return _film_of(boxes, index, kind)


_IN_FRAGMENTS = "is in fragments, as streams are: save it as one ordinary MP4"
_OTHERS = (
    (b"\x1aE\xdf\xa3", "a WebM or MKV"),
    (b"RIFF", "an AVI"),
    (b"FLV", "an FLV"),
    (b"0&\xb2u\x8ef\xcf\x11", "a WMV"),
    (b"\x00\x00\x01\xba", "an MPEG"),
    (b"\x00\x00\x01\xb3", "an MPEG"),
    (b"G@", "an MPEG stream"),
    (b"OggS", "an Ogg"),
    (b"\xff\xd8\xff", "a JPEG"),
    (b"\x89PNG", "a PNG"),
)


def _kind_by(first: _Box, file: BinaryIO) -> str:
    """mp4 or mov, by the first box."""
    if first.type != b"ftyp":
        return "mov"  # _Boxes lets no others pass
    file.seek(first.begin)
    return "mov" if file.read(4) == b"qt  " else "mp4"


class _Boxes:
    """Goes over boxes, so many in all and no more."""

    def __init__(self) -> None:
        self._left = BOXES_MAX

    def of_file(self, file: BinaryIO, size: int) -> Iterator[_Box]:
        """Those that the file consists of."""
        at = 0
        while at < size:
            file.seek(at)
            head = file.read(16)
            if at == 0 and head[4:8] != b"ftyp" and head[4:8] not in _LEADING:
                raise Unsound(f"is not an MP4 or MOV but {_other(head)}")
            box = self._box(head, at, size)
            yield box
            at = box.end

    def inside(self, held: bytes, parent: _Box) -> Iterator[_Box]:
        """Those that `parent` consists of."""
        at = parent.begin
        while at < parent.end:
            # QuickTime ends some lists of boxes by four zero bytes.
            if parent.end - at < 8 and not any(held[at : parent.end]):
                return
            box = self._box(held[at : min(at + 16, parent.end)], at, parent.end)
            yield box
            at = box.end

    def _box(self, head: bytes, at: int, end: int) -> _Box:
        self._left -= 1
        if self._left < 0:
            raise Unsound(f"has more than {BOXES_MAX} parts")
        size, kind = struct.unpack_from(">I4s", head)
        begin = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", head, 8)
            begin = at + 16
        elif size == 0:
            size = end - at  # to the end of what it is in
        if size < begin - at or at + size > end:
            raise Unsound(_DAMAGED)
        return _Box(kind, begin, at + size)


def _other(head: bytes) -> str:
    return next((kind for magic, kind in _OTHERS if head.startswith(magic)), "something else")


class _Track(NamedTuple):
    handler: bytes
    seconds: float
    width: int
    height: int
    codecs: tuple[str, ...]


def _film_of(boxes: _Boxes, held: bytes, kind: str) -> Film:
    seconds = None
    tracks: list[_Track] = []
    for box in boxes.inside(held, _Box(b"moov", 0, len(held))):
        if box.type == b"mvhd" and seconds is None:
            seconds = _seconds(held, box)
        elif box.type == b"trak":
            if len(tracks) == _TRACKS_MAX:
                raise Unsound(f"has more than {_TRACKS_MAX} tracks")
            tracks.append(_track(boxes, held, box))
        elif box.type == b"mvex":
            raise Unsound(_IN_FRAGMENTS)
        elif box.type == b"cmov":
            raise Unsound("has a compressed index: save it anew as MP4")
    if seconds is None:
        raise Unsound(f"{_DAMAGED}: it does not say how long it is (mvhd)")
    pictures = [track for track in tracks if track.handler == b"vide"]
    if not pictures:
        raise Unsound("has no picture, or none that is known")
    longest = max(seconds, *(track.seconds for track in tracks))
    if not longest > 0:
        raise Unsound("has no length")
    largest = max(pictures, key=lambda track: track.width * track.height)
    known = 0 < largest.width <= _SIDE_MAX and 0 < largest.height <= _SIDE_MAX
    return Film(
        kind,
        longest,
        largest.width if known else None,
        largest.height if known else None,
        _codecs(pictures),
        _codecs([track for track in tracks if track.handler == b"soun"]),
    )


def _codecs(tracks: list[_Track]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(codec for track in tracks for codec in track.codecs))


def _track(boxes: _Boxes, held: bytes, parent: _Box) -> _Track:
    handler, seconds, width, height = b"", 0.0, 0, 0
    codecs: tuple[str, ...] = ()
    for box in boxes.inside(held, parent):
        if box.type == b"tkhd":
            width, height = _shown_size(held, box)
        elif box.type == b"mdia":
            handler, seconds, codecs = _media(boxes, held, box)
    return _Track(handler, seconds, width, height, codecs)


def _media(boxes: _Boxes, held: bytes, parent: _Box) -> tuple[bytes, float, tuple[str, ...]]:
    """(handler, seconds, codecs) of a track."""
    handler, seconds, scale, ticks = b"", 0.0, 0, 0
    codecs: tuple[str, ...] = ()
    for box in boxes.inside(held, parent):
        if box.type == b"mdhd":
            seconds, scale = _seconds(held, box), _scale(held, box)
        elif box.type == b"hdlr":
            handler = held[box.begin + 8 : min(box.begin + 12, box.end)]
        elif box.type == b"minf":
            for inner in boxes.inside(held, box):
                if inner.type == b"stbl":
                    codecs, ticks = _samples(boxes, held, inner)
    return handler, max(seconds, ticks / scale if scale else 0.0), codecs


def _samples(boxes: _Boxes, held: bytes, parent: _Box) -> tuple[tuple[str, ...], int]:
    """(codecs, length of all samples in the track's own ticks)."""
    codecs: list[str] = []
    ticks = 0
    for box in boxes.inside(held, parent):
        if box.type == b"stsd":
            listed = _Box(b"", box.begin + 8, box.end)
            codecs = [_printable(entry.type) for entry in boxes.inside(held, listed)]
        elif box.type == b"stts":
            (entries,) = _unpack(">I", held, box, 4)
            begin, end = box.begin + 8, box.begin + 8 + 8 * entries
            if end > box.end:
                raise Unsound(_DAMAGED)
            ticks = sum(
                count * length for count, length in struct.iter_unpack(">II", held[begin:end])
            )
    return tuple(codecs), ticks


def _seconds(held: bytes, box: _Box) -> float:
    """The length in mvhd or mdhd, which begin alike."""
    wide = _unpack(">B", held, box, 0)[0] == 1
    (duration,) = _unpack(">Q" if wide else ">I", held, box, 24 if wide else 16)
    if duration in (2**32 - 1, 2**64 - 1):
        return 0.0  # not known
    return float(duration / _scale(held, box))


def _scale(held: bytes, box: _Box) -> int:
    """Ticks a second."""
    wide = _unpack(">B", held, box, 0)[0] == 1
    (scale,) = _unpack(">I", held, box, 20 if wide else 12)
    if scale == 0:
        raise Unsound(f"{_DAMAGED}: it counts no time")
    return int(scale)


def _shown_size(held: bytes, box: _Box) -> tuple[int, int]:
    """Width and height as they are shown, with what the camera was turned by."""
    wide = _unpack(">B", held, box, 0)[0] == 1
    at = 52 if wide else 40
    a, b, _, c, d = _unpack(">iiiii", held, box, at)
    width, height = _unpack(">II", held, box, at + 36)
    lying = a == d == 0 and b != 0 and c != 0
    return (height >> 16, width >> 16) if lying else (width >> 16, height >> 16)


def _unpack(form: str, held: bytes, box: _Box, at: int) -> tuple[int, ...]:
    """Numbers in a box, `at` bytes behind its beginning; struct.error where it ends before."""
    return struct.unpack_from(form, held[box.begin : box.end], at)


def _printable(code: bytes) -> str:
    return "".join(chr(one) if 0x20 <= one < 0x7F else "?" for one in code).strip()
