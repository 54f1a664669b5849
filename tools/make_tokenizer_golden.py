#!/usr/bin/env python3
"""Makes what the tokenizer's exactness rests on, with Hugging Face's own `tokenizers`.

    python3.11 -m venv venv && venv/bin/pip install tokenizers unicodedata2
    venv/bin/python tools/make_tokenizer_golden.py tables > src/lieq/text/reference_unicode.inc
    venv/bin/python tools/make_tokenizer_golden.py golden [SHARED] > tests/text/tokenizer.golden.json

tables  how the Unicode data inside `tokenizers` differs from PCRE2's and utf8proc's
golden  ids of texts that try every option, and hashes of the ids of every code point; SHARED is the
        folder with tokenizers/*/tokenizer.json (default: ../shared beside the repository)

Python 3.11 has Unicode 14, as Debian 12's PCRE2 10.42; unicodedata2 has the newest.
"""

import json
import pathlib
import sys
import unicodedata

from tokenizers import NormalizedString, Regex, Tokenizer, __version__, normalizers

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp "
              "Cc Cf Co Cn").split()


def reference_categories():
    """General category of every code point as the regex engine inside `tokenizers` knows it."""
    text = "".join(map(chr, CODE_POINTS))
    categories = {}
    for category in CATEGORIES:
        position = 0
        for piece in NormalizedString(text).split(Regex(r"\p{%s}+" % category), "isolated"):
            piece = str(piece.normalized)
            # A piece is a run of members or a run of others: its first character tells.
            first = NormalizedString(piece[0])
            first.replace(Regex(r"\p{%s}" % category), "")
            if not first.normalized:
                for c in piece:
                    categories[ord(c)] = category
            position += len(piece)
        assert position == len(text)
    assert len(categories) == len(CODE_POINTS)
    return categories


def utf8_bytes(c):
    return len(chr(c).encode())


def stand_ins():
    """Code points younger than Unicode 14, each with the nearest older one of its category and
    length; and U+180E, a format character that PCRE2's \\s matches and Oniguruma's does not."""
    assert unicodedata.unidata_version == "14.0.0"
    categories = reference_categories()
    older = {}
    for c in CODE_POINTS:
        if unicodedata.category(chr(c)) == categories[c] and c != 0x180E:
            older.setdefault((categories[c], utf8_bytes(c)), []).append(c)
    rows = []
    for c in CODE_POINTS:
        if unicodedata.category(chr(c)) == categories[c] and c != 0x180E:
            continue
        candidates = older[categories[c], utf8_bytes(c)]
        if rows and rows[-1][1] == c - 1 and categories[c] == categories[rows[-1][0]]:
            rows[-1][1] = c
        else:
            rows.append([c, c, min(candidates, key=lambda other: (abs(other - c), other))])
    return rows


def inert():
    """Code points that Unicode's normalization moves or composes and the reference's, of an older
    Unicode, leaves alone."""
    import unicodedata2 as newest
    nfc = normalizers.NFC().normalize_str
    found = set()

    def moves(c):
        mark = "\u0327" if newest.combining(chr(c)) != 202 else "\u0301"
        return any(nfc("a" + s) != "a" + s for s in (chr(c) + mark, mark + chr(c)))

    for c in CODE_POINTS:
        if newest.combining(chr(c)) and not moves(c):
            found.add(c)
        decomposition = newest.decomposition(chr(c))
        if not decomposition or decomposition.startswith("<"):
            continue
        full = newest.normalize("NFD", chr(c))
        if nfc(full) != newest.normalize("NFC", full):
            parts = [int(part, 16) for part in decomposition.split()]
            assert nfc(full) == full and nfc(chr(c)) == chr(c)
            found.update([c] + [p for p in parts if not newest.combining(chr(p)) or not moves(p)])
    rows = []
    for c in sorted(found):
        if rows and rows[-1][1] == c - 1:
            rows[-1][1] = c
        else:
            rows.append([c, c])
    return rows


