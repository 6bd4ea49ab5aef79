"""The hard corpus: texts on which tokenizers tend to differ. Seeded; the same on every run."""

import random
import unicodedata

SCRIPTS = """\
The quick brown fox doesn't jump; it's what they'll say we've done. I'D, YOU'LL, HE'S, dont'nt ''s 'S
Zażółć gęślą jaźń. Çok güzel! Straße, naïve façade, ſtraße 'ſ 'ſs K (Kelvin) Å (Angstrom) İstanbul ıI ΟΔΟΣ ὈΔΥΣΣΕΎΣ
Съешь ещё этих мягких французских булок, да выпей чаю. Ѐ Ѕ ѝ
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ὕβρις ᾳ ᾴ ΐ
日本語の文章を、分かち書きせずに。カタカナ、ひらがな、漢字。ﾊﾝｶｸ ㍿ ㈱ 々 〆 〇
中文没有空格，所以分词比较困难。「引号」《书名》——破折号……
한국어 문장입니다. 각 각 ㅎㅎㅎ ᄒᆞᆫ
هذه جملة باللغة العربية، مع تشكيل: مُحَمَّدٌ ٠١٢٣٤٥٦٧٨٩ ۰۱۲۳ ﷺ ﻻ
זוהי שורה בעברית עם ניקוד: שָׁלוֹם
यह हिन्दी में एक वाक्य है। क्षत्रिय ज़ क़ १२३४ श्री
ภาษาไทยไม่มีช่องว่างระหว่างคำ ๑๒๓ น้ำ
தமிழ் மொழி కన్నడ ಕನ್ನಡ മലയാളം ລາວ မြန်မာ ខ្មែរ ქართული հայերեն አማርኛ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ ᠮᠣᠩᠭᠣᠯ བོད་ཡིག
𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 ⅷ Ⅻ ½ ¼ ² ³ ¹ ① ⑴ ⓐ Ⓩ 🄰 🅐 🅰 ﬁ ﬂ ﬃ ﬅ ﬆ ﷽ ㎏ ℃ № ™
ǅ ǈ Ǆ ʰ ʷ ª º ـ ‿ ⁀ ＿ ＡＢＣ １２３ ！？ 　全角
""".splitlines()

EMOJI = [
    "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷🇯🇵🇺", "👍🏽👍🏿", "❤️ ❤ ☺︎", "👩🏻‍🚀👩🏻‍🚀", "1️⃣#️⃣", "😀😃😄 😁\n😆", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
]

NORMAL_FORMS = [
    "é vs e\u0301", "Å Å A\u030a", "\u1e9b\u0323 \u017f\u0323\u0307", "q\u0307\u0323 q\u0323\u0307", "가 \u1100\u1161 각 \u1100\u1161\u11a8",
    "\u0344 \u0f73 \u0958 \u2adc \ufb1d", "\u0301", "\u0301\u0327abc", " \u0301 \u200d\u0308", "a\u0327\u0301\u0323\u0302b" * 5,
    "ö̲ o\u0332\u0308", "e" + "\u0301\u0323" * 300, "\u212b\u2126\u212a", "\u0cca\u0ccb \u0dda\u0ddc", "\U0001d15e \U000110ab",
]

CONTROLS = [
    "\x00", "a\x00b", "\x01\x02\x1b[31mred\x1b[0m", "\x7f\x80\x85\x9f", "\ufeffBOM", "\u200b\u200c\u200d\u2060\u180e x\u180ey",
    "\u202eabc\u202c", "\ufffd\ufffe\uffff", "\ue000\U000f0000\U0010ffff", "\xad soft\xadhyphen", "\u2028\u2029line", "tab\there\x0b\x0c",
]

SPACES = [
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\t\t\t", "\r", "\r\n", "\r\n\r\n", " \n", "\n ", " \n \n  x", "a ", " a", "  a  ",
    "a  b   c    d", "a\nb\r\nc\rd", "a \n\n b", "x\t\n\ty", "    indent\n        more\n\treturn", "a" + " " * 100 + "b", " " * 1000,
    "\n" * 1000, "\t" * 257 + "x", "a\u00a0b\u00a0\u00a0c", "\u3000\u2003\u2009x\u205f\u202f\u1680y", "\r \r\n \n\r  z", "a\u0085b \u0085 c",
    "▁", "▁▁a", " ▁ a▁", "a▁b ▁c", "▁ ▁", "Ġword Ċ", "trailing   ",
]

DIGITS = [
    "0", "1234567890", "12 345 678.90", "3.14159e-10", "0x1F600", "v1.2.3-rc4", "1,000,000", "١٢٣٤٥٦٧", "१२३४५", "x²+y³=z¹⁰", "Ⅳ ⅳ ↉ ½",
    "2024-01-31T12:34:56Z", "007" * 50, "1a2b3c", "௧௨௩", "𝟘𝟙𝟚𝟛𝟜",
]

