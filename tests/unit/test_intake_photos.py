"""photos/: what is taken, what is not, and what a card-size picture keeps of its source."""

import io
import unicodedata

import pytest
from PIL import Image, ImageCms

from tests.campaign_folders import jpeg, people, places, write_folder
from voting.intake import photos
from voting.intake.folder import check_folder
from voting.intake.photos import examine

CSV = "candidates.csv"
ENOUGH = 2_000_000


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def check(tmp_path, scratch):
    """Check a folder of people with these photos named, and these files in photos/."""

    def run(named: list[str], files: dict[str, bytes] | None, known=frozenset()):
        rows = [
            person | {"照片": name} for person, name in zip(people(len(named)), named, strict=True)
        ]
        return check_folder(write_folder(tmp_path / "f", rows, photos=files), scratch, known)

    return run


def picture(pixels: dict[tuple[int, int], tuple[int, int, int]], size, **options) -> bytes:
    """A JPEG with squares of 40 pixels in it."""
    image = Image.new("RGB", size, (255, 255, 255))
    for corner, colour in pixels.items():
        image.paste(colour, (*corner, corner[0] + 40, corner[1] + 40))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=95, **options)
    return encoded.getvalue()


def near(pixel, colour, by=40):
    return all(abs(a - b) <= by for a, b in zip(pixel, colour, strict=True))


# What becomes of a sound photo.


def test_a_sound_photo_becomes_two_pictures_of_card_size(check):
    checked = check(["a.jpg"], {"a.jpg": jpeg((1350, 1700), at_least_bytes=ENOUGH)})
    assert checked.problems == ()
    [card] = checked.cards
    assert checked.photo_ids == {"c001": card.id}
    assert len(card.id) == 24
    assert (card.width, card.height) == (476, 600)
    for path, form in ((card.webp, "WEBP"), (card.jpeg, "JPEG")):
        with Image.open(path) as image:
            assert (image.format, image.size) == (form, (476, 600))
            assert near(image.convert("RGB").getpixel((200, 300)), (200, 30, 30))
    with Image.open(card.jpeg) as image:
        assert image.info.get("progressive")


def test_the_large_picture_is_for_a_page(check):
    [card] = check(["a.jpg"], {"a.jpg": jpeg((3000, 4000))}).cards
    assert (card.large_width, card.large_height) == (1125, 1500)
    assert (card.width, card.height) == (450, 600)
    for path, form in ((card.large_webp, "WEBP"), (card.large_jpeg, "JPEG")):
        with Image.open(path) as image:
            assert (image.format, image.size) == (form, (1125, 1500))
            assert near(image.convert("RGB").getpixel((200, 300)), (200, 30, 30))


@pytest.mark.parametrize(
    ("size", "large", "card_size"),
    [
        ((90, 120), (90, 120), (90, 120)),
        ((700, 800), (700, 800), (480, 549)),
        ((4000, 900), (1200, 270), (480, 108)),
    ],
)
def test_a_small_photo_is_not_blown_up(check, size, large, card_size):
    [card] = check(["a.jpg"], {"a.jpg": jpeg(size)}).cards
    assert (card.width, card.height) == card_size
    assert (card.large_width, card.large_height) == large


def test_a_photo_is_decoded_once(check, monkeypatch):
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda *a, **kw: opened.append(a) or real(*a, **kw))
    assert len(check(["a.jpg"], {"a.jpg": jpeg((1350, 1700))}).cards) == 1
    assert len(opened) == 1


def test_nothing_of_the_sources_metadata_stays(check):
    exif = Image.Exif()
    exif[0x010F] = "Camera-of-Zhen"
    exif[0x8825] = {1: "N", 2: (39.0, 54.0, 27.0)}
    source = jpeg(
        (600, 800),
        exif=exif.tobytes(),
        comment=b"comment-of-Zhen",
        icc_profile=srgb_profile(),
    )
    assert b"Camera-of-Zhen" in source
    [card] = check(["a.jpg"], {"a.jpg": source}).cards
    for path in (card.webp, card.jpeg, card.large_webp, card.large_jpeg):
        with Image.open(path) as image:
            assert not image.getexif()
            assert not {"icc_profile", "comment", "exif", "xmp"} & image.info.keys()
        assert b"Zhen" not in path.read_bytes()


# Where a red square in the upright picture's top left corner, and a blue one right of it, lie in
# the stored pixels of 400 x 500 (or 500 x 400), by EXIF orientation.
STORED = {
    1: ((0, 0), (360, 0), (400, 500)),
    2: ((360, 0), (0, 0), (400, 500)),
    3: ((360, 460), (0, 460), (400, 500)),
    4: ((0, 460), (360, 460), (400, 500)),
    5: ((0, 0), (0, 360), (500, 400)),
    6: ((0, 360), (0, 0), (500, 400)),
    7: ((460, 360), (460, 0), (500, 400)),
    8: ((460, 0), (460, 360), (500, 400)),
}


