# tests/e2e/many_blocks.sh at Llama 3 70B's width (hidden 8192, 64 heads of 128 and 8 of keys and values, intermediate 28672,
# vocabulary 128256), within 6 GB. Of its 80 blocks 1 and 3: one takes a minute or two of a core and 0.4 GB of disk. With GPTQ one,
# all of it: the Hessian of 28672 inputs is 3 GiB, its factor takes its place, and 1.6 GB of a file hold it meanwhile.
SHAPE=70b LIMIT=6000000000 DEPTHS="1 3" GPTQ_DEPTHS=1 GPTQ_TOKENS="2 256"
. tests/e2e/many_blocks.sh
