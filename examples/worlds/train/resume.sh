#!/bin/sh
# Goes on with everything from the last checkpoints, in the background: one process and one thread a world, at low
# priority. Safe to call again: a world that is already training is left alone.
#   sh resume.sh [python]          logs: $ORRERY_WORLDS/<world>/train.log (default ~/.cache/orrery/worlds)
python=${1:-python3}
export python OMP_NUM_THREADS=1 ORRERY_WORLDS="${ORRERY_WORLDS:-$HOME/.cache/orrery/worlds}"
cd "$(dirname "$0")" || exit 1

if [ -n "$2" ]; then                        # resume.sh PYTHON WORLD: the stages of one world, in the foreground
  # Where Linux groups processes by session, `nice` counts inside the group only: the group gives way too.
  [ ! -w /proc/self/autogroup ] || echo 5 >/proc/self/autogroup
  cache=$ORRERY_WORLDS/$2
  [ -e "$cache/data.done" ] || { "$python" "collect_$2.py" && : >"$cache/data.done"; } || exit 1
  [ -e "$cache/tokenizer.done" ] || { "$python" train_tokenizer.py "$2" && : >"$cache/tokenizer.done"; } || exit 1
  if [ "$2" = pusht ]; then exec "$python" train_next.py pusht; else exec "$python" train_dynamics.py "$2"; fi
fi
for world in pusht doom; do
  mkdir -p "$ORRERY_WORLDS/$world"
  # The lock is held by the training itself, so it goes when the training does.
  nohup setsid nice -n 19 flock -w 30 "$ORRERY_WORLDS/$world/lock" sh resume.sh "$python" "$world" \
    >>"$ORRERY_WORLDS/$world/train.log" 2>&1 </dev/null &
done
