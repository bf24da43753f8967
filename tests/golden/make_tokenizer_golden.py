#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/: a small byte-level BPE and what the reference library says of it.

    python3 make_tokenizer_golden.py --novels FILE.jsonl.gz     trains tokenizer.json, then the goldens
    python3 make_tokenizer_golden.py                            the goldens of the tokenizer.json there
    python3 make_tokenizer_golden.py --with FILE --out DIR      the goldens of another tokenizer.json

Reference: Hugging Face `tokenizers` 0.23.3 (PyPI). FILE.jsonl.gz: JSON lines with `text` and `source`;
rows of the source english-novels (published 1883-1927) are read, 6 MB of them, beside the sentences
below. The vocabulary is laid out as GPT-NeoX's: two special tokens first, NFC, ByteLevel with its
implicit pattern, and runs of 24 down to 2 spaces as added tokens behind the vocabulary.

lines.jsonl, one object a line:
    t    the text
    n,h  count and FNV-1a hash (64 bits, over little-endian u32) of the ids with specials off
    N,H  the same with specials on, where they differ
    i    the ids themselves (specials off), for every tenth line
variants.json: the same for changed copies of the tokenizer ("patch" replaces top-level members;
"model" inside of it replaces members of the model).

Deterministic: the same seed and library give the same files. All sentences are the project's own.
"""
import argparse
import gzip
import json
import os
import random
import unicodedata

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))

SENTENCES = """
The kettle had boiled twice before anybody noticed that the cat was missing.
She'll say it's fine, but they've been waiting since half past nine and we'd rather go.
"Well," he muttered, "I'm not sure you're right -- don't you think?"
Prices rose by 3.75% to $1,249.99 (incl. VAT) on 2024-02-29 at 17:05:09 UTC.
Der Bäcker verkauft süße Brötchen, größere Brezeln und drei Sorten Käse für 4,50 €.
Über den Flüssen hängt morgens dichter Nebel; erst gegen Mittag wird's heller.
L'élève a oublié son goûter à l'école, où il n'y avait déjà plus personne.
Cœur, naïveté, façade : où qu'il aille, il préfère l'été à l'hiver.
El niño preguntó: ¿cuándo llega el tren? ¡Ya está aquí, qué alegría!
A avó não pôde comprar pão, maçãs nem açúcar às três da manhã.
Dziś wieczorem żółta łódź płynie wąskim kanałem w stronę źródła.
Příliš mnoho sněhu zavřelo horskou silnici už ve středu ráno.
Az öreg tűzoltó fűtött szobában őrzi a három különös emléktárgyat.
İstanbul'da ışıklı bir gece, güneş doğmadan önce çay içtik.
Køkkenet på øen er åbent, selv når færgen er forsinket.
Đường phố hôm nay rất đông, nhưng quán phở vẫn còn chỗ ngồi.
Ο γέρος ψαράς κοίταξε τη θάλασσα και είπε: «αύριο θα φυσήξει νοτιάς».
Ἐν ἀρχῇ τοῦ ἔαρος οἱ ἄνθρωποι ᾄδουσι παρὰ τῇ θαλάσσῃ.
Вчера вечером поезд опоздал на сорок минут, и мы пили чай на вокзале.
У ґанку їжак їв яблуко, а дівчинка рахувала краплі дощу.
Мој брат је јуче купио љубичасту фотељу за њено поткровље.
السوق القديم يفتح أبوابه صباحًا، ويبيع التجار الخبز والتمر والقهوة.
كَتَبَ الطَّالِبُ رِسَالَةً طَوِيلَةً إِلَى أُسْتَاذِهِ.
کتابخانهٔ شهر روزهای جمعه بسته است و می‌توانید شنبه بیایید.
הספרייה נפתחת בשמונה בבוקר, ובשבת היא סגורה כל היום.
בְּבֹקֶר קָר יָצָא הַדַּיָּג אֶל הַיָּם.
सुबह की पहली बस गाँव से छह बजे निकलती है और शहर आठ बजे पहुँचती है।
রাস্তার ধারে পুরোনো বইয়ের দোকানটি আজ বন্ধ আছে।
காலை நேரத்தில் கடற்கரையில் மீனவர்கள் வலைகளை உலர்த்துகிறார்கள்.
పాత వంతెన మీద ఉదయం పొగమంచు చాలా దట్టంగా ఉంటుంది.
ตลาดเช้าริมแม่น้ำเปิดตั้งแต่ตีห้าและขายผลไม้สดทุกวัน
ຕະຫຼາດເຊົ້າເປີດແຕ່ຫ້າໂມງ ແລະມີໝາກໄມ້ສົດ.
မနက်ခင်း ဈေးထဲမှာ ငါးနဲ့ ဟင်းသီးဟင်းရွက်တွေ ရောင်းတယ်။
བོད་ཀྱི་རི་མགོ་ལ་གངས་འབབ་བཞིན་འདུག
ძველი ხიდი მდინარეზე გასულ ზაფხულს შეაკეთეს.
Հին կամուրջը անցյալ ամառ վերանորոգվեց, և հիմա բոլորը գոհ են։
ጠዋት ላይ ገበያው ትኩስ ቡና እና ዳቦ ይሸጣል።
ប្រាសាទចាស់នៅក្បែរទន្លេត្រូវបានជួសជុលកាលពីឆ្នាំមុន។
今天早上市场里卖新鲜的蔬菜,老板说明天会更便宜。
圖書館星期六上午九點開門,請不要帶飲料進去!
昨日の夕方、駅前の小さな喫茶店で「コーヒーゼリー」を食べました。
ガラスの風鈴がチリンと鳴って、ネコは目を覚ました。
아침마다 강가에서 할머니가 따뜻한 두부를 파신다.
오늘은 버스가 늦어서 회의에 십오 분 늦었습니다.
Mañana   café\u00a0résumé\u2003naïve — “quoted” ‘single’ … end.
Ǆ ǅ ǆ Ǳ ﬁ ﬂ ﬀ ẞ ß ſ İ ı K Å Ω ℵ ﷺ ㎏ ㍿ ½ ⅞ ² ₃ Ⅷ ① ㊙
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ∑_{i=0}^{n} i² ≤ ∞
""".strip().split("\n")

CODE = [
    "for (int i = 0; i < n; i++) {\n        sum += a[i] * b[i];\n}",
    "def read(path: str) -> bytes:\n    with open(path, 'rb') as f:\n        return f.read()\n",
    "SELECT id, name FROM users WHERE age >= 21 AND name LIKE 'O''Neil%' ORDER BY 1 DESC;",
    "if err != nil {\n\t\treturn nil, fmt.Errorf(\"open %q: %w\", path, err)\n\t}",
    "<div class=\"row\" data-x='1'>\r\n  <a href=\"#top\">Top &uarr;</a>\r\n</div>",
    "#define MAX(a, b) ((a) > (b) ? (a) : (b))  /* evaluates twice */",
    "let v: Vec<_> = s.split_whitespace().map(|w| w.to_owned()).collect();",
    "$ grep -rn --include='*.c' \"can't\" src/ | sort -u | head -n 20 >/dev/null 2>&1",
    "{\"key\": [1, 2.5e-10, null, true], \"nested\": {\"a\": \"\\u00e9\\n\"}}",
    "x = y ** 2 if y else -1;;  # it's    aligned      by        spaces",
    "0x7fffffff 0b1010 1_000_000 3.14159f 1e-9 'c' \"s\" `raw` @decorator ~/.config",
    "\tif [[ -z \"${HOME:-}\" ]]; then\n\t\techo 'no home'\n\tfi",
]

SPACES = ["\u00a0", "\u1680", "\u180e", "\u2000", "\u2003", "\u2009", "\u200a", "\u200b", "\u200c",
          "\u200d", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", "\u0085",
          "\t", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", " ", "  ", "   "]
EMOJI = ["😀", "👍", "👍🏽", "👩‍🚀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇯🇵", "❤️", "☎︎", "1️⃣", "#️⃣", "🧑🏿‍🦰", "🫠", "🩷", "🐻‍❄️", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "✌🏻",
         "🤷🏾‍♀️", "⏰", "🫱🏻‍🫲🏿", "🪿"]
SPECIAL = ["<|endoftext|>", "<|padding|>", "<|endoftext", "|>", "<|end", "<|", "<|endoftext|><|padding|>"]
SUFFIXES = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'Re", "’s", "’ll", "'", "''s", "'sx",
            "'tis", "'\u017f", "ʼs", "'l", "'r"]
# Where Unicode versions differ between the libraries that Lethe and the reference are built on.
NEW_LETTERS = [0x1C89, 0xA7CB, 0xA7DA, 0x105C0, 0x10D4A, 0x10EC2, 0x1123F, 0x11380, 0x11F04, 0x13460,
               0x16100, 0x16D40, 0x1B132, 0x1DF25, 0x1E030, 0x1E4D0, 0x1E5D0, 0x2EBF0, 0x31350, 0x323AF,
               0x10D40, 0x11F50, 0x1CCF0, 0x1D2C0, 0x1E4F0, 0x1E5F1, 0x180E, 0x2B739, 0x18CFF, 0x88F]
NEW_MARKS = [0x7FD, 0x898, 0x8CA, 0x9FE, 0xC3C, 0xD3B, 0xEBA, 0x1715, 0x1ABF, 0x1ACE, 0x1DF6, 0xA82C,
             0x10D24, 0x10EAB, 0x10EFD, 0x10F46, 0x10F82, 0x11070, 0x1133B, 0x1145E, 0x11839, 0x11930,
             0x11935, 0x1193D, 0x119E0, 0x11D97, 0x11F41, 0x16FF0, 0x1E08F, 0x1E130, 0x1E2AE, 0x1E4EC]


def fnv(ids):
    h = 0xCBF29CE484222325
    for i in ids:
        for b in i.to_bytes(4, "little"):
            h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return "%016x" % h


def words(r):
    return r.choice(r.choice(SENTENCES).split(" "))


def piece(r):
    s = r.choice(SENTENCES)
    if r.random() < 0.3 or len(s) < 8:
        return s
    a = r.randrange(len(s) - 4)
    return s[a:a + r.randint(4, 40)]


def random_char(r):
    while True:
        plane = r.choice([0, 0, 0, 1, 1, 2, 3, 14, 15, 16, r.randint(4, 13)])
        c = plane << 16 | r.randrange(0x10000)
        if c and not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def marks(r, table):
    pool = r.sample(table, 3)
    return "".join(r.choice(table if r.random() < .5 else pool) for _ in range(r.randint(1, 7)))


def line_mixed(r):
    return r.choice([" ", "", ", ", "\n", "/"]).join(piece(r) for _ in range(r.randint(2, 3)))


def line_forms(r):
    form = r.choice(["NFD", "NFD", "NFKD", "NFKC", "NFC"])
    s = unicodedata.normalize(form, piece(r))
    return s if r.random() < .5 else s + r.choice([" ", ""]) + piece(r)


def line_spaces(r):
    out = ""
    for _ in range(r.randint(2, 6)):
        out += words(r) + "".join(r.choice(SPACES) for _ in range(r.randint(1, 3)))
        if r.random() < .4:
            out += " " * r.randint(1, 33)
    return out if r.random() < .8 else r.choice(SPACES) * r.randint(1, 5) + out


def line_code(r):
    s = r.choice(CODE)
    s = s.replace("sum", words(r)).replace("path", words(r)) if r.random() < .6 else s
    if r.random() < .6:
        s = "\n".join(r.choice([" " * r.randint(0, 28), "\t" * r.randint(0, 4)]) + l for l in s.split("\n"))
    return s[r.randrange(max(1, len(s) // 3)):] if r.random() < .5 else s


def line_emoji(r):
    out = ""
    for _ in range(r.randint(1, 6)):
        out += r.choice(EMOJI) + r.choice(["", "", " ", "\u200d", "\ufe0f", words(r)])
    return out if r.random() < .8 else out[:-1]


def line_digits(r):
    zero = r.choice([0x30] * 4 + [0x660, 0x6F0, 0x966, 0xE50, 0xFF10, 0x1D7CE])
    s = "".join(chr(zero + r.randrange(10)) for _ in range(r.randint(1, 60)))
    return r.choice(["", " ", "-", "$", "v"]) + s + r.choice(["", "%", "th", "½", "²", " " + words(r), ".5e3"])


def line_contractions(r):
    return " ".join(words(r).rstrip(".,:;!?") + r.choice(SUFFIXES) for _ in range(r.randint(1, 6)))


def line_marks(r):
    out = ""
    table = [chr(c) for c in range(0x300, 0x370)] + list("\u0591\u05b0\u05bc\u05c1\u064b\u0651\u0654"
             "\u0670\u093c\u094d\u09bc\u0e38\u0e48\u0f71\u0f74\u1dc0\u20d0\u3099\u309a\u0345\u0334\u0342\u0f72")
    for _ in range(r.randint(1, 5)):
        base = r.choice("aeioucnszAEOU αωιЕИ가かハشא\u0915\u0928\u1100\u1161\u2260 ")
        out += base + marks(r, table)
        if r.random() < .3:
            out += chr(r.choice(NEW_MARKS)) + marks(r, table)
    return out


def line_random(r):
    if r.random() < .5:
        return "".join(random_char(r) for _ in range(r.randint(1, 12)))
    start = r.randrange(1, 0x323B0)                 # neighbours: a block's own habits
    chars = [start + r.randrange(40) for _ in range(r.randint(2, 14))]
    return "".join(chr(c) if not 0xD800 <= c <= 0xDFFF else "\ufffd" for c in chars)


def line_new(r):
    return "".join(r.choice([chr(r.choice(NEW_LETTERS) + r.randrange(3)), words(r), " ", "'", "9", "é"])
                   for _ in range(r.randint(2, 8)))


def line_control(r):
    return "".join(r.choice([chr(r.randint(1, 0x1f)), chr(r.randint(0x7f, 0xa0)), words(r), " "])
                   for _ in range(r.randint(1, 9)))


def line_added(r):
    return "".join(r.choice([r.choice(SPECIAL), piece(r), " " * r.randint(1, 60), "\n", "é", words(r)])
                   for _ in range(r.randint(1, 6)))


def line_jamo(r):
    out = ""
    for _ in range(r.randint(1, 8)):
        out += r.choice([
            lambda: chr(0x1100 + r.randrange(20)) + chr(0x1160 + r.randrange(23)) +
            r.choice(["", chr(0x11A7 + r.randrange(29))]),
            lambda: chr(0xAC00 + r.randrange(11172)) + r.choice(["", chr(0x11A8), "\u1161", "\u0301"]),
            lambda: unicodedata.normalize("NFD", chr(0xAC00 + r.randrange(11172))),
            lambda: " "])()
    return out


KINDS = [(line_mixed, 500), (line_forms, 700), (line_spaces, 900), (line_code, 450), (line_emoji, 350),
         (line_digits, 300), (line_contractions, 350), (line_marks, 800), (line_random, 900),
         (line_new, 300), (line_control, 200), (line_added, 450), (line_jamo, 250)]


def make_lines(seed, share=1.0):
    r = random.Random(seed)
    seen, out = set(), []
    for s in (SENTENCES + CODE if share == 1.0 else []) + [k(r) for k, n in KINDS for _ in range(int(n * share))]:
        if s and s not in seen:
            seen.add(s)
            out.append(s)
    return out


def train(novels, path):
    texts, size = [], 0
    with gzip.open(novels, "rt", encoding="utf-8") as f:
        for row in map(json.loads, f):
            if row["source"] == "english-novels" and size < 6_000_000 and hash_id(row["id"]) % 5 == 0:
                texts.append(row["text"])
                size += len(row["text"])
    texts += SENTENCES * 60 + CODE * 60
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.post_processor = processors.ByteLevel(trim_offsets=True)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=5000, min_frequency=2, show_progress=False, special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    t.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    j = json.loads(t.to_str())
    j["model"]["merges"] = [" ".join(m) for m in j["model"]["merges"]]   # as the older files have it
    with open(path, "w", encoding="utf-8") as f:
        json.dump(j, f, ensure_ascii=False, separators=(",", ":"))


def hash_id(text):
    return int(fnv(text.encode()), 16)


def encode_lines(tokenizer, lines, every):
    rows = []
    for k, text in enumerate(lines):
        tokenizer.encode_special_tokens = True       # specials off: they are ordinary text
        off = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        on = tokenizer.encode(text, add_special_tokens=False).ids
        row = {"t": text, "n": len(off), "h": fnv(off)}
        if on != off:
            row.update(N=len(on), H=fnv(on))
        if k % every == 0:
            row["i"] = off
        rows.append(row)
    return rows


def added(base, *tokens):
    out, used = [dict(a) for a in base["added_tokens"]], len(base["model"]["vocab"]) + 23
    for content, flags in tokens:
        flags = flags.split()
        out.append({"id": base["model"]["vocab"].get(content, used), "content": content,
                    "single_word": "single_word" in flags, "lstrip": "lstrip" in flags,
                    "rstrip": "rstrip" in flags, "normalized": "normalized" in flags,
                    "special": "special" in flags})
        used += content not in base["model"]["vocab"]
    return out


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT4 = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
        "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def variants(base):
    pairs = [m.split(" ") for m in base["model"]["merges"]]
    return {
        "prefix space": {"pre_tokenizer": dict(BYTE_LEVEL, add_prefix_space=True, use_regex=True)},
        "no normalizer": {"normalizer": None},
        "sequence of NFC, merges as pairs": {
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}, "model": {"merges": pairs}},
        "split by pattern": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(GPT4), BYTE_LEVEL]}},
        "two splits, prefix space": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            split("\\p{N}{1,2}"), split("[\\s,.]|[^\\p{L}]{3}"),
            dict(BYTE_LEVEL, add_prefix_space=True, use_regex=True)]}},
        "no pattern": {"pre_tokenizer": BYTE_LEVEL},
        "whole words": {"model": {"ignore_merges": True, "merges": base["model"]["merges"][:200]}},
        "added tokens with flags": {"added_tokens": added(
            base, ("<m>", "special lstrip rstrip"), ("cat", "single_word normalized"), ("e\u0301", "normalized"),
            ("the", "lstrip"), ("\n", "rstrip"), ("in", "normalized rstrip single_word"), ("é!", ""), ("'", ""))},
    }


def flag_lines(seed):
    r = random.Random(seed)
    parts = ["<m>", "cat", "cats", "the", "in", "\n", " ", "   ", "\u00a0", "e\u0301", "é", "é!", "_", "1", ",",
             "\u2460", "\u24b6", "\u200d", "\u0301", "X", "'", "<|endoftext|>", "\t", "\u3000", "\u0661"]
    return sorted({"".join(r.choice(parts) for _ in range(r.randint(1, 9))) for _ in range(500)})


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--novels")
    p.add_argument("--with", dest="other")
    p.add_argument("--out", default=os.path.join(HERE, "tokenizer"))
    p.add_argument("--seed", type=int, default=20240229)
    args = p.parse_args()
    path = args.other or os.path.join(args.out, "tokenizer.json")
    if args.novels:
        train(args.novels, path)
    with open(path, encoding="utf-8") as f:
        base = json.load(f)
    with open(os.path.join(args.out, "lines.jsonl"), "w", encoding="utf-8") as f:
        for row in encode_lines(Tokenizer.from_file(path), make_lines(args.seed), 10):
            f.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    if args.other:
        return
    out = []
    for k, (name, patch) in enumerate(variants(base).items()):
        changed = dict(base, **{m: v for m, v in patch.items() if m != "model"})
        changed["model"] = dict(base["model"], **patch.get("model", {}))
        lines = make_lines(args.seed + 1 + k, 0.035) + (flag_lines(args.seed) if "flags" in name else [])
        if "merges as pairs" in name:
            patch = dict(patch, model={"merges": "pairs"})      # the test makes them itself
        if "whole words" in name:
            patch = dict(patch, model={"ignore_merges": True, "merges": 200})
        out.append({"name": name, "patch": patch,
                    "lines": encode_lines(Tokenizer.from_str(json.dumps(changed)), lines, 10)})
    with open(os.path.join(args.out, "variants.json"), "w", encoding="utf-8") as f:
        f.write("[" + ",\n".join(json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in out) + "]\n")


if __name__ == "__main__":
    main()
