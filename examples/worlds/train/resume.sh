#!/bin/sh
# Goes on with everything from the last checkpoints, in the background: one process and one thread a world, at the
# lowest priority. Safe to call again: a world that is already training is left alone.
#   sh resume.sh [python]          logs: $ORRERY_WORLDS/<world>/train.log (default ~/.cache/orrery/worlds)
python=${1:-python3}
here=$(cd "$(dirname "$0")" && pwd)
root=${ORRERY_WORLDS:-$HOME/.cache/orrery/worlds}
export OMP_NUM_THREADS=1
cd "$here" || exit 1
for world in pusht doom; do
  mkdir -p "$root/$world"
  # The lock is held by the training itself, so it goes when the training does. Where Linux groups processes by
  # session, `nice` counts inside the group only, so the group gives way too, though not quite as much.
  nohup setsid nice -n 19 flock -w 30 "$root/$world/lock" sh -c \
    "[ ! -w /proc/self/autogroup ] || echo 5 >/proc/self/autogroup; \
     '$python' collect_$world.py && '$python' train_tokenizer.py $world && '$python' train_dynamics.py $world" \
    >>"$root/$world/train.log" 2>&1 </dev/null &
done
