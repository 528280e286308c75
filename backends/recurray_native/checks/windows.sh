#!/usr/bin/env bash
# Builds the engine for Windows with a cross compiler and runs self_check.c with the DLL under Wine.
#
#     backends/recurray_native/checks/windows.sh [problems]
#
# With $CC, else `zig cc` for x86_64-windows-gnu (`pip install ziglang`); x86_64-w64-mingw32-gcc does too. Wants cmake, ninja
# and wine, and a Python that has recurray: $PYTHON, else python3. Wine's folder is $WINEPREFIX, by default a new one.
set -euo pipefail
engine=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
export CC=${CC:-$python -m ziglang cc -target x86_64-windows-gnu}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/recurray_native"
cp "$engine"/*.py "$work/recurray_native"
PYTHONPATH="$work${PYTHONPATH:+:$PYTHONPATH}" "$python" "$engine/checks/write_programs.py" >"$work/programs.h"
cmake -G Ninja -S "$engine" -B "$work" -DCMAKE_SYSTEM_NAME=Windows >"$work/configured"
cmake --build "$work"
$CC -O1 -I"$work" "$engine/checks/self_check.c" "$work/librecurray_native.dll.a" -o "$work/self_check.exe"
WINEPREFIX=${WINEPREFIX:-$work/wine} WINEDEBUG=-all wine "$work/self_check.exe" "${1:-200}"
