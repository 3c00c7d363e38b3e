#!/usr/bin/env bash
# Everything about the CUDA backend that needs a GPU, in under ten minutes.
#
#   scripts/gpu-check.sh pack DIR     here: builds, and packs into DIR the programs, the data and this script, some 20 MB;
#                                     with `pack DIR nvrtc` also NVRTC (140 MB), for a machine that has neither CUDA's toolkit
#                                     nor PyTorch
#   DIR/gpu-check.sh run OUT          on the machine with the GPU: runs them, and writes reports and the table into OUT
#   DIR/gpu-check.sh table OUT        prints the figures that `run` left in OUT, isograd's, fast and exact, and PyTorch's side
#                                     by side
#
# With a GPU in this machine, `pack` and `run` one after the other. PyTorch is compared with where `python3` has it;
# compute-sanitizer runs where it is found; cuBLAS, cuDNN and NCCL are used where they are found. What could not run is
# listed at the end of the table. The exit status is not 0 if a check failed.
set -uo pipefail

pack() {
    set -e
    cd "$(dirname "$0")/.."
    local to=$1 figures
    mkdir -p "$to"
    cargo build --release -p isograd-conformance --features cuda
    cargo build --release -p isograd-cuda --example gpu_bench
    cargo build --release -p isograd --features cuda --example lenet
    local program
    for program in isograd-conformance examples/gpu_bench examples/lenet; do
        strip -o "$to/$(basename $program)" "target/release/$program"
    done
    cp scripts/gpu-check.sh scripts/gpu-peer.py "$to/"
    cp -r data "$to/"
    if [ "${2:-}" = nvrtc ]; then
        python3 -m pip install --quiet --target "$to/packages" nvidia-cuda-nvrtc
    fi
    # Without a device: the program of figures works.
    "$to/gpu_bench" --check cpu > "$to/self-check.txt"
    figures=$(wc -l < "$to/self-check.txt")
    echo "self-check: $figures figures, $(grep -c step "$to/self-check.txt") of training steps"
    du -sh "$to"
}

run() {
    local here out status=0
    here=$(cd "$(dirname "$0")" && pwd)
    mkdir -p "$1"
    out=$(cd "$1" && pwd)
    cd "$here" || exit 2
    export ISOGRAD_CUDA_LIBRARIES=$here/packages${ISOGRAD_CUDA_LIBRARIES:+:$ISOGRAD_CUDA_LIBRARIES}
    export ISOGRAD_CACHE_DIR=$out/cache
    # PyTorch brings cuBLAS, cuDNN and NCCL along: both are measured with the same.
    local torch
    torch=$(python3 -c 'import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)) if torch.cuda.is_available() else "")' 2> /dev/null)
    [ -n "$torch" ] && ISOGRAD_CUDA_LIBRARIES+=:$torch
    : > "$out/missing.txt"
    nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,memory.total --format=csv,noheader > "$out/device.txt"

    timeout 40 ./gpu_bench --check cuda > "$out/self-check.txt" 2>&1 || { status=1; tail -n 3 "$out/self-check.txt"; }

    # Near results by NVIDIA's libraries, then exact ones.
    timeout 100 ./gpu_bench cuda:fast > "$out/isograd.tsv" 2> "$out/isograd-errors.txt" || { status=1; cat "$out/isograd-errors.txt"; }
    timeout 70 ./gpu_bench cuda > "$out/exact.tsv" 2> "$out/exact-errors.txt" || { status=1; cat "$out/exact-errors.txt"; }
    if [ -n "$torch" ]; then
        timeout 75 python3 gpu-peer.py > "$out/pytorch.tsv" 2> "$out/pytorch-errors.txt" || status=1
    else
        : > "$out/pytorch.tsv"
        echo "PyTorch: not on this machine" >> "$out/missing.txt"
    fi

    timeout 40 ./lenet --device cuda:0 --out "$out/lenet" > "$out/lenet.txt" 2>&1 || status=1
    awk '/^test accuracy: / { ok = ($3 >= 0.97) } END { exit !ok }' "$out/lenet.txt" || status=1

    # The compiler works on one kernel at a time in a process, so several processes share the suite. All of it is for exact
    # results; in fast ones only what multiplies or scatters differs.
    conforms exact 140 --device cuda:0 || status=1
    conforms fast 50 --device cuda:0:fast --quick --filter primitive_ || status=1

    local sanitizer tool
    sanitizer=$(command -v compute-sanitizer || find /usr/local -maxdepth 3 -name compute-sanitizer 2> /dev/null | tail -n 1)
    for tool in memcheck racecheck; do
        if [ -z "$sanitizer" ]; then
            echo "compute-sanitizer $tool: not on this machine" >> "$out/missing.txt"
            continue
        fi
        timeout 40 "$sanitizer" --error-exitcode 9 --tool "$tool" ./isograd-conformance run --device cuda:0 --quick --filter _layouts \
            > "$out/$tool.txt" 2>&1
        case $? in
            0) ;;
            124) echo "compute-sanitizer $tool: only a part, the time was up" >> "$out/missing.txt" ;;
            *) status=1 ;;
        esac
    done
    table "$out" | tee "$out/table.txt"
    return $status
}

