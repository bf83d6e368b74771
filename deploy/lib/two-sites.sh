# Two sites on one machine, for the demo and for tests that need real processes.
# Source it, set the variables below, then call the functions; two_sites_stop ends everything.
#
#   BIN    folder of Farside's programs        WORK   an empty folder; short path, it holds sockets
#   GUEST  folder with vmlinuz and initrd.gz   SEED_MIB, DISK_MIB, PACE_MS  of the witness guest
#   PLATFORM_A, PLATFORM_B  of the hosts, libvirt (default) or hyperv: see host-libvirt.sh, host-hyperv.sh
# shellcheck shell=bash

umask 022 # QEMU runs as another user, and has to find its disks.
VM_NAME=web
VM_ID=5a6f1d8e-3c42-4b7a-9f0e-6d1c2b3a4f55
lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/packages.sh
. "$lib/../../tests/support/packages.sh"
# shellcheck source=deploy/lib/host-libvirt.sh
. "$lib/host-libvirt.sh"
# shellcheck source=deploy/lib/host-hyperv.sh
. "$lib/host-hyperv.sh"
: "${PLATFORM_A:=libvirt}" "${PLATFORM_B:=libvirt}"
for one in "$PLATFORM_A" "$PLATFORM_B"; do
  case $one in libvirt | hyperv) ;; *)
    echo "error: unknown platform '$one': libvirt or hyperv" >&2
    exit 1
    ;;
  esac
done
HOST_PROCESSES=  # Of the hosts themselves.
PROCESSES="vault orchestrator providerA providerB agentA agentB"

# Of the host that the VM comes from, and of the one it goes to.
source_host() { "${PLATFORM_A}_$1" "${@:2}"; }
target_host() { "${PLATFORM_B}_$1" "${@:2}"; }
host_at() { if [ "$1" = A ]; then source_host "${@:2}"; else target_host "${@:2}"; fi; }

define_guest() { source_host define_guest "$@"; }
source_serial() { source_host source_serial; }

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local seconds=$1 what=$2
  shift 2
  local until=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || {
      printf 'error: %s did not happen within %s s\n' "$what" "$seconds" >&2
      return 1
    }
    sleep 0.3
  done
}

free_port() {
  local port
  while :; do
    # Below those that connections get; even, as an agent uses the next one too.
    port=$((10000 + 2 * (RANDOM % 11000)))
    case " $TAKEN_PORTS " in *" $port "*) continue ;; esac
    ss -Htln "sport = :$port or sport = :$((port + 1))" | grep -q . || break
  done
  TAKEN_PORTS="$TAKEN_PORTS $port"
  PORT=$port
}

# ---- Configuration ----

write_configs() {
  local site provider
  TAKEN_PORTS=
  mkdir -p "$WORK/etc" "$WORK/log" "$WORK/siteA/disks" "$WORK/siteB/disks" \
    "$WORK/siteA/replicas" "$WORK/siteB/replicas"
  for site in A B; do host_at "$site" prepare_host "$site"; done
  free_port && local vault=$PORT
  free_port && local orchestrator=$PORT
  free_port && HTTP_PORT=$PORT
  cat >"$WORK/etc/vault.toml" <<EOF
data_dir = "$WORK/vault"
listen = "tcp://127.0.0.1:$vault"
advertise = "tcp://127.0.0.1:$vault"
[metrics]
port = 0
[http]
address = "127.0.0.1"
port = $HTTP_PORT
EOF
  cat >"$WORK/etc/orchestrator.toml" <<EOF
data_dir = "$WORK/orchestrator"
listen = "tcp://127.0.0.1:$orchestrator"
advertise = "tcp://127.0.0.1:$orchestrator"
registration_key = "$WORK/vault/orchestrator.key"
[metrics]
port = 0
EOF
  for site in A B; do
    free_port && provider=$PORT
    cat >"$WORK/etc/provider$site.toml" <<EOF
name = "provider$site"
data_dir = "$WORK/site$site/provider"
site_file = "$WORK/etc/site$site.toml"
listen = "tcp://127.0.0.1:$provider"
advertise = "tcp://127.0.0.1:$provider"
registration_key = "$WORK/etc/provider$site.key"
[metrics]
port = 0
EOF
    cat >"$WORK/etc/site$site.toml" <<EOF
[[cloud]]
name = "cloud$site"
host_groups = ["servers"]
networks = ["lan$site"]

[[host_group]]
name = "servers"
hosts = ["host$site"]

[[network]]
name = "lan$site"
logical_network = "production"
host_network = "lan$site"
  [[network.subnet]]
  name = "servers"
  cidr = "10.$([ "$site" = A ] && echo 1 || echo 2).0.0/24"

[[storage_class]]
name = "standard"
path = "$WORK/site$site/replicas"
EOF
    free_port
    {
      cat <<EOF
name = "host$site"
data_dir = "$WORK/site$site/agent"
registration_key = "$WORK/etc/agent$site.key"
storage = ["$WORK/site$site/replicas"]
EOF
      host_at "$site" agent_host "$site"
      cat <<EOF
[metrics]
port = 0
[data]
listen = "tcp://127.0.0.1:$PORT"
advertise = "tcp://127.0.0.1:$PORT"
EOF
    } >"$WORK/etc/agent$site.toml"
  done
  export FARSIDE_URL="https://127.0.0.1:$HTTP_PORT" FARSIDE_CA="$WORK/vault/tls/ca.pem" \
    FARSIDE_TOKEN_FILE="$WORK/vault/owner.token"
}