def print_tables():
    import unicodedata2 as newest
    print(f"// Made by tools/make_tokenizer_golden.py with tokenizers {__version__}, "
          f"Unicode {unicodedata.unidata_version} and {newest.unidata_version}.")
    print("// clang-format off")
    for name, row_type, rows in (("kStandIns", "StandInRange", stand_ins()),
                                 ("kInert", "CodePointRange", inert())):
        print(f"inline constexpr {row_type} {name}[] = {{")
        for row in rows:
            print("    {" + ", ".join(f"0x{c:04X}" for c in row) + "},")
        print("};")
    print("// clang-format on")


# Golden ids.

def alphabet():
    """The byte-level alphabet: byte -> character."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def added_tokens(vocab, added):
    """Entries of "added_tokens": with the ids of the vocabulary, or behind it."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": False}
    tokens, next_id = [], len(vocab)
    for token in added:
        known = token["content"] in vocab
        tokens.append({"id": vocab[token["content"]] if known else next_id} | flags | token)
        next_id += not known
    return tokens


def tiny(added=(), dropped="", merges=("t h", "th e", "\u0120 the", "\u0120 a", "e r", "\u00c3 \u00a9"),
         pre_tokenizers=None, normalizer=None, post_processor=None, **model):
    """A tokenizer of the bytes and a few merges, to try one option."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": pre_tokenizers is None}
    characters = [c for c in alphabet().values() if c not in dropped]
    vocab = {c: i for i, c in enumerate(characters)}
    for extra in model.pop("extra_tokens", ()):
        vocab[extra] = len(vocab)
    for merge in merges:
        vocab.setdefault(merge.replace(" ", ""), len(vocab))
    tokens = added_tokens(vocab, added)
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
        "normalizer": normalizer,
        "pre_tokenizer": byte_level if pre_tokenizers is None else {
            "type": "Sequence", "pretokenizers": [*pre_tokenizers, byte_level]},
        "post_processor": post_processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": list(merges), **model},
    }


def split(regex):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def template(*pieces):
    ids = {"<s>": 262, "</s>": 263}
    single = [{"Sequence": {"id": "A", "type_id": 0}} if piece == "A" else
              {"SpecialToken": {"id": piece, "type_id": 0}} for piece in pieces]
    return {"type": "TemplateProcessing", "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in ids.items()}}


def replace(this, by):
    return {"type": "Replace", "pattern": {"String": this}, "content": by}


def metaspace(scheme="first", cut=False, mark="\u2581"):
    return {"type": "Metaspace", "replacement": mark, "prepend_scheme": scheme, "split": cut}


def literal_split(text, behavior, invert=False):
    return {"type": "Split", "pattern": {"String": text}, "behavior": behavior, "invert": invert}


def strip(start=1, stop=0):
    return {"type": "Strip", "content": " ", "start": start, "stop": stop}


# Of these alone, to keep the file small.
FALLBACKS = sorted({*"\0\t\n\u0004 </>su_-1qz\u65e5\u672c\U0001fae8\u0301c\u0127".encode()})
PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, replace(" ", "\u2581")]}
TO_TEXT = [replace("\u2581", " "), {"type": "ByteFallback"}, {"type": "Fuse"}]


def characters(added=(), letters="\u2581abehrt\u00e9", dropped=(), merges=(
        "t h", "th e", "\u2581 the", "\u2581 a", "\u2581 \u2581", "e r", "\u2581the r", "\u2581 th", "\u2581th e",
        "a a", "aa aa", "b a", "ab ab"), extra_tokens=("<unk>", "<s>", "</s>"), normalizer=None,
        pre_tokenizer=None, post_processor=None, decoder=(*TO_TEXT, strip()), **model):
    """A tokenizer of characters with bytes to fall back to, to try one option."""
    vocab = {}
    names = [*extra_tokens, *(f"<0x{b:02X}>" for b in FALLBACKS if b not in dropped), *letters]
    parts = [part for merge in merges for part in (*merge.split(), merge.replace(" ", ""))]
    for name in [*names, *parts]:
        vocab.setdefault(name, len(vocab))
    tokens = added_tokens(vocab, added)
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
        "decoder": {"type": "Sequence", "decoders": list(decoder)} if isinstance(decoder, tuple) else decoder,
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                  "vocab": vocab, "merges": list(merges)} | model,
    }


def character_features():
    """The same of tokenizers over characters: the families of Llama 2, Mistral, Phi-3 and Gemma."""
    plain = ["", " ", "  ", "the there  the\n\nthe", " the", "the ", "   a", "caf\u00e9 \u00e9\u00e9",
             "\u65e5\u672c \U0001fae8 x", "a\u0000b", "\t the \u2581the \u2581\u2581", "aaaaaaa abababab bababa",
             "atherathera" * 12, "a z\u65e5q a"]
    special = {"special": True}
    marks = [{"content": "<unk>"} | special, {"content": "<s>"} | special, {"content": "</s>"} | special]
    around = ["<s>the</s>", "<s> the", "the<s>the  <s> a", " <s> </s>a", "<s><s></s>", "<s", "a <s>"]
    gemma = {"normalizer": replace(" ", "\u2581"), "pre_tokenizer": literal_split(" ", "MergedWithPrevious"),
             "decoder": tuple(TO_TEXT)}
    yield "prepend", characters(marks, normalizer=PREPEND), plain + around
    yield "gemma", characters(marks + [{"content": "\u2581\u2581"}, {"content": "\n\n"}], **gemma), plain + around
    yield "gemma_ignore_merges", characters(marks, ignore_merges=True, extra_tokens=(
        "<unk>", "<s>", "</s>", "a\u2581the", "\u65e5\u672c"), **gemma), plain + ["a the", "a the a", "\u65e5\u672c"]
    for scheme in ("first", "always", "never"):
        for cut in (False, True):
            yield f"metaspace_{scheme}_{cut}", characters(
                marks, pre_tokenizer=metaspace(scheme, cut)), plain + around
    yield "metaspace_behind_splits", characters(marks, pre_tokenizer={"type": "Sequence", "pretokenizers": [
        split(r"\n+"), metaspace("first", True)]}), plain + around
    yield "metaspace_of_old_files", characters(marks, pre_tokenizer={
        "type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True, "str_rep": "\u2581"}), plain
    for scheme in ("first", "never"):
        yield f"metaspace_decoder_{scheme}", characters(
            marks, pre_tokenizer=metaspace(scheme), decoder=metaspace(scheme)), plain + around
    yield "metaspace_then_bytes", characters(marks, pre_tokenizer=metaspace(), decoder=(
        metaspace(), {"type": "ByteFallback"}, {"type": "Fuse"})), plain + around
    yield "no_fallback", characters(marks, byte_fallback=False, normalizer=PREPEND), plain + ["z zz z\u65e5\u672cz"]
    yield "no_fallback_no_fuse", characters(marks, byte_fallback=False, fuse_unk=False), plain + ["z zz"]
    yield "no_unknown_token", characters(byte_fallback=False, unk_token=None), plain + ["azzb tzh"]
    yield "some_bytes", characters(marks, dropped=(0xE6, 0x7A), normalizer=PREPEND), plain + [
        "z\u65e5q\u65e5z a", "zq", "qz", "zzq\u65e5a"]
    yield "decoded_without_fallback", characters(marks, decoder=(replace("\u2581", " "), {"type": "Fuse"})), plain
    yield "strips_two", characters(marks, decoder=(*TO_TEXT, strip(2))), plain + around
    yield "replaces_more", characters(marks, normalizer={"type": "Sequence", "normalizers": [
        replace("ba", "the"), {"type": "NFC"}, replace(" ", "\u2581"), replace("e\u2581", "e")]}), plain + [
            "ba bab", "cafe\u0301 the the"]
    for behavior in ("Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield f"split_{behavior}_{invert}", characters(
                pre_tokenizer=literal_split("a", behavior, invert)), ["aabaab", "baab", "a", "b", "aatheaa", "theaathe"]
    yield "split_regex_with_next", characters(pre_tokenizer=split(r"\s+|b") | {"behavior": "MergedWithNext"}), plain
    yield "added_flags", characters([{"content": "<s>", "lstrip": True} | special,
                                     {"content": "</s>", "rstrip": True} | special], normalizer=PREPEND), [
        *around, "a </s>  \t <s> b", "</s> the", "the </s> the"]
    yield "added_normalized", characters([
        {"content": "<s>", "normalized": True} | special, {"content": "a b", "normalized": True},
        {"content": "er", "normalized": True}], **gemma), around + ["a b", "the a bther", "a\u2581b"]
    yield "added_normalized_prepend", characters([
        {"content": "<s>", "normalized": True} | special, {"content": "the", "normalized": True}],
        normalizer=PREPEND), around + ["the athe the"]
    words = ["the", "a the b", "athe", "thea", "the1", "the_", "the-the", "\u00e9the", "the\u0301 the", "thethe the",
             "\u24d0the", "the\u200d", "the\u00bd", "the\u2167", "\u65e5the\u672c", "the\u0660", "the\U0001fae8the"]
    yield "single_word", characters([{"content": "the", "single_word": True}], **gemma), words
    yield "single_word_of_bytes", tiny([{"content": "the", "single_word": True},
                                        {"content": "the", "single_word": True}][:1]), words
    yield "fused_bytes", tiny(dropped="\u0104t", merges=("h e",), extra_tokens=["<unk>"],
                              unk_token="<unk>", fuse_unk=True), ["a\u0004\u0004b", "tthe tt\u0004", "\u0004 t"]


def features():
    """(name, tokenizer.json, texts): each option that is supported, on texts where it matters."""
    plain = ["", "the there  the\n\nthe", "caf\u00e9 na\u00efve \u00e9\u00e9", "\u65e5\u672c \U0001fae8 x",
             "12 345 \u0663\u0664 \u00bd\u2167 a1b2\U00011de3", "a\u0000b\u0004c", "  \t the   "]
    special = {"special": True}
    marks = [{"content": "<s>"} | special, {"content": "</s>"} | special]
    around = ["<s>the</s>", "the  <s>  the \u2003</s>\n x", "<s><s> </s></s>", "<s", "<s>s>", "</s"]
    yield "plain", tiny(), plain
    yield "nfc", tiny(normalizer={"type": "NFC"}), plain + [
        "cafe\u0301 e\u0301\u0327 e\u0327\u0301", "\u1112\u1161\u11ab \ud55c \u1112\u1161", "\u212b \uf900 \u0344",
        "\u0301the", "a\u08d3\u0327\u0301 \u0897\u0327", "\U00011935\U00011930", "\u1ebf \u1ebf\u0323 e\u0323\u0302"]
    yield "nfc_in_sequence", tiny(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}]}), [
        "cafe\u0301"]
    yield "digits", tiny(pre_tokenizers=[{"type": "Digits", "individual_digits": True}]), plain
    yield "digits_in_runs", tiny(merges=("1 2", "12 3", "3 4"), pre_tokenizers=[
        {"type": "Digits", "individual_digits": False}]), plain + ["1234 a123b"]
    yield "missing_bytes", tiny(dropped="\u0120\u0104\u00a9", merges=("t h", "th e")), plain
    yield "unknown_token", tiny(dropped="\u0104t", merges=("h e",), extra_tokens=["<unk>"],
                                unk_token="<unk>"), plain + ["a\u0004\u0004b"]
    yield "ignore_merges", tiny(extra_tokens=["zebra", "\u0120zebra", "zeb"], ignore_merges=True), [
        "zebra zebra zeb zebras"]
    yield "merges_first", tiny(extra_tokens=["zebra", "\u0120zebra", "zeb"]), ["zebra zebra zeb zebras"]
    yield "added", tiny(added=marks), plain + around
    yield "added_not_special", tiny(added=[{"content": "<s>"}, {"content": "<s>the"}, {"content": "s>"}]), around
    yield "added_strips", tiny(added=[
        {"content": "<s>", "lstrip": True}, {"content": "</s>", "rstrip": True},
        {"content": " \t", "rstrip": True}]), around + ["a </s>  \t <s> b", "x\u00a0\u0085<s>", "x\u180e<s>"]
    yield "added_in_vocabulary", tiny(added=[{"content": "the"}, {"content": "\u0120a"}]), [
        "the there a\u0120a a", "theethe"]
    yield "added_normalized", tiny(normalizer={"type": "NFC"}, added=[
        {"content": "e\u0301t", "normalized": True}, {"content": "o\u0301", "normalized": False}]), [
        "e\u0301t\u00e9 \u00e9t o\u0301 \u00f3 e\u0301 t", "\u00e9to\u0301\u00e9t"]
    yield "added_not_of_bytes", tiny(added=[{"content": "\u65e5"}, {"content": "\u00e9 x"}, {"content": "\u00e9"}]), [
        "\u65e5\u672c \u00e9 x \u00e9"]
    yield "template", tiny(added=marks, post_processor=template("<s>", "A")), ["", "the", "<s>the"]
    yield "template_at_the_end", tiny(added=marks, post_processor={"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        template("<s>", "A", "</s>", "<s>")]}), ["", "the"]
    yield "two_splits", tiny(pre_tokenizers=[split("[\u4e00-\u9fa5]+"), split(r"\s+(?!\S)|\p{L}{1,3}")]), plain
    o200k = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
             r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
             r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
             r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    yield "o200k", tiny(pre_tokenizers=[split(o200k)]), plain + ["McDonald's CAN'T can\u2019t//\n", "a'\u017f b'S"]


# Blocks of code points whose ids are hashed, [first, last]: planes 0 to 3 and the tags of plane 14.
SWEPT = [(first, first + 0xFFF) for first in [*range(0, 0x40000, 0x1000), 0xE0000, 0x10F000]]


def sweep_text(first, last):
    """Each code point among letters, digits, spaces, itself and marks."""
    return "".join(f"x{c}y{c}{c} {c}1{c}\u0301\u0327{c}\u0316\n"
                   for c in map(chr, range(first, last + 1)) if not 0xD800 <= ord(c) < 0xE000)


def fnv1a(ids):
    value = 0xCBF29CE484222325
    for i in ids:
        for byte in i.to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def print_golden(shared):
    golden = {"made_with": f"tokenizers {__version__}", "features": [], "sweeps": []}
    for name, document, texts in [*features(), *character_features()]:
        tokenizer = Tokenizer.from_str(json.dumps(document))
        cases = []
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            with_special = tokenizer.encode(text).ids
            cases.append({"text": text, "ids": ids, "ids_with_special": with_special,
                          "decoded": tokenizer.decode(with_special, skip_special_tokens=False),
                          "decoded_without_special": tokenizer.decode(with_special)})
        golden["features"].append({"name": name, "tokenizer": document, "cases": cases})
    files = [("models/sample", REPOSITORY / "models/sample/tokenizer.json")]
    files += [(f"../shared/tokenizers/{name}", shared / "tokenizers" / name / "tokenizer.json")
              for name in ("llama3", "qwen3", "smollm2")]
    for name, file in files:
        tokenizer = Tokenizer.from_file(str(file))
        hashes = [fnv1a(tokenizer.encode(sweep_text(*block), add_special_tokens=False).ids)
                  for block in SWEPT]
        golden["sweeps"].append({"tokenizer": name, "hashes": hashes})
    golden["sweep_blocks"] = [first for first, _ in SWEPT]
    print("{")
    print(f' "made_with": {json.dumps(golden["made_with"])},')
    print(f' "sweep_blocks": {json.dumps(golden["sweep_blocks"])},')
    for key in ("sweeps", "features"):
        print(f' "{key}": [')
        print(",\n".join("  " + json.dumps(entry) for entry in golden[key]))
        print(" ]" + ("," if key == "sweeps" else ""))
    print("}")


def main(arguments):
    if arguments[:1] == ["tables"]:
        print_tables()
    elif arguments[:1] == ["golden"]:
        print_golden(pathlib.Path(arguments[1] if len(arguments) > 1 else REPOSITORY / "../shared"))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