# Runs the suite with some arguments in so many seconds, by several processes in the folder of `run`; the reports get a name.
conforms() {
    local name=$1 seconds=$2 share shares=8 running=() status=0
    shift 2
    for ((share = 0; share < shares; share++)); do
        timeout "$seconds" ./isograd-conformance run "$@" --share $share/$shares > "$out/$name-$share.txt" 2>&1 &
        running+=($!)
    done
    for share in "${running[@]}"; do wait "$share" || status=1; done
    cat "$out/$name"-?.txt > "$out/conformance-$name.txt"
    return $status
}

table() {
    local out=$1 tool mode
    cat "$out/device.txt"
    # The sum of what the shares say; one that did not come to its end says nothing.
    for mode in exact fast; do
        awk -v mode=$mode '/^passed [0-9]+, failed/ { ended++; passed += $2; failed += $4; skipped += $6 }
            END { printf "conformance, %s: passed %d, failed %d, skipped %d, in %d shares\n", mode, passed, failed, skipped, ended }' \
            "$out/conformance-$mode.txt"
    done
    echo "lenet: $(grep '^test accuracy' "$out/lenet.txt")"
    for tool in memcheck racecheck; do
        [ -f "$out/$tool.txt" ] && echo "$tool: $(grep 'ERROR SUMMARY\|RACECHECK SUMMARY' "$out/$tool.txt" | tail -n 1)"
    done
    printf '\n| what | isograd, fast, ms | rate | exact, ms | PyTorch, ms | PyTorch / isograd | cuBLAS / isograd |\n'
    printf '| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n'
    awk -F '\t' '
        FILENAME == ARGV[1] { peer[$1] = $2; next }
        FILENAME == ARGV[2] { exact[$1] = $2; order[++lines] = $1; next }
        function share(name) { return name in peer ? sprintf("%.2f", peer[name] / $2) : "" }
        { seen[$1] }
        $2 == "-" { printf "| %s | | %s | | | | |\n", $1, $3; next }
        {
            other = $1
            sub(/, captured$/, "", other)
            theirs = other in peer ? peer[other] : ""
            printf "| %s | %s | %s %s | %s | %s | %s | %s |\n", $1, $2, $3, $4, exact[$1], theirs, share(other), share($1 ", cuBLAS")
        }
        # What there is of exact results alone.
        END {
            for (n = 1; n <= lines; n++) if (!(order[n] in seen)) printf "| %s | | | %s | | | |\n", order[n], exact[order[n]]
        }' "$out/pytorch.tsv" "$out/exact.tsv" "$out/isograd.tsv"
    echo
    sed 's/^/not run: /' "$out/missing.txt"
}

case "${1:-}" in
    pack) pack "${2:?where to}" "${3:-}" ;;
    run) run "${2:?where to}" ;;
    table) table "${2:?of which folder}" ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
