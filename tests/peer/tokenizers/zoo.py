"""Builds tokenizers of every kind that Lathe reads, with the `tokenizers` and `sentencepiece` libraries.

The generators give (name, function that builds it); call it before asking for the next.
"""

import functools
import io
import json

import corpus
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
            r"\s*[\r\n]+|\s+(?!\S)|\s+")
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
TRAINING = [*corpus.short_texts(), *corpus.fuzz(300, 11)] * 2


def byte_level(pre_tokenizer, normalizer=None, ignore_merges=False, vocab_size=1500):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                  special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.train_from_iterator(TRAINING, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def splitting(regex):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def add_odd_tokens(tokenizer):
    # No token of white space: behind "[R]", which takes the space that follows, the library panics on one.
    tokenizer.add_tokens([AddedToken("[L]", lstrip=True, normalized=False), AddedToken("[R]", rstrip=True, normalized=False),
                          AddedToken("[LR]", lstrip=True, rstrip=True), AddedToken("[W]", single_word=True, normalized=False),
                          AddedToken("abc", normalized=False), AddedToken("ab", normalized=True), AddedToken("abcd", normalized=False),
                          AddedToken("word", single_word=True, normalized=True), AddedToken("Yesterday", normalized=True),
                          AddedToken("café", normalized=True), AddedToken("[N]", normalized=True)])
    return tokenizer


@functools.cache
def trained_words(limit_alphabet):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(TRAINING, trainers.BpeTrainer(vocab_size=1200, limit_alphabet=limit_alphabet, show_progress=False))
    return json.loads(tokenizer.to_str())["model"]


def llama_vocabulary(limit_alphabet=150, bytes_known=256, **options):
    """SentencePiece-style BPE: trained on words, then <unk>, <s>, </s> and the byte tokens in front."""
    model = trained_words(limit_alphabet)
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    front = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(bytes_known)]
    runs = [mark * count for mark in "▁\n" for count in range(1, 9)]
    tokens = front + [token for token in dict.fromkeys(tokens + runs) if token not in front]
    vocab = {token: place for place, token in enumerate(tokens)}
    merges = [tuple(merge) for merge in model["merges"]]
    known = {a + b for a, b in merges}
    merges += [(mark * left, mark * (count - left)) for mark in "▁\n" for count in range(2, 9) for left in range(1, count)
               if mark * count in vocab and mark * count not in known]
    return Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", **options))


def llama(normalizer=None, pre_tokenizer=None, fuse_unk=True, byte_fallback=True, **options):
    tokenizer = llama_vocabulary(fuse_unk=fuse_unk, byte_fallback=byte_fallback, **options)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def old_llama_normalizer():
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def with_post_processor(tokenizer, processor):
    tokenizer.post_processor = processor
    return tokenizer


def byte_level_kinds():
    yield "gpt2", lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    yield "gpt2-prefix-added", lambda: with_post_processor(
        add_odd_tokens(byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))), processors.ByteLevel(trim_offsets=True))
    yield "llama3", lambda: with_post_processor(byte_level(splitting(LLAMA3), ignore_merges=True), processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<|im_start|> $A <|im_end|> <|endoftext|>", pair="$A $B",
                                      special_tokens=[("<|endoftext|>", 0), ("<|im_start|>", 1), ("<|im_end|>", 2)])]))
    yield "qwen2", lambda: byte_level(splitting(QWEN2), normalizers.NFC())
    yield "qwen2-added", lambda: add_odd_tokens(byte_level(splitting(QWEN2), normalizers.NFC()))
    yield "o200k", lambda: byte_level(splitting(O200K))
    yield "deepseek", lambda: byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"), pre_tokenizers.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
        pre_tokenizers.Split(Regex(DEEPSEEK), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
    yield "smollm", lambda: add_odd_tokens(byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])))
    yield "byte-normalizer", lambda: byte_level(pre_tokenizers.Split(Regex("Ġ+"), "merged_with_next"), normalizers.ByteLevel())


