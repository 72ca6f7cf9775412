#!/usr/bin/env bash
# Everything that is measured on a GPU, in under 9 minutes; needs neither Ray nor an installation.
#
#   benchmarks/gpu.sh                          one GPU; files into $OUT or benchmarks/results
#   benchmarks/gpu.sh --device cpu --quick     the same on a CPU with tiny sizes, into build/gpu
#
#   --out DIR      where the files go
#   --motion DIR   the motion set, prepared before (benchmarks/gpu_cells.py); PyAV is not needed then
#   --shards DIR   a prepared set, whose frames are decoded instead of made-up ones
#
# PYTHON is the interpreter (python3). Each part has a time of its own and is ended when that is
# over; what it has measured by then is kept. Exit status: 0; 1 where a part failed or was ended.
set -u
device=cuda quick="" out="" motion="" shards=""
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        --motion) motion=$2; shift 2 ;;
        --shards) shards=$2; shift 2 ;;
        --quick) quick=--quick; shift ;;
        *) echo "gpu.sh: $1 is not valid; it is --device, --quick, --out, --motion or --shards" >&2; exit 2 ;;
    esac
done
if [ "$device" = cpu ] && [ -z "$quick" ]; then
    echo "gpu.sh: --device cpu is a rehearsal; it needs --quick" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
[ "$device" = cpu ] && default=$here/build/gpu || default=${OUT:-$here/benchmarks/results}
out=${out:-$default}
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
motion=${motion:+$(realpath "$motion")} shards=${shards:+$(realpath "$shards")}
cd "$here" || exit 1
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
files=(gpu_steps_r3d_18.json gpu_steps_r3d_50.json gpu_steps_compiled.json gpu_data.json gpu_cells.json)

"$python" benchmarks/gpu_check.py --device "$device" ${motion:+--motion} || exit 1
(cd "$out" && rm -f "${files[@]}" gpu.json) # a part that fails leaves no older file behind

parts=()
failed=0
turns=3 slack=1
[ -z "$quick" ] || { turns=1 slack=4; } # a rehearsal may stand behind other work
part() { # part NAME SECONDS COMMAND...
    local name=$1 limit=$(($2 * slack)) began=$SECONDS status
    shift 2
    echo
    echo "== $name (at most $limit s)"
    timeout -k 5 "$limit" "$@"
    status=$?
    [ $status = 0 ] || { failed=1; echo "== $name: status $status"; }
    parts+=("$name:$status:$((SECONDS - began))")
}
steps() { # steps NAME SECONDS ARGUMENTS...: no case is begun that would not end in time
    local name=$1 limit=$2
    shift 2
    part "$name" "$limit" "$python" benchmarks/gpu_steps.py --device "$device" $quick \
        --turns $turns --seconds $((limit * slack - 15)) --out "$out/gpu_$name.json" "$@"
}
cases() { printf "$1:%s " vicreg simclr byol cvrl corp_f corp_m; }

if "$python" -c "import pytest" 2>/dev/null; then
    part tests 75 "$python" -m pytest tests/cuda -p no:cacheprovider
else
    echo "tests/cuda: left out, pytest is not installed"
fi
steps steps_r3d_18 110 --cases $(cases r3d_18)
part data 50 "$python" benchmarks/gpu_data.py --device "$device" $quick --turns $turns \
    ${shards:+--shards "$shards"} --out "$out/gpu_data.json"
if [ -n "$quick" ]; then # a rehearsal of what differs from r3d_18
    steps steps_r3d_50 60 --cases r3d_50:vicreg
    steps steps_compiled 60 --cases r3d_18:vicreg --compiler aot_eager \
        --ways bf16 bf16_compiled
else
    steps steps_r3d_50 95 --cases $(cases r3d_50)
    steps steps_compiled 105 --cases $(cases r3d_18) r3d_50:vicreg --ways bf16 bf16_compiled
fi
part cells 60 "$python" benchmarks/gpu_cells.py --device "$device" $quick ${motion:+--motion "$motion"} \
    --out "$out/gpu_cells.json"
"$python" benchmarks/gpu_report.py "$out" --device "$device" --parts "${parts[@]}" || failed=1
exit $failed
