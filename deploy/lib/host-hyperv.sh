# The hosts of two-sites.sh as Hyper-V, simulated: at each site a WS-Management service whose VMs are
# real guests on VHDX files, and an SMB server that shares those files with the site's agent.
# Needs root, as smbd does.
# shellcheck shell=bash disable=SC2034,SC2154

HOST_PROCESSES="hostA hostB sharesA sharesB"
HOST_PACKAGES="$FARSIDE_HOST_PACKAGES $FARSIDE_HYPERV_PACKAGES"
HOST_TARGETS="farside-smb hvsim samba-share"
VM_ID=5A6F1D8E-3C42-4B7A-9F0E-6D1C2B3A4F55

# Names of switches are those of the sites' networks.
prepare_hosts() {
  local site drive
  echo "HVSIM:operator:correct horse" >"$WORK/etc/host-users"
  echo "correct horse" >"$WORK/etc/host-password"
  chmod 600 "$WORK/etc/host-users" "$WORK/etc/host-password"
  # Whoever comes over SMB has no rights of root: disks that a VM has open are closed to it.
  chmod 711 "$WORK"
  for site in A B; do
    drive=$WORK/site$site/host/files/C
    mkdir -p "$drive"
    chmod 755 "$WORK/site$site" "$WORK/site$site/host" "$WORK/site$site/host/files"
    chmod 777 "$drive"
    mkfifo "$WORK/host$site.in" "$WORK/shares$site.in"
    echo "[]" >"$WORK/etc/vms$site.json"
    free_port
    echo "$PORT" >"$WORK/etc/host$site.port"
    start "shares$site"
    shares_ready() { jq -e .port "$WORK/log/shares$site.log"; }
    wait_for 30 "the shares of host $site" shares_ready
  done
}

# How to start what is not one of Farside's own processes: it ends with its input.
start_host_process() {
  local name=$1 site=${1: -1}
  case $name in
    shares*)
      exec "$BIN/samba-share" --password-file "$WORK/etc/host-password" --as daemon \
        "drive-c=$WORK/site$site/host/files/C" <>"$WORK/$name.in"
      ;;
    host*)
      exec "$BIN/hvsim" --users "$WORK/etc/host-users" --host "HYPERV-$site" --http-port "$(cat "$WORK/etc/$name.port")" \
        --root "$WORK/site$site/host" --vms "$WORK/etc/vms$site.json" --switch "lan$site" \
        --kernel "$GUEST/vmlinuz" --initrd "$GUEST/initrd.gz" \
        --guest-arguments "witness.pace_ms=${PACE_MS:-20}" <>"$WORK/$name.in"
      ;;
  esac
}

agent_host() {
  cat <<EOF
platform = "hyperv"
[hyperv]
url = "http://127.0.0.1:$(cat "$WORK/etc/host$1.port")/wsman"
mechanism = "ntlm"
user = "operator"
password_file = "$WORK/etc/host-password"
folder = 'C:\\Farside'
[hyperv.smb]
port = $(jq .port "$WORK/log/shares$1.log")
[[hyperv.share]]
folder = 'C:\\'
name = "drive-c"
EOF
}

define_guest() {
  jq -n --arg id "$VM_ID" --arg name "$VM_NAME" --argjson mib "${DISK_MIB:-512}" \
    --arg arguments "witness.pace_ms=${PACE_MS:-20} witness.fill_mib=${SEED_MIB:-64}" '
    [{guid: $id, name: $name, running: true, arguments: $arguments,
      disks: [{path: "C:\\VMs\\web\\system.vhdx", mib: $mib}, {path: "C:\\VMs\\web\\data.vhdx", mib: $mib}],
      nics: [{mac: "00155D5A51DE", switch: "lanA"}]}]' >"$WORK/etc/vmsA.json"
  start hostA
  start hostB
}

serial_of() { echo "$WORK/site$1/host/serial/$2.log"; }
source_serial() { serial_of A "$VM_ID"; }
# The host gives VMs ids of its own; that of Farside stands in their notes.
host_id_of() {
  jq -r --arg note "farside-vm: $1" '[.objects[] | select(.class == "Msvm_VirtualSystemSettingData")
    | .properties | select(.VirtualSystemType.text == "Microsoft:Hyper-V:System:Realized")
    | select(any(.Notes.items[]?; .text == $note)) | .VirtualSystemIdentifier.text] | .[0] // empty' \
    "$WORK/siteB/host/state.json"
}
target_serial() { serial_of B "$(host_id_of "$1")"; }
replica_folders() { echo "$WORK/siteB/replicas $WORK/siteB/host/files/C/Farside"; }

# serve_disks VM: its VHDX files over NBD, read-only; sets SERVED to their URLs.
serve_disks() {
  local disk
  SERVED=()
  for disk in vda vdb; do
    nbdkit -r -U "$WORK/check-$disk.sock" -P "$WORK/check-$disk.pid" "$BIN/vhdx_nbd.so" \
      "file=$WORK/siteB/host/files/C/Farside/vms/$1/$disk.vhdx" "root=$WORK/siteB/host/files/C"
    SERVED+=("nbd+unix:///?socket=$WORK/check-$disk.sock")
  done
}
stop_serving() {
  local disk
  for disk in vda vdb; do
    kill "$(cat "$WORK/check-$disk.pid")" 2>/dev/null || true
    rm -f "$WORK/check-$disk.sock" "$WORK/check-$disk.pid"
  done
}

# Of the host at site B, whose power is cut: nothing is flushed that was not.
stop_target_guests() {
  pkill -KILL -f "qemu-system.*$WORK/siteB/host" || true
  guests_gone() { ! pgrep -f "nbdkit.*$WORK/siteB/host/files"; }
  wait_for 30 "the end of the guests at site B" guests_gone
}

check_disks() {
  local status=0 vm=$1
  shift
  serve_disks "$vm"
  "$BIN/farside-checker" "$@" "${SERVED[@]}" || status=$?
  stop_serving
  return "$status"
}
# The test VM went on writing from the point that it was booted from: its disks hold that history.
check_test_point() {
  stop_target_guests
  check_disks "$1"
}
check_replica() { check_disks "$1" --acknowledged "$2"; }

# The host starts with the VM running, as if somebody had started it by hand.
start_old_primary() {
  stop hostA KILL
  start hostA
}
old_primary_is_off() { grep -q 'fenced_vm_runs' "$WORK/log/agentA.log" && ! pgrep -f "qemu-system.*$WORK/siteA/host" >/dev/null; }
