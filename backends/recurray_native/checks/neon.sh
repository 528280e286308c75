#!/usr/bin/env bash
# Builds the engine for 64-bit ARM with a cross compiler and runs self_check.c under an emulator: NEON against portable C.
#
#     backends/recurray_native/checks/neon.sh [problems]
#
# Wants aarch64-linux-gnu-gcc and qemu-aarch64 (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user), and a Python
# that has recurray: $PYTHON, else python3.
set -euo pipefail
engine=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/recurray_native"
cp "$engine"/*.py "$work/recurray_native"
PYTHONPATH="$work${PYTHONPATH:+:$PYTHONPATH}" "${PYTHON:-python3}" "$engine/checks/write_programs.py" >"$work/programs.h"

flags=(-O2 -std=gnu11 -fno-math-errno -fno-trapping-math -ffp-contract=fast -Wno-psabi -I"$work")
level() { # name, bytes of a vector, rows and vectors of a tile
    for double in 0 1; do
        aarch64-linux-gnu-gcc "${flags[@]}" -DLEVEL="$1" -DDOUBLE=$double -DVECTOR_BYTES="$2" -DROWS="$3" -DVECTORS="$4" \
            -c "$engine/c/level.c" -o "$work/$1_$double.o"
    done
}
level neon 16 6 4
level portable 16 4 2
aarch64-linux-gnu-gcc "${flags[@]}" -static -pthread "$engine"/checks/self_check.c "$engine"/c/{dispatch,memory,pool}.c "$work"/*.o \
    -lm -o "$work/self_check"
qemu-aarch64 "$work/self_check" "${1:-200}"
