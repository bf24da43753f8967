#!/usr/bin/env bash
# Everything that has to be seen on a GPU, meant to take less than eight minutes: builds model/ alone, tests it on the
# device, under compute-sanitizer, against the CPU at the published shapes, and measures it beside PyTorch. Needs cmake, gcc,
# nvcc, and the libraries that deploy/carry collected in build/carry where the machine has no such packages. Leaves text and
# CSV in build/cuda_all and, where $OUT is a folder, all of it there as cuda_all.tar.gz.
#
# usage: tests/bench/cuda_all.sh [PART...]     parts, and their seconds on 16 cores (estimates):
#   build 90  test 20  sanitize 90  compare 60  gpu 40  model 70  torch 90      default: all of them, in this order
#   compare-large 150 (1.4b and 2.8b against the CPU), jrt 60 (the mixer of 16 long sequences): not by default
set -uo pipefail
cd "$(dirname "$0")/../.."
export to=build/cuda_all models=build/cuda_models bin=build/cuda/bin
mkdir -p "$to"
parts=${*:-build test sanitize compare gpu model torch}
verdicts=()

# step NAME SECONDS COMMAND...: its output to NAME.txt and, the last lines, here.
step() {
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    timeout "$limit" "$@" >"$to/$name.txt" 2>&1
    local rc=$?
    tail -n 25 "$to/$name.txt"
    verdicts+=("$name: $([[ $rc -eq 0 ]] && echo ok || echo "failed ($rc)"), $((SECONDS - start)) s")
    echo "== ${verdicts[-1]}"
    return $rc
}

# model_of NAME WIDTH LAYERS [HEADS]: a folder of random weights in bfloat16, once.
model_of() {
    [[ -f $models/$1/model.safetensors ]] && return
    mkdir -p "$models"
    if [[ $# -gt 3 ]]; then build/cuda/tests/make_random_model "$models/$1" 1 "$2" "$3" 50280 128 "$4" 1 bf16
    else build/cuda/tests/make_random_model "$models/$1" 1 "$2" "$3" 50280 16 bf16; fi
}

build() {
    local carry=() generator=()
    [[ -d build/carry ]] && carry=(-DLETHE_CARRY="$PWD/build/carry")
    command -v ninja >/dev/null || generator=(-G "Unix Makefiles")
    cmake -S . -B build/cuda "${generator[@]}" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DLETHE_MODEL_ONLY=ON -DLETHE_CUDA=ON -DLETHE_WERROR=OFF "${carry[@]}" &&
        cmake --build build/cuda -j "$(nproc)" --target lethe-bench cuda_compare make_random_model test_cuda_device test_model test_cuda
}

sanitize() {
    local rc=0
    for tool in memcheck racecheck initcheck; do
        echo "-- $tool"
        LETHE_TEST_DEVICE=1 LETHE_TEST_SMALL=1 timeout 100 compute-sanitizer --tool "$tool" --error-exitcode 9 build/cuda/tests/test_cuda_device || rc=1
    done
    return $rc
}

compare() {
    local rc=0
    model_of 130m 768 24
    model_of 370m 1024 48
    model_of mamba2-130m 768 24 24
    for m in 130m 370m mamba2-130m; do $bin/cuda_compare "$models/$m" || rc=1; done
    return $rc
}

compare_large() {
    local rc=0
    model_of 1.4b 2048 48
    $bin/cuda_compare "$models/1.4b" 48 8 || rc=1
    model_of 2.8b 2560 64
    $bin/cuda_compare "$models/2.8b" 48 8 || rc=1
    return $rc
}

model() {
    model_of 2.8b 2560 64
    $bin/lethe-bench model "$models/2.8b" --backend cuda --repeat 3 --csv "$to/model.csv"
}

export -f model_of build sanitize compare compare_large model

nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm --format=csv >"$to/device.txt" 2>&1
cat "$to/device.txt"
for part in $parts; do
    case $part in
    build) step build 300 bash -c build || { [[ -x $bin/lethe-bench ]] || break; } ;;
    test) LETHE_TEST_DEVICE=1 step test 120 build/cuda/tests/test_cuda_device ;;
    sanitize) step sanitize 310 bash -c sanitize ;;
    compare) step compare 150 bash -c compare ;;
    compare-large) step compare-large 400 bash -c compare_large ;;
    gpu) step gpu 100 $bin/lethe-bench gpu --csv "$to/gpu.csv" ;;
    jrt) step jrt 120 $bin/lethe-bench gpu --long --csv "$to/jrt.csv" ;;
    model) step model 200 bash -c model ;;
    torch) step torch 200 python3 tests/bench/cuda_torch.py --csv "$to/torch.csv" --seconds 100 ;;
    *) echo "cuda_all.sh: no part $part"; exit 2 ;;
    esac
done
printf '%s\n' "${verdicts[@]}" | tee "$to/verdicts.txt"
[[ -d ${OUT:-} ]] && tar -czf "$OUT/cuda_all.tar.gz" -C build cuda_all && cp "$to/verdicts.txt" "$OUT/"
! grep -q failed "$to/verdicts.txt"
