"""Writes tests/golden/gguf/mixes.json: the type of every tensor under every mix, as the real llama-quantize says.

    python tests/tools/make_gguf_mixes.py DRY_RUNS.json OUTPUT.json

DRY_RUNS.json holds {model: {mix: {tensor: type}}}, read off `llama-quantize --dry-run`. The output has, for each model
and mix, a string for each tensor of a layer, and for those outside layers: types in layer order, "Q6_K*4 Q4_K*2 ...".
Mixes with types that Lathe has not (IQ1 to IQ3) are left out.
"""
import itertools
import json
import sys

MIXES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M",
         "Q5_K_S", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4_MOE"]


def runs(types):
    return " ".join(f"{kind.upper()}*{len(list(group))}" for kind, group in itertools.groupby(types))


def main():
    dry_runs = json.load(open(sys.argv[1]))
    result = {}
    for model, mixes in dry_runs.items():
        for mix in MIXES:
            layers = {}
            for name, kind in mixes[mix].items():
                parts = name.split(".")
                layer = int(parts[1]) if parts[0] == "blk" else 0
                layers.setdefault(parts[-2], {})[layer] = kind
            result.setdefault(model, {})[mix] = {role: runs(kinds[i] for i in sorted(kinds))
                                                 for role, kinds in layers.items()}
    with open(sys.argv[2], "w") as out:
        json.dump(result, out, indent=0)
        out.write("\n")


if __name__ == "__main__":
    main()
