# A host of two-sites.sh as KVM: a directory for libvirt's embedded driver.
# shellcheck shell=bash disable=SC2034,SC2154

LIBVIRT_PACKAGES="$FARSIDE_HOST_PACKAGES"
LIBVIRT_TARGETS="farside_view"

libvirt_prepare_host() { :; }

# agent_host SITE: the part of an agent's configuration that is about its host.
libvirt_agent_host() {
  cat <<EOF
[libvirt]
root = "$WORK/site$1/host"
domain_type = "${DOMAIN_TYPE:-qemu}"
boot_folder = "$GUEST"
scratch_reserve_mib = 64
[[network]]
name = "lan$1"
connect = "user"
EOF
}

# define_guest [NAME ID]: defines a witness VM with two disks at site A and starts it; before agent A
# runs, which owns the root then.
libvirt_define_guest() {
  local name=${1:-$VM_NAME} id=${2:-$VM_ID} disks serial
  disks=$WORK/siteA/disks serial=$WORK/siteA/serial.log
  if [ -n "${1:-}" ]; then disks=$WORK/siteA/disks/$name serial=$WORK/siteA/$name.log; fi
  mkdir -p "$disks"
  "$BIN/farside-guest-define" --root "$WORK/siteA/host" --guest "$GUEST" --name "$name" \
    --id "$id" --disk "$disks/vda.qcow2:${DISK_MIB:-512}" \
    --disk "$disks/vdb.qcow2:${DISK_MIB:-512}" \
    --card "<interface type='user'><mac address='52:54:00:${id:0:2}:51:de'/><model type='virtio'/></interface>" \
    --serial "$serial" --option "pace_ms=${PACE_MS:-20}" \
    --option "fill_mib=${SEED_MIB:-64}" --start
}

libvirt_source_serial() { echo "$WORK/siteA/serial.log"; }
# target_serial VM: what a VM that Farside made at site B says.
libvirt_target_serial() { echo "$WORK/siteB/agent/platform/$1.serial.log"; }
libvirt_replica_folders() { echo "$WORK/siteB/replicas"; }

# Whether the guest comes up by itself: what it boots is on the host, not on its disks.
libvirt_target_boots() { [ "$PLATFORM_A" = libvirt ]; }

# check_test_point VM: whether the point that was booted is a prefix of what the guest wrote.
libvirt_check_test_point() {
  local view
  view=$(find "$WORK/siteB/agent/run" -name '*.nbd' -type s)
  "$BIN/farside-checker" "nbd+unix:///vda?socket=$view" "nbd+unix:///vdb?socket=$view"
}

# Somebody starts the VM by hand that was failed over.
libvirt_start_old_primary() {
  stop agentA
  "$BIN/farside-guest-define" --root "$WORK/siteA/host" --guest "$GUEST" --name "$VM_NAME" --id "$VM_ID" \
    --disk "$WORK/siteA/disks/vda.qcow2:0" --disk "$WORK/siteA/disks/vdb.qcow2:0" \
    --serial "$WORK/siteA/again.log" --start || true
  start agentA
}
libvirt_old_primary_is_off() { ! pgrep -f "qemu-system.*$WORK/siteA/host" >/dev/null; }

libvirt_stop_target_guests() {
  pkill -TERM -f "qemu-system.*$WORK/siteB/host" || true
  libvirt_guests_gone() { ! pgrep -f "qemu-system.*$WORK/siteB/host"; }
  wait_for 30 "the replica's end" libvirt_guests_gone
}
# check_replica VM ACKNOWLEDGED: once it is stopped.
libvirt_check_replica() {
  local disks=$WORK/siteB/replicas/farside-vms/$1
  "$BIN/farside-checker" --acknowledged "$2" "$disks/vda.qcow2" "$disks/vdb.qcow2"
}