def sentencepiece_kinds():
    spaces = normalizers.Replace(" ", "▁")
    yield "llama2-old", lambda: llama(old_llama_normalizer())
    yield "llama2-old-added", lambda: add_odd_tokens(llama(old_llama_normalizer()))
    first = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    yield "llama2-new", lambda: llama(pre_tokenizer=first)
    yield "llama2-new-added", lambda: add_odd_tokens(llama(pre_tokenizer=first))
    for scheme in ("first", "always", "never"):
        yield f"metaspace-{scheme}", lambda: add_odd_tokens(llama(pre_tokenizer=pre_tokenizers.Metaspace("▁", scheme, True)))
    yield "gemma", lambda: llama(spaces, pre_tokenizers.Split(" ", "merged_with_previous"))
    yield "unk-fused", lambda: llama(old_llama_normalizer(), byte_fallback=False, limit_alphabet=40)
    yield "unk-single", lambda: llama(old_llama_normalizer(), byte_fallback=False, fuse_unk=False, limit_alphabet=40)
    yield "some-bytes", lambda: llama(old_llama_normalizer(), bytes_known=0xC5, limit_alphabet=60)
    yield "some-bytes-single", lambda: llama(old_llama_normalizer(), bytes_known=0xC5, limit_alphabet=60, fuse_unk=False)


def component_kinds():
    for behavior in BEHAVIORS:
        for invert in (False, True):
            yield f"split-{behavior}-{invert}", lambda: llama(pre_tokenizer=pre_tokenizers.Split(Regex(r"\s|\p{P}"), behavior, invert))
        yield f"split-string-{behavior}", lambda: llama(pre_tokenizer=pre_tokenizers.Split("a", behavior))
        yield f"punctuation-{behavior}", lambda: llama(pre_tokenizer=pre_tokenizers.Punctuation(behavior))
        yield f"empty-match-{behavior}", lambda: llama(pre_tokenizer=pre_tokenizers.Split(Regex("(?=b)|a*"), behavior))
    for pattern in (r"(?m:a.b)", r"^\s+|\s+$", r"\b\w+\b", r"\W+", r"\h+\H", r"(?i)straße|k|\u00e9", r"a{,2}b", r"\v|\x41",
                    r"\p{Han}+|\p{^L}", r"(?<=\d)(?=(?:\d{3})+(?!\d))", r"\R|\X", r"[]a]+", r"\B.", r"[\p{Lu}\s\d]+"):
        yield f"regex {pattern}", lambda: llama(pre_tokenizer=pre_tokenizers.Split(Regex(pattern), "isolated"))
    yield "digits", lambda: llama(pre_tokenizer=pre_tokenizers.Digits(individual_digits=False))
    yield "whitespace", lambda: llama(pre_tokenizer=pre_tokenizers.Whitespace())
    yield "whitespace-split", lambda: llama(pre_tokenizer=pre_tokenizers.WhitespaceSplit())
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        yield f"normalizer-{form}", lambda: add_odd_tokens(llama(getattr(normalizers, form)(), pre_tokenizers.Metaspace(), limit_alphabet=1000))
    for left, right in ((True, True), (True, False), (False, True)):
        yield f"strip-{left}-{right}", lambda: add_odd_tokens(llama(normalizers.Strip(left, right), pre_tokenizers.Metaspace("▁", "first")))
    yield "replace-removes", lambda: llama(normalizers.Replace(Regex(r"\s|[aTx]"), ""), pre_tokenizers.Metaspace("▁", "first", False))
    yield "replace-regex", lambda: llama(normalizers.Replace(Regex(r"\s{2,}|[aeiou]"), "☃▁"))
    yield "everything", lambda: add_odd_tokens(byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.Digits(True),
        pre_tokenizers.ByteLevel(add_prefix_space=True)]), normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])))


def sentencepiece_models():
    """(name, function that gives the bytes of a tokenizer.model)."""
    def train(**options):
        model = io.BytesIO()
        lines = [line for text in TRAINING for line in text.split("\n") if line and "\x00" not in line]
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, minloglevel=2, num_threads=1, **options)
        return model.getvalue()

    llama_like = dict(model_type="bpe", vocab_size=3200, byte_fallback=True, character_coverage=0.98, split_digits=True)
    yield "spm-llama", lambda: train(normalization_rule_name="identity", remove_extra_whitespaces=False,
                                     allow_whitespace_only_pieces=True, **llama_like)
    yield "spm-symbols", lambda: train(user_defined_symbols=["<|endoftext|>", "[L]"], **llama_like)
    yield "spm-unigram", lambda: train(model_type="unigram", vocab_size=3000, hard_vocab_limit=False, character_coverage=0.98)
