#!/usr/bin/env bash
# Everything about the CUDA backend that needs a GPU, in under ten minutes.
#
#   scripts/gpu-check.sh pack DIR     here: builds, and packs into DIR the programs, NVRTC, and this script
#   DIR/gpu-check.sh run OUT          on the machine with the GPU: runs them, and writes reports and the table into OUT
#
# With a GPU in this machine, `pack` and `run` one after the other. PyTorch is compared with where `python3 -c 'import torch'`
# works; compute-sanitizer runs where it is found. What could not run is listed at the end of the table.
set -uo pipefail

pack() {
    set -e
    cd "$(dirname "$0")/.."
    local to=$1
    mkdir -p "$to"
    cargo build --release -p isograd-cuda --example conformance --example gpu_bench
    cargo build --release -p isograd --features cuda --example lenet
    cp target/release/examples/{conformance,gpu_bench,lenet} "$to/"
    cp scripts/gpu-check.sh scripts/gpu-peer.py "$to/"
    [ -d data ] && cp -r data "$to/"
    python3 -m pip install --quiet --target "$to/packages" nvidia-cuda-nvrtc
    du -sh "$to"
}

run() {
    local here out
    here=$(cd "$(dirname "$0")" && pwd)
    mkdir -p "$1"
    out=$(cd "$1" && pwd)
    cd "$here"
    export ISOGRAD_CUDA_LIBRARIES=$here/packages ISOGRAD_CACHE=$out/cache
    local missing=()
    nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv,noheader | tee "$out/table.txt"

    echo "== conformance" | tee -a "$out/table.txt"
    timeout 240 ./conformance > "$out/conformance.txt" 2>&1
    local conformance=$?
    tail -n 1 "$out/conformance.txt" | tee -a "$out/table.txt"

    echo "== lenet" | tee -a "$out/table.txt"
    ISOGRAD_DEVICE=cuda:0 timeout 120 ./lenet --device cuda:0 > "$out/lenet.txt" 2>&1 || missing+=("lenet: see lenet.txt")
    grep '^test accuracy' "$out/lenet.txt" | tee -a "$out/table.txt"

    echo "== compute-sanitizer" | tee -a "$out/table.txt"
    local sanitizer
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | tail -n 1)
    if [ -n "$sanitizer" ]; then
        for tool in memcheck racecheck; do
            timeout 100 "$sanitizer" --tool $tool ./conformance --quick > "$out/$tool.txt" 2>&1
            echo "$tool: $(grep -E 'SUMMARY' "$out/$tool.txt" | tail -n 1)" | tee -a "$out/table.txt"
        done
    else
        missing+=("compute-sanitizer: not on this machine")
    fi

    echo "== figures (isograd)" | tee -a "$out/table.txt"
    timeout 120 ./gpu_bench 2> "$out/bench-errors.txt" | tee -a "$out/table.txt"
    echo "== figures (PyTorch)" | tee -a "$out/table.txt"
    if python3 -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null; then
        timeout 120 python3 gpu-peer.py 2> "$out/peer-errors.txt" | tee -a "$out/table.txt"
    else
        missing+=("PyTorch: not on this machine")
    fi
    printf 'not run: %s\n' "${missing[@]:-nothing}" | tee -a "$out/table.txt"
    return $conformance
}

case "${1:-}" in
    pack) pack "${2:?where to}" ;;
    run) run "${2:?where to}" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
