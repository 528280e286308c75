#!/usr/bin/env bash
# Builds the engine with sanitizers and runs it on random shapes; any report fails.
#
#     backends/recurray_native/checks/sanitizers.sh [address|thread|integer|memory] [problems]
#
# With $CC, gcc or clang (integer and memory: clang alone), else gcc; and with a Python that has recurray and its test
# dependencies: $PYTHON, else python3. memory, which wants all of a program compiled with it, runs self_check.c.
set -euo pipefail
which=${1:-address}
problems=${2:-1000}
engine=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tests=$(cd "$engine/../../tests" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compiler=${CC:-gcc}
case $which in
address) sanitize=(-fsanitize=address,undefined -fno-sanitize-recover=all) runtime=asan ;;
thread) sanitize=(-fsanitize=thread) runtime=tsan ;;
integer) sanitize=(-fsanitize=undefined,integer,local-bounds -fno-sanitize-recover=all) runtime=ubsan_standalone ;;
memory) sanitize=(-fsanitize=memory -fsanitize-memory-track-origins) runtime="" ;;
*) echo "address, thread, integer or memory, not $which" >&2; exit 2 ;;
esac
if "$compiler" --version | grep -q clang; then
    library=$("$compiler" -print-file-name="libclang_rt.$runtime-$(uname -m).so")
    [ -z "$runtime" ] || sanitize+=(-shared-libsan)
else
    library=$("$compiler" -print-file-name="lib$runtime.so")
fi

flags=(-O1 -g -std=gnu11 -fPIC -fvisibility=hidden -fno-math-errno -fno-trapping-math -ffp-contract=fast -Wno-psabi "${sanitize[@]}")
level() { # name, bytes of a vector, rows and vectors of a tile, flags; float and double at the same time
    local compilers=()
    for double in 0 1; do
        "$compiler" "${flags[@]}" "${@:5}" -DLEVEL="$1" -DDOUBLE=$double -DVECTOR_BYTES="$2" -DROWS="$3" -DVECTORS="$4" \
            -c "$engine/c/level.c" -o "$work/$1_$double.o" &
        compilers+=($!)
    done
    wait "${compilers[0]}"
    wait "${compilers[1]}"
}
level portable 16 4 2
level avx512 64 6 4 -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma
level avx2 32 6 2 -mavx2 -mfma
for part in dispatch memory pool; do "$compiler" "${flags[@]}" -c "$engine/c/$part.c" -o "$work/$part.o"; done
mkdir "$work/recurray_native"
cp "$engine"/*.py "$work/recurray_native"
export OPENBLAS_NUM_THREADS=1 PYTHONPATH="$work:$tests${PYTHONPATH:+:$PYTHONPATH}"
if [ -z "$runtime" ]; then
    "${PYTHON:-python3}" "$engine/checks/write_programs.py" >"$work/programs.h"
    "$compiler" "${flags[@]}" -I"$work" -pthread "$engine/checks/self_check.c" "$work"/*.o -lm -o "$work/self_check"
    "$work/self_check" "$problems"
else
    "$compiler" -shared -pthread "${sanitize[@]}" "$work"/*.o -o "$work/recurray_native/librecurray_native.so"
    # Python itself leaks, and sets up no stacks for the sanitizers: only the engine's own code is looked at.
    export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS="halt_on_error=1 exitcode=66"
    LD_PRELOAD=$library "${PYTHON:-python3}" "$engine/checks/random_shapes.py" "$problems"
fi
echo "$which: no report in $problems problems"
