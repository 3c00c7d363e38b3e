#!/usr/bin/env bash
# Errors of memory (address, the default) or races (thread) of the CPU backend: its tests, and a part of the conformance
# suite, under a sanitizer of LLVM. For threads the standard library is built too: rustup component add rust-src.
set -euo pipefail
cd "$(dirname "$0")/.."
sanitizer=${1:-address}
target=$(rustc -vV | sed -n 's/^host: //p')
# Sanitizers are not stable in Rust; the stable compiler has them.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$sanitizer" CARGO_TARGET_DIR=$PWD/target/sanitizer
export CARGO_PROFILE_DEV_DEBUG=line-tables-only CARGO_PROFILE_TEST_DEBUG=line-tables-only
# Tests ask for memory that is not there, and leave pools behind on purpose.
export ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=1:detect_leaks=0
export TSAN_OPTIONS=allocator_may_return_null=1:halt_on_error=1
options=(--target "$target")
case $sanitizer in
    address) ;;
    thread) options+=(-Zbuild-std) ;;
    *) echo "usage: $0 [address|thread]" >&2; exit 2 ;;
esac
cargo test "${options[@]}" -p isograd-cpu --lib
cargo test "${options[@]}" -p isograd-cpu --test cpu
for filter in ${SANITIZE_CASES:-matmul conv pool softmax primitive network_lenet}; do
    cargo run --quiet "${options[@]}" -p isograd-conformance -- run --device cpu --quick --filter "$filter"
done
