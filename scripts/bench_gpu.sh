#!/bin/sh
# Measure elimtool on a CUDA device, in under eight minutes: traces and batches against bare passes, waits of the
# host, peak memory, and whether models under hooks match Hugging Face there.
#
#   scripts/bench_gpu.sh              # on a machine with a GPU; exits with 69 where there is none
#   scripts/bench_gpu.sh --dry-run    # the same commands with a tiny random model on the processor
#
# PYTHON is the interpreter to use (default: python). Each step ends by itself after its share of the time.
set -u
cd "$(dirname "$0")/.." || exit 1
PYTHON=${PYTHON:-python}
failed=0

step() {
    seconds=$1
    shift
    echo "-- $*"
    timeout "$seconds" "$@" || { echo "failed with exit code $?: $*"; failed=1; }
}

if [ "${1:-}" = "--dry-run" ]; then
    step 300 "$PYTHON" scripts/bench_gpu.py --random tiny --device cpu --prompts 8 --waits
    step 120 "$PYTHON" -m elimtool models verify smollm2 --device cpu
    exit $failed
fi
if ! "$PYTHON" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    echo "no CUDA device is here, so nothing was measured; --dry-run runs the same code on the processor"
    exit 69
fi
step 110 "$PYTHON" scripts/bench_gpu.py --dtype float32 --waits
step 90 "$PYTHON" scripts/bench_gpu.py --dtype bfloat16
step 150 "$PYTHON" scripts/bench_gpu.py --random 7b --dtype bfloat16 --prompts 128
step 50 "$PYTHON" -m elimtool models verify smollm2 --device cuda
step 50 "$PYTHON" -m elimtool models verify smollm2 --device cuda --dtype bfloat16
exit $failed
