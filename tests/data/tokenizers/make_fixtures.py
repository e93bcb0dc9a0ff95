# SPDX-FileCopyrightText: 2026 The PiKV Authors
# SPDX-License-Identifier: Apache-2.0
"""Trains the small tokenizers of this folder and records what the reference makes of some strings.

Needs the Python package `tokenizers` (0.23.3 was used). Without arguments it writes the fixtures of
its own making; --qwen3 and --gpt2 take the published files and write only their expected values.
"""

import argparse
import json
import pathlib

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

HERE = pathlib.Path(__file__).resolve().parent

CORPUS = [
    "The quick brown fox jumps over the lazy dog. The dog does not mind; the fox does it daily.",
    "A cache keeps what was computed, so that the same thing need not be computed again and again.",
    "Experts are chosen for each token; the keys and values of a token live with its expert.",
    "for (int i = 0; i < 10; ++i) { total += values[i]; }  // the sum of the first ten values",
    "def attention(query, key, value):\n    return softmax(query @ key.T) @ value\n",
    "In 2024 there were 366 days, 12 months and 52 weeks; in 2023 there were 365 days.",
    "Où est la bibliothèque ? La bibliothèque est près de l'école, à côté du café.",
    "Straße, Größe, Übermut: die Wörter der deutschen Sprache haben Umlaute.",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002\u65e5\u672c\u8a9e\u306e\u5358\u8a9e\u3002",
] * 4

TEXTS = [
    "",
    " ",
    "Hello, world!",
    "The quick brown fox",
    "  two leading spaces and two trailing  ",
    "tabs\tand\nnew\r\nlines\n\n\nhere",
    "na\u00efve caf\u00e9, decomposed nai\u0308ve cafe\u0301",
    "\ufb01 ligature, \u2460 circled, \uff21 fullwidth, \u00bd half",
    "\u65e5\u672c\u8a9e and \u4e2d\u6587 and \ud55c\uad6d\uc5b4 and \u1112\u1161\u11ab jamo",
    "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "I'll we've DON'T it's 'tis",
    "12345 3.14159 1,000,000 \u0664\u0662",
    "if (a[i] != b->c) { return ~x ^ 0xFF; } // comment",
    "def f(x):\n    return x ** 2  # square\n",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u2581already marked\u2581text \u2581",
    "<s>begin</s> and <unk> inside <s><s>",
    "<|endoftext|>a<|im_start|>user\nhi<|im_end|>\n",
    "<think>\nhmm\n</think> done <tool_call>",
    "wordXXword XX word  XX  word",
    "[A] x [A]x[A]  [B]  y [B]",
    "\u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "zero\u200bwidth nbsp\u00a0ideographic\u3000space \u2028line",
    "a\u0300\u0301\u0316b e\u0327\u0301 \u1e9b\u0323 \u212b \u03d3",
    "nul\u0000byte and \u007f and \ufffd",
    "MiXeD CaSe HTTPServer getHTTPResponseCode snake_case_name",
    "https://example.org/path?q=1&r=two#frag",
    "   \n   \n\t\t  x",
    "\u00a3\u20ac\u00a5 \u00a9\u00ae\u2122 \u2026 \u2014 \u2013 \u201cquotes\u201d",
    "trailing newline\n",
]


