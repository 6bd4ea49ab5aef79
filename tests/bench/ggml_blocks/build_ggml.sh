#!/usr/bin/env bash
# build_ggml.sh [FOLDER]: builds ggml's quantisers (libggml-quants.so) from llama.cpp's sources for bench_ggml_blocks.
#
# The sources come from a pinned Python source archive (77 MB, of which ggml/ is unpacked); they are compiled with all
# of this CPU's vectors, which llama.cpp's own build of these files leaves out. Nothing is installed.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
folder=${1:-$root/build/peers/ggml}
archive=llama-cpp-python==0.3.36
mkdir -p "$folder"
if [[ ! -d $folder/ggml/src ]]; then
  "$root/build/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python "$archive" \
    -d "$folder"
  tar -xzf "$folder"/llama_cpp_python-*.tar.gz -C "$folder" --wildcards --strip-components=3 '*/vendor/llama.cpp/ggml/*'
  rm "$folder"/llama_cpp_python-*.tar.gz
fi
printf '#define GGML_VERSION "%s"\n#define GGML_COMMIT "unknown"\n' "$archive" > "$folder/ggml-version.h"
flags=(-O3 -march=native -fPIC -DNDEBUG -w -D_GNU_SOURCE -I"$folder" -I"$folder/ggml/include" -I"$folder/ggml/src")
objects=()
for source in ggml-quants.c ggml.c ggml-threading.cpp; do
  compiler=(gcc -std=gnu11)
  [[ $source == *.cpp ]] && compiler=(g++ -std=c++17)
  "${compiler[@]}" "${flags[@]}" -c "$folder/ggml/src/$source" -o "$folder/$source.o"
  objects+=("$folder/$source.o")
done
# Functions of the other files (backends) are never called.
g++ -shared -Wl,-z,lazy -o "$folder/libggml-quants.so" "${objects[@]}" -lm -lpthread
echo "$folder/libggml-quants.so"
