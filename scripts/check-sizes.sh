#!/usr/bin/env bash
# Two promises of the design, counted: the reference backend has at most 200 lines of code, `Backend` at most 9 methods without a
# default body.
set -euo pipefail
cd "$(dirname "$0")/.."
lines=$(cat backends/reference/src/*.rs | grep -cvE '^[[:space:]]*(//|$)')
required=$(awk '/^pub trait Backend/ { inside = 1 } inside && /^}/ { inside = 0 } inside' core/src/backend/mod.rs |
    tr -d '\n' | sed 's/    fn /\nfn /g' | grep -E '^fn ' | sed 's://.*::' | grep -cE '^fn [^{]*;')
echo "reference backend: $lines lines of code (at most 200)"
echo "Backend: $required methods without a default body (at most 9)"
[ "$lines" -le 200 ] && [ "$required" -le 9 ] && [ "$required" -ge 1 ]
