"""A campaign as the public meets it, put straight into the database: up to 750 made-up people with
pictures, stories and a cover."""

import functools
import io
import json
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.campaigns import add_campaign

CARD, LARGE, COVER_CARD, COVER = (480, 600), (1200, 1500), (800, 450), (1600, 900)
_SURNAMES = "林周吴郑冯陈褚卫蒋沈韩杨朱秦许何吕施张孔曹严华金魏陶姜"
_GIVEN = "安白川丹恩帆谷海吉可兰明宁平青然书桃文溪雅子远知泽哲言"
_CHANNELS = ("省级推荐", "学会推荐", "企业推荐", "高校推荐")
_PLACES = ("北境", "东岭", "南屏", "西川", "中原", "海岛", "高原", "河湾")
_KINDS = ("农业科学院", "材料研究所", "天文台", "精密机械厂", "附属医院", "理工大学", "水利设计院")
_TITLES = ("研究员", "高级工程师", "主任医师", "教授", "总工程师", "特级技师")
_SUMMARIES = (
    "三十年如一日在盐碱地里选育耐盐水稻，带出的团队把亩产从 120 公斤提高到 480 公斤，让 6 万农户"
    "吃上了自己种的米。",
    "主持研制的 2.5 米口径光学望远镜在海拔 4,500 米的山上观测了 1,800 个夜晚，数据全部向公众开放。",
    "把一台只有 3 名工人的试验车间做成国内第一条柔性生产线，培养了 200 多名技师。",
    "长期在基层门诊，用 11 年时间建立地方病随访档案，使发病率下降九成。",
)
_STORY = (
    "年轻时，他（她）第一次走进试验田，面对的是一片泛白的土地。当地人说，这里连草都不长。\n"
    "“总要有人试一试。”此后 30 年，团队先后筛选 12,000 份材料，失败的记录装满了 14 个铁皮柜；"
    "2019 年，第 7 代材料终于在含盐量 0.6% 的地块上抽穗。\n"
    "如今，这套方法以 Open Data 的形式公开，已有 9 个省份的农技站在使用。谈到将来，回答仍然很短："
    "“把路修好，后面的人走得快一些。”\n"
)


@functools.cache
def _photo(seed, card, large):
    """(card WebP, card JPEG, large WebP, large JPEG): soft shapes with grain, as heavy as a
    photo."""
    rng = random.Random(seed)
    width, height = large
    hue = rng.randrange(255)
    image = Image.new("HSV", large, (hue, 70, 190))
    draw = ImageDraw.Draw(image)
    for _ in range(9):
        x, y, r = rng.randrange(width), rng.randrange(height), rng.randrange(width // 8, width // 2)
        draw.ellipse((x - r, y - r, x + r, y + r), ((hue + rng.randrange(60)) % 255, 90, 150))
    if width < height:  # a head and shoulders
        draw.ellipse((width * 0.12, height * 0.62, width * 0.88, height * 1.4), (hue, 120, 90))
        draw.ellipse((width * 0.33, height * 0.2, width * 0.67, height * 0.62), (20, 80, 215))
        draw.pieslice(
            (width * 0.31, height * 0.15, width * 0.69, height * 0.6), 180, 360, (15, 90, 50)
        )
    image = image.convert("RGB").filter(ImageFilter.GaussianBlur(4))
    sizes = (_grained(image.resize(card), seed, 9), _grained(image, seed, 4.8))
    return tuple(_bytes(one, kind) for one in sizes for kind in ("WEBP", "JPEG"))


def _grained(image, seed, strength):
    grain = np.random.default_rng(seed).normal(0, strength, (image.height, image.width, 1))
    pixels = np.clip(np.asarray(image, dtype=np.float32) + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def _bytes(image, kind):
    written = io.BytesIO()
    image.save(written, kind, quality=78)
    return written.getvalue()


async def add_public_campaign(
    connection,
    campaign_id="spring",
    *,
    candidates=750,
    photos=12,
    title="“匠心星火”科技人物网络点赞",
    page=None,
    is_test=False,
    **options,
):
    """Its number. Candidates are c001, c002 ...; the first one has a story, more photos and a
    video's entry (its file is not there)."""
    rng = random.Random(7)
    number = await add_campaign(connection, campaign_id, candidates=0, **options)
    ids = []
    for n in range(photos):
        ids.append(await _add_photo(connection, f"{n + 1:016x}", n, CARD, LARGE))
    cover = await _add_photo(connection, "c" * 16, 99, COVER_CARD, COVER)
    page = {
        "lead": "他们在田间、在山顶、在车间，把一件事做了一辈子。请为您敬佩的科技工作者点一个赞。",
        "about": "本活动面向在一线长期工作的科技工作者，由各省和学会推荐，公众点赞，专家评选。\n"
        "网络点赞自 7 月 1 日开始，为期一个月，结果供专家评选时参考。全部规则与变更向公众公开。",
        "organiser": "科技人物评选办公室（示例）",
        "contact": "电话 000-0000 0000，邮箱 office@example.cn",
        "colour": "#9d2a1c",
        "cover": cover,
    } | (page or {})
    await connection.execute(
        "UPDATE campaigns SET title = $2, page = $3, is_test = $4 WHERE number = $1",
        number,
        title,
        json.dumps(page),
        is_test,
    )
    rows = []
    for n in range(1, candidates + 1):
        name = rng.choice(_SURNAMES) + "".join(rng.sample(_GIVEN, rng.choice((1, 2, 2))))
        place = rng.choice(_PLACES)
        rows.append(
            (
                number,
                n,
                f"c{n:03}",
                name,
                place + rng.choice(_KINDS),
                f"{place}科学技术协会",
                _CHANNELS[n % len(_CHANNELS)],
                rng.choice(_TITLES),
                rng.choice(_SUMMARIES),
                ids[n % photos] if photos else None,
                _STORY * (2 if n == 1 else 1),
                ids[:4] if n == 1 else [],
            )
        )
    await connection.executemany(
        "INSERT INTO candidates (campaign, number, id, place, name, organisation, unit, channel,"
        " title, summary, photo, story, more_photos)"
        " VALUES ($1, $2, $3, $2, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        rows,
    )
    await connection.execute(
        "INSERT INTO videos VALUES ('abcdef0123456789', 'mp4', 1000000, 125, 1280, 720)"
        " ON CONFLICT DO NOTHING"
    )
    await connection.execute(
        "UPDATE candidates SET video = 'abcdef0123456789' WHERE campaign = $1 AND number = 1",
        number,
    )
    await connection.execute("UPDATE catalog SET version = version + 1")
    return number


async def _add_photo(connection, photo_id, seed, card, large):
    webp, jpeg, large_webp, large_jpeg = _photo(seed, card, large)
    await connection.execute(
        "INSERT INTO photos VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        photo_id, *card, webp, jpeg, *large, large_webp, large_jpeg,
    )  # fmt: skip
    return photo_id
