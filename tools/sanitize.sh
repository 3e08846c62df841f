#!/usr/bin/env bash
# Runs tests against a compiled core that checks itself: tools/sanitize.sh [PYTEST ARGUMENTS...]
#
# Builds the core with the address and undefined-behaviour sanitizers beside a copy of the Python
# files, so that the installed package stays as it is, and runs the tests of the core on that copy.
# Needs GCC and what the package is built with. SANITIZE_BUILD names the folder; PYTHON the Python.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=${SANITIZE_BUILD:-$root/build/sanitize}
python=${PYTHON:-$root/.venv/bin/python}
compiler=${CXX:-g++}
tests=("$@")
[[ ${#tests[@]} -gt 0 ]] || tests=(
  "$root/tests/unit/tokenizer"
  "$root/tests/property/test_tokenizer_properties.py"
  "$root/tests/property/test_tokenizer_streams.py"
  "$root/tests/property/test_packing.py"
  "$root/tests/property/test_order.py"
  "$root/tests/unit/data/test_loader.py"
  "$root/tests/unit/model/test_core_kernels.py"
)

nanobind=$("$python" -m nanobind --cmake_dir)
cmake -S "$root" -B "$build/core" -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_COMPILER="$compiler" \
  -DCMAKE_CXX_FLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined" \
  -DPython_EXECUTABLE="$python" -Dnanobind_DIR="$nanobind" >/dev/null
cmake --build "$build/core" >/dev/null
rm -rf "$build/package"
mkdir -p "$build/package"
cp -r "$root/src/modelwright" "$build/package/"
cp "$build"/core/_native*.so "$build/package/modelwright/"

# Python itself is not checked, so the sanitizers have to be there before it, and what it does not
# free at its end is no leak. An editable install would stand before PYTHONPATH: -S leaves it out.
packages=$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
LD_PRELOAD=$("$compiler" -print-file-name=libasan.so):$("$compiler" -print-file-name=libubsan.so)
export LD_PRELOAD
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=0:halt_on_error=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export PYTHONPATH="$build/package:$packages"
"$python" -S -c "
from modelwright import _native
assert '$build' in _native.__file__, _native.__file__
print('the core under test is', _native.__file__)"
cd "$root"
exec "$python" -S -m pytest -p no:cacheprovider "${tests[@]}"
