# The plan of Llama 3 70B and of a mixture of experts of 235B: from headers, in little time and memory.
. tests/e2e/lib.sh
"$PYTHON" tests/tools/make_sparse_model.py "$scratch/large" --blocks 80 --dense-blocks 0 --rows 8 --tokenizer "$MODEL" >/dev/null
# planned MOST_SECONDS MOST_MIB flags...: of the processor (several times what a calm machine takes), and resident.
planned() {
  "$PYTHON" - "$@" >"$scratch/plan" <<'P'
import os, resource, subprocess, sys
quantize = os.environ["QUANTIZE"]
done = subprocess.run([quantize, "--dry-run", "--threads", "1", *sys.argv[3:]], capture_output=True, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(done.stdout)
seconds, mib = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
print(f"{sys.argv[4]}: {seconds:.2f} s, {mib:.0f} MiB", file=sys.stderr)
if done.returncode or seconds > float(sys.argv[1]) or mib > float(sys.argv[2]):
    sys.exit(f"exit code {done.returncode}, {seconds:.2f} s, {mib:.0f} MiB: {done.stderr[:500]}")
P
}
export QUANTIZE
planned 1.5 400 --recipe recipes/hqq.yaml --model "$scratch/large" --output "$scratch/out" --device cpu --set evaluate=null
grep -q "560 linears" "$scratch/plan" || fail "$(head -20 "$scratch/plan")"
grep -q "^work " "$scratch/plan" || fail "no estimate: $(cat "$scratch/plan")"
# What the machine can't hold is refused below the plan.
refuses 2 "does not fit in the memory it may take" "$QUANTIZE" --recipe recipes/gptq.yaml --model "$scratch/large" --output "$scratch/out" --device cpu --dry-run --max-ram 200MB
grep -q "^rule 0 .*560 linears" "$scratch/stdout" || fail "no plan before the refusal: $(cat "$scratch/stdout")"
# A mixture of types of GGUF: what is possible, without looking at all mixtures.
planned 3.5 400 --recipe recipes/mixed-4.25bpw.yaml --model "$scratch/large" --output "$scratch/out" --device cpu --max-ram 60GB --max-disk 2TB \
  --set output.formats=[gguf:Q4_K_M] \
  --set 'candidates=[{gguf: Q2_K}, {gguf: Q3_K}, {gguf: Q4_K}, {gguf: Q5_K}, {gguf: Q6_K}]'
grep -q "^possible   2.625 to 6.562 bits/weight" "$scratch/plan" || fail "$(cat "$scratch/plan")"
grep -q "^stand-in   4.2" "$scratch/plan" && grep -q "^consumer" "$scratch/plan" || fail "no plan of a mixture: $(cat "$scratch/plan")"
# 36,472 linears, a budget over them: a rule's patterns are compiled once, not for each linear (that took 32 s), and blocks that are
# alike are planned once (3.8 s before that on a busy machine, 1.6 since).
"$PYTHON" tests/tools/make_sparse_experts.py "$scratch/experts" --blocks 94 --tokenizer "$MODEL" >/dev/null
planned 3 900 --recipe recipes/mixed-4.25bpw.yaml --model "$scratch/experts" --output "$scratch/out" --device cpu --max-ram 60GB --max-disk 2TB \
  --set 'candidates[*].scheme.symmetric=true'
grep -q "^rule 0 .* 36096 linears" "$scratch/plan" || fail "no plan of a mixture of experts: $(cat "$scratch/plan")"
planned 3 900 --recipe recipes/hqq.yaml --model "$scratch/experts" --output "$scratch/out" --device cpu --set evaluate=null --max-disk 2TB