CODE = [
    "def f(x):\n    return x**2  # square\n\n\nclass A:\n\tpass\n",
    'int main(int argc, char** argv) {\r\n  printf("%d\\n", argc);\r\n}\r\n',
    "<html><body class='a'>&nbsp;&lt;</body></html>",
    '{"key": [1, 2.5e3, null, "\\u00e9"], "k": {}}',
    "SELECT * FROM t WHERE a='b' AND c<>d; -- ok",
    "for(;;){a[i++]=*p--;}//!!??::<<>>&&||==!=",
    "https://example.com/a?b=c&d=%20#frag user@example.org /usr/lib64/x.so.1",
    "\\frac{\\alpha}{\\beta} $x_{i,j}^2$ \\\\[1em]",
    "CamelCaseWordsAndHTTPServer snake_case_words kebab-case __init__ _x_",
    "!!!???...---___***((()))[[]]{}~~``^^||",
]

SPECIAL = [
    "<s>", "</s>", "<unk>", "<s>hello</s>", "a<s>b </s> c", "<s><s></s>", "<0x0A>", "<0x41>x", "<|endoftext|>", "text<|endoftext|>text",
    "<|endoftext|><|endoftext|>", "<|endoftext", "<|endoftext|", "x [L] y", "x   [L]   y", "[L]", " [L] ", "\n[L]\n", "x [R] y", "x   [R]   y",
    "[R] [R] [R]", "[L] [R] [L]", "  [R][L]  ", "[LR]", "a \t[LR]\n\u3000 b", "[W]", "x[W]", "[W]x", "x [W] y", "-[W]-", "é[W]", "[W]\u0301",
    "_[W]", "[W]\u200d", "[W]1", "ab abc abcd xabcdx", "Yesterday yesterday YESTERDAY", "cafe\u0301 café", "[N] [n]", "word wordy sword word",
    "<start_of_turn>user\nhi<end_of_turn>\n", "\n\n<s>\n\n", "   <s>   x   </s>   ", "[L]" * 20, "[L] " * 20, " [R]" * 20,
    "<|im_start|>system\nYou are.<|im_end|>\n<|im_start|>", "<|fim_prefix|>", "</s", "<s", "s>", "< s >",
]


def assigned(first, last):
    """Code points of Unicode 14, which all tables involved know (Python 3.11 has Unicode 14)."""
    return [c for c in range(first, last + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]


def fuzz(count, seed):
    generator = random.Random(seed)
    everything = assigned(0, 0x10FFFF)
    bands = [assigned(*band) for band in [(0x20, 0x7E), (0, 0xFF), (0x300, 0x36F), (0x370, 0x5FF), (0x900, 0xDFF), (0x1100, 0x11FF),
                                          (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2100, 0x2BFF), (0x3000, 0x30FF), (0xAC00, 0xAD00),
                                          (0xF900, 0xFFFD), (0x1D400, 0x1D7FF), (0x1F1E6, 0x1F6FF)]]
    bands += [everything, [ord(c) for c in " \n\t\r "], [ord(c) for c in "'sStTmMdDlLrReEvV "], [ord(c) for c in "aab 11.,\n▁"]]
    marks = [c for c in everything if unicodedata.combining(chr(c))]
    bands.append(marks)
    snippets = SPECIAL[:40] + ["'s", "'LL", " ", "  ", "\n", "é", "\u0301", "ab", "123"]
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(generator.randint(1, 6)):
            if generator.random() < 0.25:
                parts.append(generator.choice(snippets))
            else:
                band = generator.choice(bands)
                parts.append("".join(chr(generator.choice(band)) for _ in range(generator.randint(1, 8))))
        texts.append("".join(parts))
    return texts


def short_texts():
    texts = [*SCRIPTS, *EMOJI, *NORMAL_FORMS, *CONTROLS, *SPACES, *DIGITS, *CODE, *SPECIAL, "\n".join(SCRIPTS), "".join(EMOJI)]
    return texts + [unicodedata.normalize(form, text) for form in ("NFC", "NFD") for text in SCRIPTS]


def every_code_point():
    """All assigned code points, each between letters and after a space, in texts of 64."""
    points = assigned(0, 0x10FFFF)
    return ["".join(f"a{chr(c)}b {chr(c)}" for c in points[i:i + 64]) for i in range(0, len(points), 64)]


def long_texts():
    generator = random.Random(7)
    letters = "".join(generator.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(1 << 20))
    mixed = "".join(chr(generator.choice([0x61, 0x4E2D, 0xE9, 0x1F600])) for _ in range(1 << 18))
    return [letters, "a" * (1 << 20), mixed, " " * (1 << 20), "\n" * (1 << 20) + "x", "1" * (1 << 20), "a b" * (1 << 18), "A" * (1 << 20),
            "e" + "\u0323\u0301" * (1 << 17), " \n" * (1 << 18), "[L] " * (1 << 11)]
