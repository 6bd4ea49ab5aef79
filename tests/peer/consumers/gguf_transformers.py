"""GGUF files in transformers' own loader (from_pretrained(gguf_file=...)), on the CPU, in FP32.

    gguf_transformers.py LOGITS_PROGRAM REFERENCE_FOLDER FILE...

Of each file: its configuration, tokenizer and every tensor are found (nothing missing or unexpected), the tokenizer gives the
reference's ids, and the logits equal those of Lathe's forward pass on the file (max |difference| / max |logit| <= 1e-4).
Prints one JSON line each.
"""

import json
import pathlib
import sys

import torch
import transformers
from our_logits import our_logits

TOLERANCE = 1e-4
TEXTS = ["Once upon a time, there was a 7-year-old girl.", "don't we'll I'VE\n\n\tand a tab", "na\u00efve caf\u00e9"]


def check(program, reference, tokenizer, file):
    folder, name = pathlib.Path(file).parent, pathlib.Path(file).name
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info.get(key), f"{file}: {key}: {info[key]}"
    ids = torch.randint(model.config.vocab_size, (3, 48), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        theirs = model.eval()(input_ids=ids).logits
    scale = theirs.abs().max()
    difference = float((torch.from_numpy(our_logits(program, file, ids.tolist())) - theirs).abs().max() / scale)
    moved = float((torch.from_numpy(our_logits(program, reference, ids.tolist())) - theirs).abs().max() / scale)
    from_file = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    same = [from_file(text, add_special_tokens=False).input_ids == tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS]
    print(json.dumps({"file": name, "relative_difference": difference, "distance_to_reference": moved, "texts": sum(same)}), flush=True)
    assert torch.isfinite(theirs).all() and difference <= TOLERANCE, f"{file}: logits differ by {difference}"
    assert all(same), f"{file}: its tokenizer gives other ids"


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    reference_tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[2])
    for gguf in sys.argv[3:]:
        check(sys.argv[1], sys.argv[2], reference_tokenizer, gguf)