def trained(model, pre_tokenizer, normalizer, special, alphabet=(), vocab_size=480, limit_alphabet=90):
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=list(alphabet),
        limit_alphabet=limit_alphabet,
        show_progress=False,
        max_token_length=12,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def llama(layout):
    """Byte fallback and a beginning-of-sequence token, as Llama 2 and Mixtral have them."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    metaspace = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first", split=True)
    tokenizer = trained(
        models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
        metaspace,
        None,
        ["<unk>", "<s>", "</s>"] + byte_tokens,
        vocab_size=760,
    )
    document = json.loads(tokenizer.to_str())
    # The byte tokens are of the model, not added: text that spells one is ordinary text.
    document["added_tokens"] = document["added_tokens"][:3]
    if layout == "normalizer":
        document["pre_tokenizer"] = None
        document["normalizer"] = {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        }
        # The form of files before 0.20: merges as strings, no ignore_merges.
        model = document["model"]
        model["merges"] = [" ".join(pair) for pair in model["merges"]]
        del model["ignore_merges"]
    else:
        document["pre_tokenizer"]["split"] = False
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    if layout == "normalizer":
        document["decoder"] = json.loads(tokenizer.to_str())["decoder"]
        document["post_processor"] = json.loads(tokenizer.to_str())["post_processor"]
        return document
    return json.loads(tokenizer.to_str())


def added_tokens():
    """Every flag of an added token, Metaspace in both directions, NFKC, Digits, Punctuation."""
    tokenizer = trained(
        models.BPE(unk_token="<unk>", fuse_unk=False),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always"),
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.Punctuation(behavior="merged_with_previous"),
            ]
        ),
        normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\t", "  ")]),
        ["<unk>", "<s>", "</s>"],
    )
    tokenizer.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="$A $B:1", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(
        [AddedToken("[A]", lstrip=True, rstrip=True), AddedToken("[B]", rstrip=True)]
    )
    tokenizer.add_tokens(
        [
            AddedToken("XX", single_word=True, normalized=False),
            AddedToken("\ufb01", normalized=True),
            AddedToken("lazy", normalized=True),
            AddedToken("  ", normalized=False),
            AddedToken("a  b", normalized=False),
        ]
    )
    return json.loads(tokenizer.to_str())


def byte_level():
    """The byte alphabet with a prefix space, NFD, and a chain of Split with every behavior."""
    tokenizer = trained(
        models.BPE(),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True),
        normalizers.NFD(),
        ["<|endoftext|>"],
        pre_tokenizers.ByteLevel.alphabet(),
        vocab_size=420,
        limit_alphabet=256,
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    document = json.loads(tokenizer.to_str())
    document["model"]["ignore_merges"] = True
    return document


def expected(tokenizer, texts):
    cases = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        cases.append(
            {
                "text": text,
                "ids": ids,
                "plain_ids": tokenizer.encode(text, add_special_tokens=False).ids,
                "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                "decoded_without_special": tokenizer.decode(ids, skip_special_tokens=True),
            }
        )
    return cases


def write(name, value):
    lines = ",\n".join(json.dumps(case) for case in value) if isinstance(value, list) else None
    text = f"[\n{lines}\n]\n" if lines is not None else json.dumps(value) + "\n"
    (HERE / name).write_text(text, encoding="utf-8")


SPLIT_TEXTS = ["a--b-c", "--a", "b--", "", "x", "a1b22 c333", " a  b ", "\u00e9-\u00e9\u0301-", "a.b!?c"]


def split_cases():
    """What single pre-tokenizers make of short strings."""
    kinds = []
    for behavior in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        for pattern in [{"String": "-"}, {"Regex": "[0-9-]+"}, {"Regex": "\\s*"}, {"Regex": "$|^b"}]:
            for invert in [False, True]:
                kinds.append(
                    {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
                )
        kinds.append({"type": "Punctuation", "behavior": behavior})
    kinds.append({"type": "Digits", "individual_digits": True})
    kinds.append({"type": "Digits", "individual_digits": False})
    for scheme in ["always", "first", "never"]:
        for split in [True, False]:
            kinds.append(
                {"type": "Metaspace", "replacement": "_", "prepend_scheme": scheme, "split": split}
            )
            kinds.append(
                {
                    "type": "Sequence",
                    "pretokenizers": [
                        {
                            "type": "Split",
                            "pattern": {"String": "-"},
                            "behavior": "Removed",
                            "invert": False,
                        },
                        kinds[-1],
                    ],
                }
            )
    for space in [True, False]:
        for regex in [True, False]:
            kinds.append(
                {
                    "type": "ByteLevel",
                    "add_prefix_space": space,
                    "trim_offsets": True,
                    "use_regex": regex,
                }
            )
    cases = []
    for kind in kinds:
        document = json.loads(Tokenizer(models.BPE()).to_str())
        document["pre_tokenizer"] = kind
        pre_tokenizer = Tokenizer.from_str(json.dumps(document)).pre_tokenizer
        pieces = [[p for p, _ in pre_tokenizer.pre_tokenize_str(text)] for text in SPLIT_TEXTS]
        cases.append({"pre_tokenizer": kind, "texts": SPLIT_TEXTS, "pieces": pieces})
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--qwen3", help="the tokenizer.json of Qwen3")
    parser.add_argument("--gpt2", nargs=2, help="encoder.json and vocab.bpe of GPT-2")
    arguments = parser.parse_args()
    if arguments.qwen3:
        write("qwen3_expected.json", expected(Tokenizer.from_file(arguments.qwen3), TEXTS))
    if arguments.gpt2:
        tokenizer = Tokenizer(models.BPE.from_file(*arguments.gpt2))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(["<|endoftext|>"])
        write("gpt2_expected.json", expected(tokenizer, TEXTS))
    if arguments.qwen3 or arguments.gpt2:
        return
    fixtures = {
        "llama_normalizer": llama("normalizer"),
        "llama_metaspace": llama("metaspace"),
        "added_tokens": added_tokens(),
        "byte_level": byte_level(),
    }
    for name, document in fixtures.items():
        write(f"{name}.json", document)
        tokenizer = Tokenizer.from_file(str(HERE / f"{name}.json"))
        write(f"{name}_expected.json", expected(tokenizer, TEXTS))
    write("split_expected.json", split_cases())


if __name__ == "__main__":
    main()
