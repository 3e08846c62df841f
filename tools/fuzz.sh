#!/usr/bin/env bash
# Fuzzes the compiled tokenizer core, without Python: tools/fuzz.sh [SECONDS] [HARNESS...]
#
# Builds each harness of native/fuzz with libFuzzer and the address and undefined-behaviour
# sanitizers and gives it its share of the seconds. Stops at the first input that shows a fault, and
# leaves that input in the build folder. Needs clang. FUZZ_BUILD names the build folder, where
# the inputs found so far are kept for the next time.
set -euo pipefail

seconds=${1:-600}
shift || true
harnesses=("$@")
[[ ${#harnesses[@]} -gt 0 ]] || harnesses=(split stream merge train decode)

root=$(cd "$(dirname "$0")/.." && pwd)
build=${FUZZ_BUILD:-$root/build/fuzz}
mkdir -p "$build"
compile=("${CXX:-clang++}" -std=c++20 -O2 -g -Wall -Wextra -fno-omit-frame-pointer
  -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)

sources=(characters split special range count train merge encode decode kernels)
if [[ $(uname -m) == x86_64 ]]; then
  sources+=(kernels_avx2 kernels_avx512)
fi
objects=()
for source in "${sources[@]}"; do
  options=()
  [[ $source == kernels_avx2 ]] && options=(-mavx2)
  [[ $source == kernels_avx512 ]] && options=(-mavx512bw)
  "${compile[@]}" ${options[@]+"${options[@]}"} -c "$root/native/$source.cpp" -o "$build/$source.o"
  objects+=("$build/$source.o")
done

for harness in "${harnesses[@]}"; do
  "${compile[@]}" "$root/native/fuzz/$harness.cpp" "${objects[@]}" -o "$build/fuzz_$harness"
done
for harness in "${harnesses[@]}"; do
  mkdir -p "$build/corpus_$harness"
  echo "== $harness: $((seconds / ${#harnesses[@]})) seconds"
  "$build/fuzz_$harness" -max_total_time=$((seconds / ${#harnesses[@]})) -max_len=4096 \
    -dict="$root/native/fuzz/tricky.dict" -artifact_prefix="$build/$harness-" -timeout=20 \
    -print_final_stats=1 -verbosity=1 "$build/corpus_$harness" >"$build/$harness.log" 2>&1 || {
    tail -40 "$build/$harness.log"
    exit 1
  }
  grep -E "stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)" "$build/$harness.log"
done
echo "no fault found"