@pytest.mark.parametrize("orientation", STORED)
def test_the_picture_is_upright_whatever_way_the_camera_was_held(check, orientation):
    red, blue, size = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = picture({red: (255, 0, 0), blue: (0, 0, 255)}, size, exif=exif.tobytes())
    [card] = check(["a.jpg"], {"a.jpg": source}).cards
    with Image.open(card.jpeg) as image:
        assert image.size == (400, 500)
        assert near(image.getpixel((15, 15)), (255, 0, 0))
        assert near(image.getpixel((385, 15)), (0, 0, 255))


def test_a_lying_photo_fits_the_card_after_it_was_turned(check):
    exif = Image.Exif()
    exif[0x0112] = 6
    [card] = check(["a.jpg"], {"a.jpg": jpeg((3000, 2400), exif=exif.tobytes())}).cards
    assert (card.width, card.height) == (480, 600)


@pytest.mark.parametrize(("mode", "colour"), [("L", 128), ("CMYK", (0, 255, 255, 0))])
def test_grey_and_print_photos_become_plain_colour(check, mode, colour):
    [card] = check(["a.jpg"], {"a.jpg": jpeg((300, 400), colour, mode=mode)}).cards
    for path in (card.webp, card.jpeg):
        with Image.open(path) as image:
            assert image.mode == "RGB"


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_colours_are_converted_from_the_photos_own_profile(check):
    # Says that red light is green, and green red.
    swapped = srgb_profile().replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ")
    swapped = swapped.replace(b"????", b"gXYZ")
    [card] = check(["a.jpg"], {"a.jpg": jpeg((300, 400), icc_profile=swapped)}).cards
    with Image.open(card.jpeg) as image:
        assert near(image.getpixel((100, 100)), (30, 200, 30))


def test_a_profile_that_cannot_be_used_is_thrown_away(check):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (lab, srgb_profile()[:99], b"no profile"):
        [card] = check(["a.jpg"], {"a.jpg": jpeg((300, 400), icc_profile=profile)}).cards
        with Image.open(card.jpeg) as image:
            assert near(image.getpixel((100, 100)), (200, 30, 30))


def test_damaged_metadata_costs_the_metadata_alone(check):
    source = jpeg((300, 400), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    checked = check(["a.jpg"], {"a.jpg": source})
    assert places(checked.problems, "error") == []
    assert len(checked.cards) == 1


def test_a_photo_that_is_known_already_is_not_made_again(check, scratch):
    files = {"a.jpg": jpeg(at_least_bytes=ENOUGH)}
    [card] = check(["a.jpg"], files).cards
    card.webp.unlink()
    again = check(["a.jpg"], files, known=frozenset({card.id}))
    assert again.cards == ()
    assert again.photo_ids == {"c001": card.id}
    assert not card.webp.exists()


# Names.


def test_a_photo_is_found_decomposed_and_with_its_suffix_in_capitals(check):
    stored = unicodedata.normalize("NFD", "Zoé.JPG")
    checked = check(["Zoé.jpg"], {stored: jpeg()})
    assert places(checked.problems, "error") == []
    assert len(checked.cards) == 1


def test_the_exact_name_wins_over_a_like_one(check):
    files = {"a.JPG": jpeg((50, 50)), "a.jpg": jpeg((60, 60))}
    widths = {}
    checked = check(["a.JPG", "a.jpg"], files)
    for card in checked.cards:
        widths[card.id] = card.width
    assert [widths[checked.photo_ids[c]] for c in ("c001", "c002")] == [50, 60]


def test_a_photo_that_is_named_and_missing_is_an_error(check):
    for files in ({"b.jpg": jpeg(at_least_bytes=ENOUGH)}, {}, None):
        checked = check(["", "a.jpg"], files)
        [problem] = [p for p in checked.problems if p.level == "error"]
        assert places([problem]) == [(CSV, 4, "照片")]
        assert (problem.value, "not in photos/" in problem.message) == ("a.jpg", True)


def test_no_way_leads_out_of_the_folder(check, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(jpeg(at_least_bytes=ENOUGH))
    ways = ["../../secret.jpg", "..\\secret.jpg", "..", ".", str(tmp_path / "secret.jpg"), "a/b"]
    checked = check(ways, {})
    assert places(checked.problems) == [(CSV, row, "照片") for row in range(3, 9)]
    assert all("without a folder" in problem.message for problem in checked.problems)


def test_a_folder_that_is_named_like_a_photo_is_an_error(check, tmp_path):
    check([""], {})
    (tmp_path / "f" / "photos" / "a.jpg").mkdir()
    [problem] = check(["a.jpg"], {}).problems
    assert "is no file" in problem.message


def test_a_photo_that_no_row_names_is_a_warning(check):
    checked = check(["a.jpg"], {"a.jpg": jpeg(at_least_bytes=ENOUGH), "old.jpg": b""})
    assert places(checked.problems, "warning") == places(checked.problems)
    assert places(checked.problems) == [("photos/old.jpg", None, None)]


def test_a_file_name_in_another_encoding_can_be_shown(check, tmp_path):
    check([""], {})
    (tmp_path / "f" / "photos" / b"\xd5\xe7.jpg".decode("utf-8", "surrogateescape")).touch()
    [problem] = check([""], {}).problems
    assert problem.file.encode("utf-8")


def test_one_photo_for_two_people_is_a_warning(check):
    checked = check(["a.jpg", "a.jpg"], {"a.jpg": jpeg(at_least_bytes=ENOUGH)})
    assert places(checked.problems, "warning") == [(CSV, 4, "照片")]
    assert "row 3" in checked.problems[0].message
    assert checked.photo_ids["c001"] == checked.photo_ids["c002"]


# What is no sound photo.


def encoded(form: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (90, 120)).save(content, form)
    return content.getvalue()


def truncated(keep: float) -> bytes:
    whole = picture({(9, 9): (1, 2, 3), (200, 99): (200, 2, 99)}, (400, 500))
    return whole[: int(len(whole) * keep)]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"portrait of a scientist", "something else"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
        (encoded("PNG"), "a PNG"),
        (encoded("WEBP"), "a WebP"),
        (encoded("GIF"), "a GIF"),
        (b"\0\0\0\x18ftypheic" + bytes(90), "HEIC"),
        (b"\xff\xd8\xff", "cut off or damaged"),
        (b"\xff\xd8\xff\xe0" + bytes(500) + b"\xff\xd9", "cut off or damaged"),
        (truncated(0.1), "cut off or damaged"),
        (truncated(0.5), "cut off or damaged"),
        (truncated(0.999), "cut off or damaged"),
        (jpeg()[:200] + jpeg()[-2:], "cut off or damaged"),
    ],
)
def test_what_is_no_whole_jpeg_is_an_error(check, content, word):
    checked = check(["", "a.jpg"], {"a.jpg": content})
    assert places(checked.problems) == [(CSV, 4, "照片")]
    assert (checked.problems[0].level, checked.problems[0].value) == ("error", "a.jpg")
    assert word in checked.problems[0].message
    assert checked.cards == ()


