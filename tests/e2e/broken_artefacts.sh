# Artefacts of every format, some fields of config.json's quantization_config and of the safetensors header broken, given to the real
# eval, convert and inspect: one clear line or a sound answer, never a crash, and nothing written. Every field of every format is broken
# in process (tests/unit/apps/quantize/broken_artefact_test.cc, broken_gguf_test.cc); here is a random sample, the same each time.
# BREAKS=40 takes a larger one.
. tests/e2e/lib.sh
one() { "$QUANTIZE" --recipe recipes/rtn.yaml --output "$scratch/$1" --device cpu --quiet --set evaluate=null --set calibration=null "${symmetric[@]}" "${@:2}"; }
one words --set 'output.formats=[compressed-tensors, gptq, awq, awq-gemv]'
one hqq --set 'output.formats=[hqq]' --set 'rules[0].solver={hqq: {}}' \
  --set 'rules[0].scheme={bits: 4, group_size: 64, symmetric: false, zero_point: real}'
quick recipes/spqr.yaml "$scratch/spqr" --set evaluate=null --set 'output.formats=[spqr]' --set calibration.samples=2
quick recipes/smoothquant.yaml "$scratch/w8a8" --set evaluate=null --set calibration.samples=2 --set 'rules[0].activations={dynamic: false, symmetric: false}' \
  --set 'kv_cache={type: float}'
one gguf-file --set 'output.formats=["gguf:Q4_0"]'
for type in fp8_e4m3 nvfp4 mxfp8; do
  formats='[compressed-tensors, modelopt]'
  [[ $type == mxfp8 ]] && formats='[compressed-tensors]'
  activations="{type: $type}"
  [[ $type == fp8_e4m3 ]] && activations='{type: fp8_e4m3, per: token}'
  quick recipes/fp8-dynamic.yaml "$scratch/$type" --set evaluate=null --set calibration.samples=2 --set "output.formats=$formats" \
    --set "rules[0]={scheme: {type: $type}, activations: $activations}"
done
folders=("$scratch"/words/* "$scratch/hqq" "$scratch/spqr" "$scratch/w8a8" "$scratch"/{fp8_e4m3,nvfp4}/* "$scratch/mxfp8")
"$PYTHON" - "$QUANTIZE" "$scratch" "$scratch"/gguf-file/*.gguf "${folders[@]}" <<'PY' || fail "see above"
import json, os, pathlib, random, shutil, struct, subprocess, sys

quantize, scratch = sys.argv[1], pathlib.Path(sys.argv[2])
dice, breaks = random.Random(4), int(os.environ.get("BREAKS", 1))
WRONG = [None, -1, 0, 3, 1 << 40, 0.5, "x", "", True, [], {}, [[]], {"a": 1}]


def paths(value, path=()):
    """Every place in a JSON document."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, child in items:
        yield from paths(child, (*path, key))


def with_value(document, path, value, remove=False):
    document = json.loads(json.dumps(document))
    place = document
    for key in path[:-1]:
        place = place[key]
    if remove:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


def header_of(file):
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + length]), data[8 + length:]


def run(folder, what):
    """The three readers: exit code 0 or 2, and with 2 one line of stderr. One of them at a time, in turn, keeps the test short."""
    command = {"inspect": ["inspect", folder], "convert": ["convert", "--model", folder, "--to", "compressed-tensors", "--output", scratch / "no", "--quiet"],
               "eval": ["eval", "--model", folder, "--text", "data/text/evaluation.txt", "--rows", "1", "--ctx", "8", "--device", "cpu", "--json"]}
    name = dice.choice(list(command))
    done = subprocess.run([quantize, *map(str, command[name])], capture_output=True, text=True, errors="replace")
    lines = [line for line in done.stderr.splitlines() if line.startswith("quantize: ")]
    good = done.returncode == 0 or (done.returncode in (2, 3) and len(lines) == 1 and "internal" not in lines[0])
    if done.returncode != 0 or name == "convert":
        good = good and not list(scratch.glob(".no*"))
    shutil.rmtree(scratch / "no", ignore_errors=True)
    if not good:
        print(f"{folder.name}, {what}: {name} ends with {done.returncode}: {done.stderr[-600:]}", file=sys.stderr)
    return good, done.returncode


ok, refused = True, 0
whole = pathlib.Path(sys.argv[3]).read_bytes()
(scratch / "gguf").mkdir()
for _ in range(4 * breaks):
    noise = bytearray(whole)
    at = dice.randrange(4, 2000)
    noise[at:at + 8] = dice.choice([b"\xff" * 8, b"\0" * 8, dice.randbytes(8)])
    (scratch / "gguf/model.gguf").write_bytes(noise)
    good, code = run(scratch / "gguf/model.gguf", f"8 bytes at {at}")
    ok, refused = ok and good, refused + (code != 0)
for source in map(pathlib.Path, sys.argv[4:]):
    folder = scratch / "broken"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in source.iterdir():
        if file.is_file():
            os.link(file, folder / file.name)
    config = json.loads((source / "config.json").read_text())
    weights = sorted(source.glob("*.safetensors"))[0]
    header, data = header_of(weights)

    def attempt(file, content, what):
        global ok, refused
        (folder / file).unlink()
        (folder / file).write_bytes(content)
        good, code = run(folder, what)
        ok, refused = ok and good, refused + (code != 0)
        (folder / file).unlink()
        os.link(source / file, folder / file)

    places = list(paths(config["quantization_config"]))
    for place in dice.sample(places, min(breaks, len(places))):
        for value, remove in ((dice.choice(WRONG), False), (None, True)):
            broken = dict(config, quantization_config=with_value(config["quantization_config"], place, value, remove))
            attempt("config.json", json.dumps(broken).encode(), f"config {place} {'removed' if remove else value}")
    # One tensor of each kind beside a linear, and each field of its entry.
    kinds = {name.rsplit(".", 1)[1]: name for name in header if name != "__metadata__" and ".layers." in name}
    for name in dice.sample(sorted(kinds.values()), min(breaks, len(kinds))):
        for place in dice.sample(list(paths(header[name])), 1):
            broken = with_value(header, (name, *place), dice.choice(WRONG + ["I32", "F16", "F8_E4M3"]))
            text = json.dumps(broken).encode()
            attempt(weights.name, struct.pack("<Q", len(text)) + text + data, f"header of {name} {place}")
        at = header[name]["data_offsets"]
        noise = bytearray(data)  # and its contents
        noise[at[0]:at[1]] = dice.choice([b"\xff", b"\x00", b"\x7f"]) * (at[1] - at[0])
        text = json.dumps(header).encode()
        attempt(weights.name, struct.pack("<Q", len(text)) + text + bytes(noise), f"contents of {name}")
    whole = weights.read_bytes()
    for length in (dice.choice((0, 7, 8, 100)), len(whole) - 1):
        attempt(weights.name, whole[:length], f"cut to {length}")
print(f"{refused} refused")
sys.exit(not (ok and refused > 30))
PY
[[ ! -e $scratch/no ]] || fail "a refused conversion left something"
