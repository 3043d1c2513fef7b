#!/usr/bin/env python3
"""Texts of many kinds, and what transformers' tokenizers make of them.

    make_tokenizer_texts.py [--out tests/golden]

Needs transformers and sentencepiece. Writes tokenizer_t5_texts, a SentencePiece model trained on such texts (in the form of T5's), and
tokenizer_texts.json: `texts`, and for that tokenizer (`t5`) and the one of tokenizer_qwen2_batch (`qwen2`) the ids of all texts one after another (`ids`, end token included,
nothing cut) and how many each text has (`lengths`).
"""

import argparse
import json
import pathlib
import random

from diffusers_cases.text import t5_of, train_unigram

HERE = pathlib.Path(__file__).parent

SENTENCES = [
    "A robot arm lifts the red cup from the table.", "the camera pans slowly to the left, then right",
    "SNOW AND RAIN ON A BRIDGE", "We'll turn; they're stopping -- don't!", "O'Neil's car isn't John's, it's Mary's",
    "He said: \"stop\", and left.", "(kitchen) [warehouse] {forest} <street>", "end with a space ", " begin with one",
    "a-b_c/d\\e|f", "5 cups, 12 boxes and 345 trucks", "3.14159 x 10^-7 = ?", "1,234,567.89", "2024-11-29T12:51:00Z", "+49 (0)30 1234",
    "007", "1/2 + 3/4", "v2.0.1-rc3", "#ff8800", "100%", "$5 £6 ¥7 €8", "http://example.org/a?b=c&d=%20#e", "me@example.org",
    "def f(x):\n    return x ** 2  # squared\n", "for (int i = 0; i < n; ++i) { a[i] += b; }", "{\"key\": [1, 2.5, null]}",
    "<html><body>&amp; &lt;</body></html>", "SELECT * FROM t WHERE x != 'y';",
]
ACCENTS = [
    "café", "cafe\u0301", "naïve façade", "Ångström", "A\u030angstro\u0308m", "señor niño", "über Größe", "ÜBER GRÖSSE", "œuvre æther",
    "İstanbul ıslak", "Łódź żółć", "Příliš žluťoučký kůň", "Đặng Thị Thanh", "e\u0301\u0302\u0303", "ﬁne ﬂow oﬃce", "ǅ ǆ Ǆ", "ﷺ", "ŉ", "ſtraſze",
    "Ω\u2126", "K\u212a", "½ ¾ ⅓", "x² + y³", "①②③ ⑩", "Ⅳ ⅷ", "ｆｕｌｌ ＷＩＤＴＨ １２３", "ﾊﾝｶｸ ｶﾅ", "㎏ ㎡ ㍿",
]
SCRIPTS = [
    "世界模型", "机器人把红色的杯子放在桌子上。", "機器人，把紅色的杯子放在桌子上！", "你好，世界 hello 123", "日本語のテキストです。", "カメラがゆっくり動く",
    "ロボットはコップを押す、3回。", "が (か\u3099)", "안녕하세요 세계", "한글 (\u1112\u1161\u11ab)", "로봇이 컵을 3번 밀었다.", "Привет, мир!", "робот толкает чашку",
    "Ελληνικά και Αγγλικά", "שלום עולם", "שָׁלוֹם", "مرحبا بالعالم", "العربيّة ١٢٣", "नमस्ते दुनिया", "हिन्दी १२३", "สวัสดีชาวโลก", "ສະບາຍດີ", "ខ្មែរ", "မြန်မာ", "தமிழ் உரை",
    "বাংলা", "ქართული", "Հայերեն", "አማርኛ", "ᏣᎳᎩ", "ᓀᐦᐃᔭᐍᐏᐣ", "𐍈𐌰𐌽", "𝕏 𝐛𝐨𝐥𝐝 𝟙𝟚", "𠮷野家 𡨸", "中文English混合text文本", "、。「」『』【】", "！？：；",
]
EMOJI = [
    "😀", "😀😃😄", "robot 🤖 lifts ☕", "👩‍🚀", "👨‍👩‍👧‍👦 family", "👍🏽 👍🏿", "🇩🇪🇯🇵", "1️⃣ 2️⃣ #️⃣", "❤️ vs ❤︎", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🙂\u200d", "a😀b😀c", "😀 😀\n😀", "✈️→🚗",
    "☺", "🫨🪿",
]
SPACES = [
    "", " ", "  ", "\n", "\n\n", "\t", "\r\n", " \n ", "a b", "a  b", "a   b", "a\tb", "a\nb", "a\n\nb", "a\r\nb", "a\rb", " a", "  a", "a ", "a  ",
    "\na\n", "a \n b", "a\n  b", "a\u00a0b", "a\u2003b", "a\u3000b", "a\u200bb", "\ufeffa", "a\u2028b", "a\u0085b", "a\u000bb\u000cc", "x\u00adhy\u00adphen", "a\u200eb\u200f",
    ".\n\n\n  end", "tabs\t\t\tand  spaces \t mixed", "1 \n2", "'s 'S 't", " 's", "it 's",
]
ODD = [
    "\u0001\u0002\u007f", "\ufffd", "\ue000", "\U000f0000", "\ufdd0", "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306", "\u0301a", "\u0301", "▁", "▁a ▁b", "a▁b", "Ġ", "ĠaĊb",
    "…—–‒", "“quoted” ‘single’", "‹«»›", "¿qué? ¡sí!", "№ § ¶ † ‡", "∑∫√∞≠≤≥", "←↑→↓↔", "♠♣♥♦♪", "█▓▒░", "☂☃☄", "@@@@", "!!!???...", "''''", "\"\"\"\"", "-----", "______",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "zzzyqx qxzzzy", "0000000000", "a1b2c3", "a" * 5 + "9" * 5, "CamelCaseWord snake_case_word", "l'été d'où qu'il",
]
SPECIAL = [
    "<unk>", "<pad> a", "a </s> b", "</s>", "a</s>", "<extra_id_0>", "fill <extra_id_3> in <extra_id_99>.", "<s>", "<|endoftext|>", "<|im_start|>user\nhello<|im_end|>\n",
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nA cup.<|im_end|>\n", "a<|im_end|>b", " <|im_start|> ", "<|im_start", "< |im_start|>",
    "<tool_call>", "<think>",
]


