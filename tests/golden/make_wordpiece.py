#!/usr/bin/env python3
"""Makes tests/golden/wordpiece.json: varied lines and their ids by Hugging Face's tokenizers library.

usage: make_wordpiece.py OUT.json      (needs the tokenizers package; the output is kept, not remade)

Four tokenizers share one small vocabulary: lower case with accents stripped (the default), cased, lower
case with accents kept, and one without cleaning and without Chinese characters set apart. Lines come
from fixed lists and a seeded generator, so that a run gives the same file.
"""
import json
import random
import sys

import tokenizers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

random.seed(20261124)
WORDS = """the of and to in a is that it for was on are with as his they at be this from have or by one had not
but what all were when we there can an your which their said if do will each about how up out them then she
many some so these would other into has more her two like him see time could no make than first been its who
now people my made over did down only way find use may water long little very after words called just where
most know river stone garden language encrypted unbelievable tokenization straße cafe café naïve über ångström
deja vu déjà Istanbul İstanbul привет мир Москва καλημέρα ΣΊΣΥΦΟΣ שלום مرحبا नमस्ते สวัสดี 한국어 안녕 日本語 こんにちは
データ 你好 世界 中文 数据""".split()
ODD = ["\ufffd", "\u200d", "\u200b", "\u00ad", "\ufeff", "\t", "\r\n", "\u00a0", "\u2028", "\u3000",
       "\u0085", "\u000b", "\u202e", "\ue000", "\U000f0000", "\u0378", "\U0001f600", "\U0001f468\u200d\U0001f469",
       "\u0301", "e\u0301", "\u1e9b\u0323", "\uac00", "\u1100\u1161", "\u20dd", "\u0903", "ﬁ", "Ⅷ", "½", "²", "ª",
       "…", "—", "«", "»", "“", "”", "¿", "§", "$", "€", "+", "<", "=", ">", "^", "`", "|", "~", "_", "'", "don't",
       "[UNK]", "[CLS]", "[cls]", "[SEP]x", "a[PAD]b", "##ing", "Ǆ", "ẞ", "ŉ", "ΐ", "\U00020000", "\u9fff", "\uf900",
       "\U0002f800", "\U0002b740", "\U0002b820", "\U0001d400", "x" * 100, "x" * 101, "é" * 100, "ab" * 60, "中" * 5,
       "\u0b95\u0bcd", "\u0e33", "\u0f71\u0f72", "\u1ab0", "\u302a", "\u3099", "か\u3099", "\U00011132", "\u061c", "\u180e"]


def vocabulary():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = set()
    for form in WORDS + [w.lower() for w in WORDS]:
        alphabet |= set(form)
    alphabet |= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    import unicodedata
    alphabet |= set(unicodedata.normalize("NFD", "".join(sorted(alphabet))))
    alphabet |= set(".,!?'\"-()[]:;/$€…—«»")
    alphabet = sorted(alphabet - set(" \t\n"))
    tokens += alphabet + ["##" + c for c in alphabet]
    for w in WORDS:
        for form in (w, w.lower(), w[:3], "##" + w[2:], "##" + w[-3:]):
            if len(form) > 1 and form != "##":
                tokens.append(form)
    return {t: i for i, t in enumerate(dict.fromkeys(tokens))}


def make(vocab, **options):
    t = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer(**options)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return t


def lines():
    out = list(WORDS) + list(ODD)
    while len(out) < 520:
        parts = []
        for _ in range(random.randint(1, 7)):
            word = random.choice(WORDS if random.random() < 0.7 else ODD)
            if len(word) > 50:
                continue
            kind = random.random()
            parts.append(word.upper() if kind < 0.1 else word.title() if kind < 0.2 else word)
        out.append(random.choice([" ", " ", " ", "", ",", ". ", "-", "\u00a0"]).join(parts))
    return out[:520]


def main():
    vocab = vocabulary()
    kinds = {
        "lower": dict(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True),
        "cased": dict(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=False),
        "accents": dict(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=True),
        "raw": dict(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False),
    }
    all_lines = lines()
    golden = {
        "provenance": {"by": "tests/golden/make_wordpiece.py", "library": "tokenizers",
                       "version": tokenizers.__version__, "seed": 20261124},
        "tokenizers": {k: json.loads(make(vocab, **v).to_str()) for k, v in kinds.items()},
        "lines": all_lines,
        "ids": {k: [make_ids for make_ids in (t.encode(line, add_special_tokens=False).ids
                                              for t in [make(vocab, **v)] for line in all_lines)]
                for k, v in kinds.items()},
    }
    for k in kinds:     # the vocabulary once
        golden["tokenizers"][k]["model"]["vocab"] = {}
    golden["vocab"] = list(vocab)
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        json.dump(golden, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