def test_under_2_mb_is_a_warning(check):
    files = {"a.jpg": jpeg(at_least_bytes=ENOUGH - 1), "b.jpg": jpeg(at_least_bytes=ENOUGH)}
    checked = check(["a.jpg", "b.jpg"], files)
    assert places(checked.problems, "warning") == places(checked.problems) == [(CSV, 3, "照片")]
    assert "at least 2 MB" in checked.problems[0].message


def with_size(source: bytes, width: int, height: int) -> bytes:
    """The same JPEG, whose header claims another size."""
    at = source.index(b"\xff\xc0") + 5
    return source[:at] + height.to_bytes(2) + width.to_bytes(2) + source[at + 4 :]


@pytest.mark.parametrize("size", [(8_000, 5_001), (10_000, 10_000), (65_500, 65_500)])
def test_over_40_megapixels_is_an_error_before_anything_is_decoded(tmp_path, scratch, size):
    # There are pixels for 90 x 120 in it only: who decoded it would find it damaged.
    (tmp_path / "a.jpg").write_bytes(with_size(jpeg((90, 120)), *size))
    examined = examine(tmp_path / "a.jpg", frozenset(), scratch)
    assert examined.fault == "has more than 40 megapixels"


def test_40_megapixels_are_taken(check):
    checked = check(["a.jpg"], {"a.jpg": jpeg((8_000, 5_000))})
    assert places(checked.problems, "error") == []


def test_over_50_mb_is_an_error_and_not_read(check, tmp_path):
    check([""], {})
    with (tmp_path / "f" / "photos" / "a.jpg").open("wb") as file:
        file.truncate(50_000_001)
    [problem] = check(["a.jpg"], {}).problems
    assert (problem.level, "50 MB" in problem.message) == ("error", True)


def test_a_jpeg_of_very_many_scans_is_an_error(check):
    source = jpeg((64, 64), progressive=True)
    scan = source.index(b"\xff\xda")
    many = source[:scan] + source[scan:-2] * 70 + source[-2:]
    [problem] = check(["a.jpg"], {"a.jpg": many}).problems
    assert "scans" in problem.message


def test_a_full_disk_is_not_called_a_damaged_photo(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    with pytest.raises(OSError, match="No such file"):
        examine(tmp_path / "a.jpg", frozenset(), tmp_path / "gone")


def test_the_id_is_of_the_source_and_of_the_recipe(tmp_path, scratch, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "b.jpg").write_bytes(jpeg())
    first = examine(tmp_path / "a.jpg", frozenset(), scratch).id
    assert examine(tmp_path / "b.jpg", frozenset(), scratch).id == first
    monkeypatch.setattr(photos, "RECIPE", "another")
    assert examine(tmp_path / "a.jpg", frozenset(), scratch).id != first
