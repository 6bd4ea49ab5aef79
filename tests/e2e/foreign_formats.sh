# Folders that other tools packed are evaluated, inspected and quantised anew like the floating-point models that they stand for.
. tests/e2e/lib.sh
for kind in bitnet aqlm bitsandbytes; do copy_model "$scratch/$kind"; copy_model "$scratch/$kind-float"; done
"$PYTHON" - "$scratch" <<'PY' || fail "no models"
import json, pathlib, sys
import torch
from safetensors.torch import load_file, save_file
root = pathlib.Path(sys.argv[1])
torch.manual_seed(0)

def bitnet(weight):  # numbers and scale are exact in F16
    scale = 2.0 ** torch.log2(weight.float().abs().mean()).round()
    ternary = (weight.float() / scale).round().clamp(-1, 1)
    fields = (ternary + 1).to(torch.uint8).chunk(4)
    packed = fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6
    return (ternary * scale).half(), {"weight": packed, "weight_scale": (1 / scale).view(1).bfloat16()}

def aqlm(weight):  # the vectors that are there, as a codebook
    vectors = weight.view(-1, 8)
    book = vectors[torch.randperm(len(vectors))[:256]]
    codes = torch.cdist(vectors.float(), book.float()).argmin(1)
    packed = torch.where(codes >= 128, codes - 256, codes).to(torch.int8).view(len(weight), -1, 1)
    return book[codes].view(weight.shape), {"codes": packed, "codebooks": book.view(1, 256, 1, 8).clone(),
                                            "scales": torch.ones(len(weight), 1, 1, 1).half()}

def bitsandbytes(weight):  # NF4; maxima are powers of two, so that values are exact in F16
    quantiles = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.03, 0.97, 16))
    numbers = (quantiles / quantiles.max()).half().float()
    blocks = weight.float().view(-1, 64)
    largest = 2.0 ** torch.log2(blocks.abs().amax(1)).ceil()
    codes = (blocks / largest[:, None])[..., None].sub(numbers).abs().argmin(-1)
    state = json.dumps({"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": list(weight.shape)})
    pairs = codes.to(torch.uint8).view(-1, 2)
    return (numbers[codes] * largest[:, None]).view(weight.shape).half(), {
        "weight": pairs[:, :1] << 4 | pairs[:, 1:], "weight.absmax": largest, "weight.quant_map": numbers,
        "weight.quant_state.bitsandbytes__nf4": torch.tensor(list(state.encode()), dtype=torch.uint8)}

CONFIGS = {"bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
           "bitnet": {"quant_method": "bitnet", "modules_to_not_convert": None},
           "aqlm": {"quant_method": "aqlm", "in_group_size": 8, "out_group_size": 1, "num_codebooks": 1,
                    "nbits_per_codebook": 8, "linear_weights_not_to_quantize": ["lm_head.weight"]}}
for name, pack in (("bitnet", bitnet), ("aqlm", aqlm), ("bitsandbytes", bitsandbytes)):
    tensors = load_file(root / name / "model.safetensors")
    plain, packed = dict(tensors), {}
    for key, weight in tensors.items():
        if not key.endswith("_proj.weight"):
            packed[key] = weight
            continue
        plain[key], parts = pack(weight)
        packed |= {key.removesuffix("weight") + part: value for part, value in parts.items()}
    save_file(packed, root / name / "model.safetensors", {"format": "pt"})
    save_file(plain, root / f"{name}-float" / "model.safetensors", {"format": "pt"})
    config = json.loads((root / name / "config.json").read_text())
    (root / name / "config.json").write_text(json.dumps(config | {"quantization_config": CONFIGS[name]}))
PY

measure() { "$QUANTIZE" eval --model "$1" --text data/text/evaluation.txt --ctx 256 --rows 2 --device cpu --json >"$1.json"; }
same() { [[ $(value "$1.json" "r['perplexity']") == $(value "$2.json" "r['perplexity']") ]] || fail "$1 and $2 differ"; }
for kind in bitnet aqlm bitsandbytes; do
  measure "$scratch/$kind"; measure "$scratch/$kind-float"
  same "$scratch/$kind" "$scratch/$kind-float"
  for source in "$kind" "$kind-float"; do
    quick recipes/rtn.yaml "$scratch/$source-rtn" --model "$scratch/$source" --set evaluate=null
  done
  cmp "$scratch/$kind-rtn/model.safetensors" "$scratch/$kind-float-rtn/model.safetensors" || fail "$kind: other bytes than from floats"
  cmp "$MODEL/tokenizer.json" "$scratch/$kind-rtn/tokenizer.json" || fail "$kind: no tokenizer beside it"
  holds "$scratch/$kind-rtn/config.json" "r['quantization_config']['quant_method'] == 'compressed-tensors'"
done

"$QUANTIZE" inspect "$scratch/bitnet" --json >"$scratch/inspect.json"
holds "$scratch/inspect.json" "r['supported'] and [s['scheme'] for s in r['schemes']] == ['int2 sym channel'] and 2 < r['schemes'][0]['bits_per_weight'] < 2.01"
"$QUANTIZE" inspect "$scratch/aqlm" >"$scratch/inspect"
grep -q 'scheme: AQLM 1x8 of 8: 42 linears' "$scratch/inspect" && grep -q 'consumer: transformers: reads it through aqlm' "$scratch/inspect" || fail "$(tail -5 "$scratch/inspect")"

# Ternary codes are integers' codes, too; vectors are not.
"$QUANTIZE" convert --model "$scratch/bitnet" --to compressed-tensors --output "$scratch/converted" --quiet
measure "$scratch/converted"
same "$scratch/bitnet" "$scratch/converted"
refuses 2 "is AQLM 1x8 of 8: vectors of a codebook" "$QUANTIZE" convert --model "$scratch/aqlm" --to compressed-tensors --output "$scratch/no"
[[ ! -e $scratch/no ]] || fail "a refused conversion left something"