def all_texts():
    texts = [*SENTENCES, *ACCENTS, *SCRIPTS, *EMOJI, *SPACES, *ODD, *SPECIAL]
    texts.append(" ".join(SENTENCES[:8]) * 6)  # over any prompt's limit
    texts.append("机器人推杯子，" * 90)
    draw = random.Random(4)
    parts = [*SENTENCES, *ACCENTS, *SCRIPTS, *EMOJI, *SPACES, *ODD]
    for _ in range(40):  # neighbours of every kind
        texts.append("".join(draw.choice(parts)[: draw.randint(1, 12)] + draw.choice(["", " ", "  ", "\n", ","]) for _ in range(draw.randint(2, 6))))
    return list(dict.fromkeys(texts))


def t5_tokenizer(folder):
    """Many of the letters above are pieces of it, alone and with their neighbours, so that a letter too many or too few shows."""
    draw = random.Random(5)
    known = [text for text in [*SENTENCES, *ACCENTS, *SCRIPTS, *EMOJI, *ODD] if text.strip()]
    spiece = train_unigram([" ".join(draw.choices(known, k=3)) for _ in range(3000)], vocab=1500, coverage=0.9999)
    tokenizer = t5_of(spiece)
    folder.mkdir(exist_ok=True)
    (folder / "spiece.model").write_bytes(spiece)
    added = {str(i): {"content": str(token)} for i, token in sorted(tokenizer.added_tokens_decoder.items())}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "added_tokens_decoder": added}) + "\n")
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    args = parser.parse_args()
    from transformers import AutoTokenizer

    texts = all_texts()
    told = {"texts": texts}
    for name, tokenizer in (("t5", t5_tokenizer(args.out / "tokenizer_t5_texts")),
                            ("qwen2", AutoTokenizer.from_pretrained(HERE / "tokenizer_qwen2_batch/model"))):
        rows = [tokenizer(text).input_ids for text in texts]
        told[name] = {"ids": [i for row in rows for i in row], "lengths": [len(row) for row in rows]}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in told.items()]
    (args.out / "tokenizer_texts.json").write_text("{" + ",\n ".join(lines) + "}\n")
    print(len(texts), "texts")


if __name__ == "__main__":
    main()
