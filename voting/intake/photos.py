"""photos/ -> pictures in two sizes.

A picture goes onto the card as at most 480 x 600, and onto the candidate's page as at most
1200 x 1500, never scaled up: upright, in sRGB, with nothing of the source's metadata (where and
with what it was taken), as WebP and as progressive JPEG.

The source is never trusted: it must be a whole JPEG by its bytes, its size in pixels is known from
the header before anything is decoded, and it is decoded once, at a fraction of its size; the card
is made from the large picture.
"""

import hashlib
import io
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Loaded here, so that threads do not race to register them.
from PIL import Image, ImageCms, JpegImagePlugin, WebPImagePlugin  # noqa: F401

CARD_SIZE = (480, 600)
LARGE_SIZE = (1200, 1500)
RECIPE = "card 480x600 webp 80 jpeg 82, first"
"""Part of every photo's id: a change of how cards are made changes the ids, and every address of
a picture with them. The large size came later and is not in it: who has no large picture yet gets
one under the id that is there."""

BYTES_MAX = 50_000_000
BYTES_WISHED = 2_000_000
PIXELS_MAX = 40_000_000
SCANS_MAX = 60
"""Of a progressive JPEG; usual are 10. Each costs a pass over all pixels."""
_WORKERS_MAX = 4
"""Pictures in memory at once. One of 40 megapixels, progressive, takes 250 MB."""

_SRGB = ImageCms.createProfile("sRGB")


@dataclass(frozen=True, slots=True)
class Card:
    """One picture in both sizes, its four forms in files of the scratch folder. A source of no
    more than card size has the same in both."""

    id: str
    width: int
    height: int
    webp: Path
    jpeg: Path
    large_width: int
    large_height: int
    large_webp: Path
    large_jpeg: Path


@dataclass(frozen=True, slots=True)
class Examined:
    """What became of one photo."""

    id: str | None = None
    card: Card | None = None
    """None where the photo was known already, or is not sound."""
    fault: str | None = None
    """Why it cannot be taken."""
    too_small: bool = False
    """Fewer bytes than the office asks for."""


