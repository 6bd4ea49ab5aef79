#!/usr/bin/env python3
"""The ids of conversations, against transformers' apply_chat_template(tokenize=True): compare.py QUANTIZE

Each template of tests/golden/chat_templates is put beside the embedded model; all its conversations go through
`quantize --dry-run --dump-ids`, one document a sample. Texts with special tokens are compared, too: what a tokenizer's
post-processor adds, for the packing of documents.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

MODEL = pathlib.Path("data/models/lathe-tiny")
SPECIAL = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}  # the one special token of the model
GOLDEN = pathlib.Path("tests/golden/chat_templates/rendered.json")


def dumped(quantize, model, lines, folder, *sets):
    """The ids of each line's document, as Lathe would calibrate with them."""
    from safetensors.numpy import load_file
    data, ids = folder / "data.jsonl", folder / "ids.safetensors"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [quantize, "--recipe", "recipes/rtn.yaml", "--model", model, "--calib", data, "--dump-ids", ids, "--device", "cpu",
               "--overwrite", "--dry-run", "--output", folder / "out", "--set", "evaluate=null", "--set", "calibration.packing=document",
               "--set", f"calibration.samples={len(lines)}"]
    for change in sets:
        command += ["--set", change]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    tensors = load_file(ids)
    rows = tensors["input_ids"].tolist()
    lengths = tensors.get("lengths", [len(row) for row in rows])
    return [row[:length] for row, length in zip(rows, lengths)]


def stop_the_clock():
    """strftime_now() of transformers' templates answers the day that it always is for Lathe."""
    import datetime

    import transformers.utils.chat_template_utils as utils

    class Day(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime(2024, 7, 26, 12)
    utils.datetime = Day


def compare_special_tokens(quantize):
    """Texts with what the post-processor adds, and without: documents compared, sets that differ."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast
    texts = ["A text.", " Another,\nof two lines.", "\u00e9\u6f22 <|endoftext|> <s>"]
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="lathe-chat-") as scratch:
        folder = pathlib.Path(scratch)
        shutil.copytree(MODEL, folder / "model")
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(MODEL / "tokenizer.json"))
        end = "<|endoftext|>"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{end} $A {end}", special_tokens=[(end, tokenizer.convert_tokens_to_ids(end))])
        tokenizer.backend_tokenizer.save(str(folder / "model/tokenizer.json"))
        config = json.loads((MODEL / "tokenizer_config.json").read_text())
        config.pop("add_bos_token")  # which would have the last word
        (folder / "model/tokenizer_config.json").unlink()
        (folder / "model/tokenizer_config.json").write_text(json.dumps(config))
        bos = tokenizer.convert_tokens_to_ids(end)
        # What the tokenizer puts in front of a prompt is what samples begin with, where nothing stands around them.
        for special, rule in ((True, "never"), (False, "never"), (True, "auto"), (False, "auto")):
            found = dumped(quantize, folder / "model", [{"text": text} for text in texts], folder,
                           f"calibration.special_tokens={str(special).lower()}", f"calibration.bos={rule}")
            expected = [tokenizer.encode(text, add_special_tokens=special) for text in texts]
            if rule == "auto" and not special:
                expected = [[bos, *ids] for ids in expected]
            if found != expected:
                wrong += 1
                print(f"special_tokens {special}, bos {rule}: {found} instead of {expected}")
    return 4 * len(texts), wrong


def main() -> int:
    try:
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        print("SKIP: no transformers in this environment")
        return 77
    stop_the_clock()
    quantize, golden = sys.argv[1], json.loads(GOLDEN.read_text())
    wrong = checked = 0
    for name, template in golden["templates"].items():
        with tempfile.TemporaryDirectory(prefix="lathe-chat-") as scratch:
            folder = pathlib.Path(scratch)
            shutil.copytree(MODEL, folder / "model")
            config = json.loads((MODEL / "tokenizer_config.json").read_text())
            (folder / "model/tokenizer_config.json").write_text(json.dumps({**config, **SPECIAL, "chat_template": template}))
            cases = [case for case in golden["cases"] if case["template"] == name and "text" in case]
            lines = [{"messages": case["messages"], "tools": case["tools"]} for case in cases]
            found = dumped(quantize, folder / "model", lines, folder)
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(MODEL / "tokenizer.json"), chat_template=template, **SPECIAL)
            for case, ids in zip(cases, found):
                expected = tokenizer.apply_chat_template(case["messages"], tools=case["tools"], tokenize=True, return_dict=False)
                checked += 1
                if ids != expected:
                    wrong += 1
                    print(f"{name}, {case['conversation']}: {ids[:20]}... instead of {expected[:20]}...")
    more, differ = compare_special_tokens(quantize)
    checked, wrong = checked + more, wrong + differ
    print(f"{checked} documents compared, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