# ---- Processes ----

program_of() {
  case $1 in
    provider*) echo farside-provider ;;
    agent*) echo farside-agent ;;
    *) echo "farside-$1" ;;
  esac
}

start() {
  local name=$1
  case $name in
    daemon*) (libvirt_start_daemon "$name") >>"$WORK/log/$name.log" 2>&1 & ;;
    host* | shares*) (start_host_process "$name") >>"$WORK/log/$name.log" 2>&1 & ;;
    *) "$BIN/$(program_of "$name")" --config "$WORK/etc/$name.toml" >>"$WORK/log/$name.log" 2>&1 & ;;
  esac
  echo $! >"$WORK/$name.pid"
  disown  # The shell need not tell us that a process we kill was killed.
}

is_running() {
  local pid
  pid=$(cat "$WORK/$1.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null
}

# stop NAME [SIGNAL]: returns when it is gone; after 20 s it is killed.
stop() {
  local pid until=$((SECONDS + 20))
  pid=$(cat "$WORK/$1.pid" 2>/dev/null) || return 0
  kill "-${2:-TERM}" "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    [ "$SECONDS" -lt "$until" ] || kill -KILL "$pid" 2>/dev/null || true
    sleep 0.1
  done
  rm -f "$WORK/$1.pid"
}

# A process that is frozen answers nobody, and keeps what it holds.
freeze() { kill -STOP "$(cat "$WORK/$1.pid")"; }
thaw() { kill -CONT "$(cat "$WORK/$1.pid")"; }

# Guests and views live in processes of their own; each names a folder of ours.
kill_guests() {
  local pid
  for pid in $(pgrep -f "$WORK/" || true); do
    case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) in
      *qemu-system*"$WORK/"* | *nbdkit*"$WORK/"* | *qemu-nbd*"$WORK/"* | *smbd*"$WORK/"*) kill -KILL "$pid" 2>/dev/null || true ;;
    esac
  done
}

# Asks each program that still runs where its threads stand: it writes that into its log.
two_sites_stacks() {
  local name
  for name in $PROCESSES; do
    ! is_running "$name" || kill -QUIT "$(cat "$WORK/$name.pid")" 2>/dev/null || true
  done
  sleep 3
  for name in $PROCESSES; do
    echo "==> $name: $(is_running "$name" && echo runs || echo is gone)"
    sed -n '/asked where the threads stand/,$p' "$WORK/log/$name.log" 2>/dev/null | { c++filt 2>/dev/null || cat; } | cut -c 1-160
  done
}

two_sites_stop() {
  local name
  for name in $PROCESSES $HOST_PROCESSES; do stop "$name" KILL; done
  kill_guests
}

# ---- The API, for scripts ----

farside() { "$BIN/farside" "$@"; }

api() {
  curl -sS --fail --cacert "$FARSIDE_CA" -H "Authorization: Bearer $(cat "$FARSIDE_TOKEN_FILE")" \
    "$FARSIDE_URL/subscriptions/farside/resourceGroups/farside/providers/Microsoft.RecoveryServices/vaults/farside$1?api-version=2023-06-01"
}

# item FIELD: of the only protected item, e.g. item .farside.newestPointSeq
item() { api /replicationProtectedItems | jq -r ".value[0].properties$1 // empty"; }

site_connected() { api "/replicationFabrics/$1" | jq -e .properties.farside.connected; }
host_connected() {
  api /farside/hosts | jq -e --arg host "$1" '.value[] | select(.name == $host) | .connected'
}
vm_known() { farside --json vm list | jq -e --arg vm "$1" '.. | objects | select(.friendlyName? == $vm)'; }

# Starts everything and joins both sites and hosts; guests are defined already.
two_sites_start() {
  local site
  start vault
  wait_for 60 "the vault's front door" api ""
  start orchestrator
  for site in A B; do
    farside key create --role provider --site "$site" --out "$WORK/etc/provider$site.key" >/dev/null
    start "provider$site"
  done
  for site in A B; do
    wait_for 60 "registration of site $site" site_connected "$site"
    farside key create --role agent --site "$site" --name "host$site" \
      --out "$WORK/etc/agent$site.key" >/dev/null
    start "agent$site"
  done
  for site in A B; do wait_for 60 "host$site" host_connected "host$site"; done
}

# reported FILE WHAT: the last number the witness reported, e.g. reported serial.log acknowledged
reported() { grep -ao "witness: $2 seq=[0-9]*" "$1" 2>/dev/null | tail -n 1 | grep -o '[0-9]*$' || echo 0; }
guest_alive() { grep -aq 'witness: alive' "$1"; }