class NamedFiles:
    """The names in photos/ or videos/, as a list may write them: composed or not, .jpg or .JPG."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = (
            sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        )
        # The exact name wins over a like one.
        self._by_key = {_key(name): name for name in reversed(self.names)}
        self._by_exact_name = {unicodedata.normalize("NFC", name): name for name in self.names}

    def find(self, name: str) -> str | None:
        """The file that a list means by `name`; None where there is none."""
        return self._by_exact_name.get(name) or self._by_key.get(_key(name))


def _key(name: str) -> str:
    stem, dot, suffix = unicodedata.normalize("NFC", name).rpartition(".")
    return stem + dot + suffix.lower()


def is_plain_name(name: str) -> bool:
    """A name of a file, not a way to one."""
    return not re.search(r"[/\\\x00]", name) and name not in (".", "..")


def examine_all(
    paths: Iterable[Path],
    known: frozenset[str],
    scratch: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[Path, Examined]:
    """Look at each photo and make its cards in `scratch`, unless its id is `known`.

    In threads: decoding and encoding leave Python's lock. `progress` hears how many are done.
    """
    paths = list(paths)
    workers = min(_WORKERS_MAX, os.cpu_count() or 1)
    found: dict[Path, Examined] = {}
    # Pillow warns of odd metadata, which is thrown away here. The filter is the process's own, so
    # it is set around the threads and not in them.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        for path, examined in zip(
            paths, pool.map(lambda path: examine(path, known, scratch), paths), strict=True
        ):
            found[path] = examined
            progress(len(found))
    return found


def examine(path: Path, known: frozenset[str], scratch: Path) -> Examined:
    """Look at one photo; never raises for what is in it."""
    try:
        if not path.is_file():
            return Examined(fault="is no file")
        if path.stat().st_size > BYTES_MAX:
            return Examined(fault=f"is larger than {BYTES_MAX // 1_000_000} MB")
        source = path.read_bytes()
    except OSError as why:
        return Examined(fault=f"cannot be read: {why.strerror}")
    if not source.startswith(b"\xff\xd8\xff"):
        return Examined(fault=f"is not a JPEG but {_kind_of(source)}")
    too_small = len(source) < BYTES_WISHED
    photo_id = hashlib.sha256(source + RECIPE.encode()).hexdigest()[:24]
    if photo_id in known:
        return Examined(photo_id, too_small=too_small)
    scans = _scans_of(source)
    if scans is None:
        return Examined(fault="is cut off or damaged")
    if scans > SCANS_MAX:
        return Examined(fault=f"has {scans} scans, more than any camera writes")
    try:
        upright = _decode(source)
    except Exception:
        # Whatever goes wrong over bytes from outside is their fault: Pillow raises OSError,
        # SyntaxError, ValueError, struct.error and more over damaged ones.
        return Examined(fault="is cut off or damaged")
    if upright is None:
        return Examined(fault=f"has more than {PIXELS_MAX // 1_000_000} megapixels")
    return Examined(photo_id, _make_card(upright, photo_id, scratch), too_small=too_small)


_MAGIC = (
    (b"\x89PNG", "a PNG"),
    (b"GIF8", "a GIF"),
    (b"RIFF", "a WebP"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"%PDF", "a PDF"),
)


def _kind_of(source: bytes) -> str:
    if not source:
        return "empty"
    if source[4:8] == b"ftyp":
        return "HEIC or another phone format"
    if b"<svg" in source[:1_000]:
        return "an SVG"
    return next((kind for magic, kind in _MAGIC if source.startswith(magic)), "something else")


_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _scans_of(source: bytes) -> int | None:
    """How many scans lie between the JPEG's start and its end mark; None where the mark does not
    come. Looked for segment by segment: what phones put behind the end may hold any bytes.

    Pillow finds a cut only where its decoder runs dry, so a photo that lost its last lines could
    pass it.
    """
    at, scans = 2, 0
    while found := _MARKER.search(source, at):
        marker = source[found.end() - 1]
        if marker == 0xD9:
            return scans
        scans += marker == 0xDA
        at = found.end() + int.from_bytes(source[found.end() : found.end() + 2])
    return None


def _decode(source: bytes) -> Image.Image | None:
    """At most of large size, upright and in sRGB; None where the header says that it has too many
    pixels."""
    try:
        image: Image.Image = Image.open(io.BytesIO(source), formats=["JPEG"])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    if image.width * image.height > PIXELS_MAX:
        return None
    turn = _TURNS.get(_orientation(image))
    width, height = LARGE_SIZE
    # Has the decoder itself shrink it to no less than 1.2 times of what is wanted, by halves.
    image.thumbnail(
        (height, width) if turn in _LYING else (width, height),
        Image.Resampling.LANCZOS,
        reducing_gap=1.2,
    )
    upright = _in_srgb(image)
    return upright if turn is None else upright.transpose(turn)


def _make_card(upright: Image.Image, photo_id: str, scratch: Path) -> Card:
    # Only pixels are taken over; whatever the source carried beside them stays behind.
    plain = Image.new("RGB", upright.size)
    plain.paste(upright)
    small = plain.copy()
    small.thumbnail(CARD_SIZE, Image.Resampling.LANCZOS)
    stem = str(scratch / photo_id)
    return Card(
        photo_id,
        *small.size,
        # Method 2 of 6 takes half the time of the usual 4, for files 0 to 3 % larger.
        *_write_forms(small, stem, webp_method=2, jpeg_quality=82),
        *plain.size,
        *_write_forms(plain, f"{stem}-large", webp_method=1, jpeg_quality=80),
    )


def _write_forms(
    image: Image.Image, stem: str, *, webp_method: int, jpeg_quality: int
) -> tuple[Path, Path]:
    webp, jpeg = Path(f"{stem}.webp"), Path(f"{stem}.jpg")
    image.save(webp, "WEBP", quality=80, method=webp_method)
    image.save(jpeg, "JPEG", quality=jpeg_quality, progressive=True, optimize=True)
    return webp, jpeg


_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = {_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8]}


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        return 1  # damaged EXIF; the picture itself may be sound


def _in_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        try:
            converted = ImageCms.profileToProfile(
                image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), _SRGB, outputMode="RGB"
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # damaged, or a profile of another colour space: taken for sRGB
    return image.convert("RGB")
