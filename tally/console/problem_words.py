"""Problems of a campaign folder in Chinese.

voting/intake says them in English, for the command line as for this console, each as one sentence
with its values in it. Here the sentences are known by their form; what is new there, and not here,
stays English, and a test finds it.
"""

import re

_FORMS: tuple[tuple[str, str], ...] = (
    # Of the upload.
    (
        r"is no part of a campaign: (.+) are",
        r"不属于活动文件夹：应为 campaign.toml、名单、photos/ 下的 JPEG、"
        r"videos/ 下的 MP4 或 MOV，或 cover.jpg",
    ),
    (r"is a link or a device, not a file", r"是链接或设备，不是文件"),
    (r"is encrypted", r"已加密"),
    (r"has a name that leads elsewhere, or cannot be one", r"文件名指向别处，或不能作为文件名"),
    (r"has (\S+) more problems", r"另有 \1 个问题"),
    (r"holds more than (\S+) files", r"超过 \1 个文件"),
    (r"holds more than (\S+) bytes", r"超过 \1 字节"),
    (r"is larger than (\S+) (bytes|kB|MB)", r"大于 \1 \2"),
    (r"is no zip that can be read: (.+)", r"不是可以读取的 zip：\1"),
    (r"cannot be unpacked: (.+)", r"无法解压：\1"),
    (r"was chosen twice", r"选择了两次"),
    (r"is (.+) once more", r"与 \1 重复"),
    # Of any file.
    (r"cannot be read: (.+)", r"无法读取：\1"),
    (r"is no file", r"不是文件"),
    (r"is missing", r"缺少"),
    (r"is empty", r"是空的"),
    # Of campaign.toml.
    (r"is not a known key", r"不是已知的项"),
    (r"must be a table", r"须为一个表"),
    (r"must be text in quotes", r"须为引号内的文字"),
    (r"must be a list of texts", r"须为文字列表"),
    (r"must be a date and time with offset, as in (.+)", r"须为带时区偏移的日期和时间，如 \1"),
    (r"has no offset: write one, as in (.+)", r"没有时区偏移：请写明，如 \1"),
    (r"must be between 2000 and 2099", r"须在 2000 年至 2099 年之间"),
    (r"must be an hour and minute in quotes, as in (.+)", r"须为引号内的时和分，如 \1"),
    (r"must be a rate in quotes, as in (.+)", r"须为引号内的频率，如 \1"),
    (r"(.+) is no rate: write .+", r"\1 不是频率：请写成 1 至 999999 的整数和单位，如 30/minute"),
    (r"must be a known time zone, as in (.+)", r"须为已知的时区，如 \1"),
    (
        r"must be scheme://host or scheme://host:port alone, .+",
        r"只能写协议和主机（及端口），如 https://www.example.cn，末尾不带斜杠",
    ),
    (r"has a port above 65535", r"端口超过 65535"),
    (r"names a channel twice", r"同一渠道出现两次"),
    (
        r"must be a public key in quotes, as `dianzan portal key` prints it",
        r"须为引号内的公钥，即 dianzan portal key 所输出的",
    ),
    (r"is no base64", r"不是 base64"),
    (r"is a private key: .+", r"是私钥：请重新生成一对，只在此处写公钥"),
    (r"is no Ed25519 public key: that has 32 bytes", r"不是 Ed25519 公钥：公钥为 32 字节"),
    (r"is no Ed25519 public key: .+", r"不是 Ed25519 公钥：内容不完整，或是别的文字"),
    (r"is a key with which anybody can sign", r"是任何人都能用来签名的弱公钥"),
    (r"names a portal twice", r"同一网站出现两次"),
    (r"names (.+), which is none of portal.origins", r"写了 \1，但它不在 portal.origins 中"),
    (
        r"is required, and no portal has a key: nobody could like",
        r"要求登录，但没有网站有公钥：将无人能点赞",
    ),
    (r"names no host \(.+\)", r"没有主机名（含中文的主机名写作 xn--...）"),
    (r"names no host", r"没有主机名"),
    (r"must be of a-z, 0-9 and -, and not begin with -", r"只能用 a-z、0-9 和 -，且不以 - 开头"),
    (r"must come after opens_at \((.+)\)", r"须晚于开始时间（\1）"),
    (r"is not UTF-8: save it in that encoding", r"不是 UTF-8：请以该编码保存"),
    (r"is nested too deeply", r"嵌套过深"),
    (r"is no TOML: (.+)", r"不是 TOML：\1"),
    (
        r"lets one device give (\S+) likes a day; at most (\S+): set .+",
        r"会让一台设备每天点赞 \1 次，最多 \2 次：请设 candidates_per_day，或减少每位候选人的次数",
    ),
    (r"Input should be greater than or equal to (.+)", r"须不小于 \1"),
    (r"Input should be less than or equal to (.+)", r"须不大于 \1"),
    (r"Input should be (.+)", r"须为 \1"),
    (r"(?:String|Value|List|Dictionary|.+) should have at most (\d+) .+", r"最多 \1 个"),
    # Of the list.
    (
        r"is missing, and so is candidates.csv: one of them is needed",
        r"缺少，candidates.csv 也没有：须有其一",
    ),
    (
        r"stands beside candidates.xlsx: take one of them away",
        r"与 candidates.xlsx 并存：请去掉其一",
    ),
    (r"none of the first (\S+) rows has the column names \((.+)\)", r"前 \1 行都没有列名（\2）"),
    (r"stands twice in the header", r"在表头出现两次"),
    (r"is no known column: not read", r"不是已知的列：未读取"),
    (
        r"is missing from the header: (\S+) or (\S+) is needed .+",
        r"表头缺少：须有 \1 或 \2 以区分候选人",
    ),
    (r"is missing from the header", r"表头缺少"),
    (r"is not in the header: no candidate has one", r"表头没有此列：候选人都没有照片"),
    (r"has no candidate below the header", r"表头下没有候选人"),
    (r"is one cell more than the header has: .+", r"比表头多一格：文字中的逗号须加引号"),
    (r"is under no column name: not read, here and below", r"上方没有列名：此处及以下未读取"),
    (r"is in UTF-16: save it as (.+)", r"是 UTF-16：请另存为\1"),
    (r"is neither UTF-8 nor GB18030: save it as (.+)", r"既不是 UTF-8 也不是 GB18030：请另存为\1"),
    (r"is no CSV: (.+)", r"不是 CSV：\1"),
    (r"has more than (\S+) columns", r"超过 \1 列"),
    (r"has more than (\S+) rows", r"超过 \1 行"),
    (r"has more than (\S+) candidates", r"超过 \1 位候选人"),
    (r"has more than (\S+) characters", r"超过 \1 个字符"),
    (r"holds more than (\S+) characters", r"超过 \1 个字符"),
    (r"unpacks to more than (\S+) MB", r"解压后超过 \1 MB"),
    (
        r"is an old .xls file, or has a password: save it as .xlsx without one",
        r"是旧的 .xls 文件或有密码：请另存为无密码的 .xlsx",
    ),
    (r"is damaged or no XLSX file: (.+)", r"已损坏或不是 XLSX：\1"),
    (r"is damaged or no XLSX file", r"已损坏或不是 XLSX"),
    (
        r"is damaged, or has a cell far away from the list: .+",
        r"已损坏，或在名单很远处有单元格：请只把名单复制到新文件",
    ),
    (
        r"sheet (.+) reaches to row (\S+), column (\S+); at most (\S+) rows and (\S+) columns .+",
        r"工作表 \1 延伸到第 \2 行、第 \3 列；最多读取 \4 行、\5 列：请只把名单复制到新文件",
    ),
    (
        r"must be 1 to 32 of A-Z, a-z, 0-9, _ and -",
        r"须为 1 至 32 个字符，可用 A-Z、a-z、0-9、_ 和 -",
    ),
    (r"must be a whole number from 1", r"须为从 1 起的整数"),
    (r"must be a whole number", r"须为整数"),
    (r"(\S+) is in row (\S+) already", r"\1 已在第 \2 行"),
    (r"is the person of row (\S+) once more", r"与第 \1 行是同一人"),
    (r"is none of \[channels\]: (.+)", r"不在 [channels] 之中：\1"),
    (
        r"(.+) \((.+)\) puts forward (\S+) candidates; the quota is (\S+)",
        r"\1（\2）推荐了 \3 位候选人；名额为 \4",
    ),
    (r"holds (U\+\S+), which most devices cannot show", r"含有多数设备无法显示的 \1"),
    (r"holds a control character \((.+)\)", r"含有控制字符（\1）"),
    (
        r"holds a replacement character \(U\+FFFD\): .+",
        r"含有替代字符（U+FFFD）：曾以错误的编码保存",
    ),
    (r"holds an invisible character \((.+)\): type it anew", r"含有看不见的字符（\1）：请重新输入"),
    # Of the pictures.
    (r"the office asks for at least (\S+) MB", r"评选办公室要求至少 \1 MB"),
    (r"must be a file's name alone, without a folder", r"只能写文件名，不带文件夹"),
    (r"no row names it: not imported", r"名单中没有写到：不导入"),
    (r"is not in (\S+)/", r"不在 \1/ 中"),
    (r"is the photo of row (\S+) too", r"也是第 \1 行的照片"),
    (r"is the video of row (\S+) too", r"也是第 \1 行的视频"),
    (r"is the (\S+) of row (\S+) too", r"也用于第 \2 行"),
    (r"is named twice here", r"在此写了两次"),
    (r"names more than (\S+) videos", r"视频多于 \1 个"),
    (r"names more than (\S+) \S+", r"照片多于 \1 张"),
    (r"(\S+) does not name it: not imported", r"\1 没有写到它：不导入"),
    (r"must be a colour as in (.+)", r"须为颜色，如 \1"),
    (r"is not a JPEG but (.+)", r"不是 JPEG，而是 \1"),
    # Of the videos.
    (r"is not named .mp4 or .mov", r"文件名须以 .mp4 或 .mov 结尾"),
    (r"is not an MP4 or MOV but (.+)", r"不是 MP4 或 MOV，而是 \1"),
    (r"is in fragments, as streams are: .+", r"是分片的流式文件：请另存为一个普通的 MP4"),
    (r"has an index of more than (\S+) MB", r"索引超过 \1 MB"),
    (r"has more than (\S+) parts", r"超过 \1 个部分"),
    (r"has more than (\S+) tracks", r"超过 \1 条轨道"),
    (r"has a compressed index: save it anew as MP4", r"索引是压缩的：请重新另存为 MP4"),
    (r"has no picture, or none that is known", r"没有可识别的画面"),
    (r"has no length", r"没有时长"),
    (r"is (\S+) long; at most (\S+) can be taken", r"时长 \1，最多 \2"),
    (
        r"is in (\S+), which many browsers do not play: .+",
        r"是 \1 编码，许多浏览器不能播放：H.264 最稳妥",
    ),
    (
        r"has pictures \((.+)\) that no browser plays: .+",
        r"画面编码（\1）浏览器不能播放：请另存为 H.264",
    ),
    (
        r"has sound \((.+)\) that few browsers play: .+",
        r"声音编码（\1）少有浏览器能播放：请用 AAC 另存",
    ),
    (
        r"has (\S+) MB, which is much on a phone: .+",
        r"有 \1 MB，手机上太大：1080p、5 Mbit/s 已经够用",
    ),
    (r"is cut off or damaged: it has no index \(moov\)", r"不完整或已损坏：没有索引（moov）"),
    (
        r"is cut off or damaged: it has no pictures in it \(mdat\)",
        r"不完整或已损坏：没有内容（mdat）",
    ),
    (
        r"is cut off or damaged: it does not say how long it is \(mvhd\)",
        r"不完整或已损坏：没有写明时长（mvhd）",
    ),
    (r"is cut off or damaged: it counts no time", r"不完整或已损坏：时间单位为零"),
    (r"is cut off or damaged: ffprobe cannot read it", r"不完整或已损坏：ffprobe 无法读取"),
    (r"is cut off or damaged", r"不完整或已损坏"),
    (r"has (\S+) scans, more than any camera writes", r"有 \1 次扫描，没有相机会这样写"),
    (r"has more than (\S+) megapixels", r"超过 \1 百万像素"),
    # Of what is there already.
    (
        r"was (\S+) when the campaign opened: days and daily quotas shift",
        r"活动开始时是 \1：每天的界线和次数会移动",
    ),
    (r"the campaign would need more than (\S+) candidate numbers", r"候选人号码将超过 \1 个"),
    (
        r"(\S+) \((.+)\) is in the campaign and not in this list: will be withdrawn, .+",
        r"\1（\2）在活动中而不在名单上：将作退出处理，票数和号码保留",
    ),
    (
        r"(\S+) \((.+)\) was withdrawn on (\S+): comes back with all votes",
        r"\1（\2）于 \3 退出：将恢复，票数都在",
    ),
    (
        r"(\S+) was (.+) and is (.+) now: the votes of .+",
        r"\1 原为\2，现为\3：\2的票将归\3。如果名单重新编了号，请用回原来的编号；"
        r"只是更正姓名才可以确认",
    ),
    (r"(\S+) was (.+) and is (.+) now", r"\1 原为\2，现为\3"),
)
_KNOWN = tuple((re.compile(form, re.DOTALL), chinese) for form, chinese in _FORMS)
_ASKS = re.compile(r"; import with --accept-changes if that is meant$")
"""What only the command line can do; the page asks below the list."""


def in_chinese(message: str) -> str:
    """A problem's sentence; as it is where its form is not known."""
    message = _ASKS.sub("", message)
    for form, chinese in _KNOWN:
        if found := form.fullmatch(message):
            return found.expand(chinese)
    return message


def in_english(message: str) -> str:
    """The same without what only the command line can do."""
    return _ASKS.sub("", message)
