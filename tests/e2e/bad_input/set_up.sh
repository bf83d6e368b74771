# Beginning and end of every script in this folder, of tests/e2e/libvirtd and tests/e2e/ownership:
# source it with the folder of Farside's programs.
# shellcheck shell=bash disable=SC2034  # What deploy/lib/two-sites.sh reads.
set -euo pipefail
shopt -s inherit_errexit
BIN=$(cd "$1" && pwd)
GUEST=$(dirname "$BIN")/guest
WORK=$(mktemp -d "${TMPDIR:-/tmp}/farside-bad.XXXXXX")
SEED_MIB=16 DISK_MIB=256 PACE_MS=20
# shellcheck source=deploy/lib/two-sites.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../../deploy/lib/two-sites.sh"

finish() {
  local status=$?
  trap - EXIT INT TERM
  case $status in
    0 | 77) ;;
    *) tail -n 8 "$WORK"/log/*.log 2>/dev/null || true ;;
  esac
  two_sites_stop
  if mountpoint -q "$WORK/siteB/replicas"; then umount -l "$WORK/siteB/replicas"; fi
  rm -rf "$WORK"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

rule() { printf '\n== %s\n' "$*"; }

# expect STATUS TEXT... -- COMMAND...: it ends by itself with this status and says all of the texts.
expect() {
  local wanted=$1 texts=() text said status=0 within=(timeout 60)
  shift
  while [ "$1" != -- ]; do texts+=("$1") && shift; done
  shift
  ! declare -F "$1" >/dev/null || within=() # A function of the script.
  said=$("${within[@]}" "$@" 2>&1) || status=$?
  [ "$status" -eq "$wanted" ] || die "'$*' ended with $status, not $wanted: $said"
  for text in "${texts[@]}"; do
    grep -qF -- "$text" <<<"$said" || die "'$*' does not say '$text' but: $said"
  done
  say "ok: $(grep -vE ' (info|warning) ' <<<"$said" | head -n 2 | tr '\n' ' ')"
}

# changed FILE SED...: a copy of a file with these changes; its path in $CHANGED.
changed() {
  local from=$1
  shift
  CHANGED=$WORK/etc/changed.${from##*.}
  sed "${@/#/-e}" "$from" >"$CHANGED"
}

# ---- Processes, from outside ----

# Where it listens, as its configuration says: an agent, for data.
listens() { sed -n 's/^listen = "\(.*\)"$/\1/p' "$WORK/etc/$1.toml" | head -n 1; }
# Each process serves its metrics at a port of its own choice.
metrics_host() { echo "127.0.0.1:$(grep -o 'metrics_port=[0-9]*' "$WORK/log/$1.log" | tail -n 1 | grep -o '[0-9]*')"; }
health_says() { curl -sS "http://$(metrics_host "$1")/healthz" | grep -qF "$2"; }
is_healthy() { curl -sS --fail "http://$(metrics_host "$1")/healthz" >/dev/null; }
all_are_healthy() {
  local name
  for name in $PROCESSES; do
    is_running "$name" || die "$name ended"
    is_healthy "$name" || die "$name is not healthy: $(curl -sS "http://$(metrics_host "$name")/healthz")"
  done
}
rss_mib() { awk '$1 == "VmRSS:" { print int($2 / 1024) }' "/proc/$(cat "$WORK/$1.pid")/status"; }
descriptors() { find "/proc/$(cat "$WORK/$1.pid")/fd" -mindepth 1 | wc -l; }

# ---- Jobs ----

job_field() { api "/replicationJobs/$job" | jq -r "$1"; }
# begin_job COMMAND...: sets $job.
begin_job() {
  job=$(farside --json --no-wait "$@" | jq -r '.job // .name // .id // empty' | sed 's|.*/||')
  [ -n "$job" ] || die "'$*' was not started"
}
step_began() { job_field ".properties.tasks[] | select(.name == \"$1\") | .state" | grep -qvx NotStarted; }
# Steps take a second or two: looked for without a pause.
await_step() {
  local until=$((SECONDS + 180))
  until step_began "$1"; do [ "$SECONDS" -lt "$until" ] || die "no step $1: $(job_field .properties)"; done
  say "-- $1: $(job_field ".properties.tasks[] | select(.name == \"$1\") | .state")"
}
job_ended() { job_field .properties.state | grep -qvx 'InProgress\|NotStarted'; }
job_succeeded() {
  wait_for 180 "the end of the job $1" job_ended
  [ "$(job_field .properties.state)" = Succeeded ] || die "$1: $(job_field .properties)"
  say "ok: $1 succeeded"
}

kill_and_start() {
  local name
  say "-- kill -9 $*"
  for name in "$@"; do stop "$name" KILL; done
  for name in "$@"; do start "$name"; done
}

# ---- Replication ----

protect_web() {
  farside network-map create production --from A/lanA --to B/lanB
  farside policy create fast --every 1 --keep-hours 1
  farside pair create ab --from A/cloudA --to B/cloudB --policy fast
  wait_for 60 "the VM in the inventory" vm_known "$VM_NAME"
  timeout 120 "$BIN/farside" protect "$VM_NAME" --policy fast
}

more_cycles_than() { [ "$(item .farside.cycles)" -gt "$1" ]; }
replicates_again() {
  local before
  before=$(item .farside.cycles)
  wait_for 60 "two more deltas" more_cycles_than $((before + 1))
}
paused_because() { item .farside.fault.what | grep -qF "$1" && [ "$(item .farside.health)" != Normal ]; }

# paused TEXT ADVICE: the item says so, and is not healthy.
paused() {
  wait_for 60 "a pause because of '$1'" paused_because "$1"
  item .farside.fault.advice | grep -qF "$2" || die "no advice '$2' but: $(item .farside.fault)"
  say "ok: $(item .farside.health): $(item .farside.fault.what); next: $(item .farside.fault.advice)"
}

nothing_copied_twice() {
  [ "$(item .farside.fullCopies)" -eq 1 ] || die "a full copy was made: $(item .farside.fullCopies)"
}

# The newest point boots, and is a prefix of what the guest wrote.
newest_point_is_whole() {
  local view
  timeout 120 "$BIN/farside" test-failover "$VM_NAME"
  wait_for 120 "a sign of life of the test VM" \
    guest_alive "$WORK/siteB/agent/platform/$(item .farside.testVmId).serial.log"
  view=$(find "$WORK/siteB/agent/run" -name '*.nbd' -type s)
  "$BIN/farside-checker" "nbd+unix:///vda?socket=$view" "nbd+unix:///vdb?socket=$view" \
    >"$WORK/point.json" || die "the point is not a prefix of the guest's writes: $(cat "$WORK/point.json")"
  say "ok: $(jq -c '{ok, newest}' "$WORK/point.json")"
  timeout 60 "$BIN/farside" cleanup "$VM_NAME" --notes "end-to-end test"
}

points() { farside points "$VM_NAME" | awk '$1 ~ /^[0-9]+$/ { print $1 }'; }
