"""Token ids of Lathe against those of the `tokenizers` and `sentencepiece` libraries.

usage: compare.py ENCODE [NAME...]      ENCODE: the program built from tests/tools/encode.cc; NAME: only these tokenizers
Exits with 1 after showing the first differing texts of each tokenizer.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import corpus
import sentencepiece
import tokenizers
import zoo

ROOT = pathlib.Path(__file__).resolve().parents[3]
SHOWN = 3
# These see the texts of a megabyte too, and every code point: one of each way of splitting.
THOROUGH = {"gpt2", "llama3", "qwen2-added", "o200k", "deepseek", "smollm", "llama2-old", "llama2-new-added", "gemma", "metaspace-always",
            "unk-fused", "normalizer-NFKC", "everything", "spm-llama", "lathe-tiny", "smollm2-135m", "stories260k"}


def lathe_ids(encode, folder, texts, special):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(texts, file)
        file.flush()
        command = [encode, str(folder), file.name, "--strings"] + (["--special"] if special else [])
        result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if result.returncode != 0:
        raise RuntimeError(result.stderr.strip())
    return json.loads(result.stdout)


def first_difference(ours, theirs):
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    return f"from id {place}: ours {ours[place:place + 8]} of {len(ours)}, theirs {theirs[place:place + 8]} of {len(theirs)}"


def check(encode, name, folder, reference, short, more):
    """reference(texts, special) -> lists of ids. Special tokens don't depend on the text: `more` goes without. Returns the number
    of differing texts."""
    wrong = 0
    for special, texts in ((False, short + more), (True, short)):
        for text, ours, theirs in zip(texts, lathe_ids(encode, folder, texts, special), reference(texts, special), strict=True):
            if ours == theirs:
                continue
            wrong += 1
            if wrong <= SHOWN:
                print(f"  {name}, special={special}: {text[:80]!r} ({len(text)} characters)\n    {first_difference(ours, theirs)}")
    print(f"{name}: {len(short) + len(more)} texts, {'equal' if wrong == 0 else f'{wrong} DIFFER'}", flush=True)
    return wrong


def json_reference(tokenizer):
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts, special: [tokenizer.encode(text, add_special_tokens=special).ids for text in texts]


def model_reference(model):
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return lambda texts, special: [([processor.bos_id()] if special else []) + processor.encode(text) for text in texts]


def references(folder):
    """(name, prepare, source): prepare(source) builds the tokenizer, writes its file into `folder` and gives its reference.

    Each is consumed before the next is asked for, which is what lets the sources close over loop variables.
    """
    def from_json(make):
        tokenizer = make()
        (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
        return json_reference(tokenizer)

    def from_model(make):
        model = make()
        (folder / "tokenizer.json").unlink(missing_ok=True)
        (folder / "tokenizer.model").write_bytes(model)
        return model_reference(model)

    for kinds in (zoo.byte_level_kinds, zoo.sentencepiece_kinds, zoo.component_kinds):
        for name, tokenizer in kinds():
            yield name, from_json, tokenizer
    for name, model in zoo.sentencepiece_models():
        yield name, from_model, model
    for place in (ROOT / "data/models/lathe-tiny", ROOT / "../shared/models/smollm2-135m", ROOT / "../shared/models/stories260k"):
        if not (place / "tokenizer.json").exists():
            print(f"{place.name}: skipped, {place}/tokenizer.json is not there")
            continue
        yield place.name, from_json, lambda: tokenizers.Tokenizer.from_file(str(place / "tokenizer.json"))
    model = ROOT / "../shared/models/stories260k/tokenizer.model"
    if model.exists():
        yield "stories260k tokenizer.model", from_model, model.read_bytes
    else:
        print(f"stories260k tokenizer.model: skipped, {model} is not there")


def main(encode, *names):
    short = corpus.short_texts() + corpus.fuzz(3000, 5)
    more = corpus.every_code_point() + corpus.long_texts()
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, prepare, source in references(pathlib.Path(scratch)):
            if names and name not in names:
                continue
            try:
                reference = prepare(source)
                wrong += check(encode, name, scratch, reference, short, more if name in THOROUGH else [])
            except RuntimeError as error:
                print(f"{name}: FAILED: {error}")
                wrong += 1
    print("all equal" if wrong == 0 else f"{wrong} texts differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 1 else __doc__)
