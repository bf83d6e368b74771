# A host of two-sites.sh as KVM: a directory for libvirt's embedded driver; or with
# LIBVIRT_DAEMON=yes, which needs root, a libvirt daemon of its own: the processes daemonA, daemonB.
# shellcheck shell=bash disable=SC2034,SC2154

LIBVIRT_PACKAGES="$FARSIDE_HOST_PACKAGES"
LIBVIRT_TARGETS="farside_view"

has_libvirt_daemon() { [ "${LIBVIRT_DAEMON:-}" = yes ]; }
libvirt_uri() { echo "qemu+unix:///system?socket=$WORK/site$1/daemon/sock/libvirt-sock"; }
libvirt_start_daemon() { exec "$lib/../../tests/support/libvirtd/libvirtd" "$WORK/site${1: -1}/daemon"; }
# virsh_at SITE COMMAND...: as an operator of that host.
virsh_at() { virsh -q -c "$(libvirt_uri "$1")" "${@:2}"; }

# A copy of the guest where QEMU, which runs as another user, can read it.
libvirt_guest() {
  if [ ! -d "$WORK/guest" ]; then
    chmod 711 "$WORK"
    cp -r "$GUEST" "$WORK/guest"
    chmod 755 "$WORK/guest"
  fi
  echo "$WORK/guest"
}

libvirt_prepare_host() {
  has_libvirt_daemon || return 0
  HOST_PROCESSES="$HOST_PROCESSES daemon$1"
  start "daemon$1"
}

# agent_host SITE: the part of an agent's configuration that is about its host.
libvirt_agent_host() {
  cat <<EOF
[libvirt]
$(if has_libvirt_daemon; then echo "uri = \"$(libvirt_uri "$1")\""; else echo "root = \"$WORK/site$1/host\""; fi)
domain_type = "${DOMAIN_TYPE:-qemu}"
boot_folder = "$(libvirt_guest)"
scratch_reserve_mib = 64
[[network]]
name = "lan$1"
connect = "user"
EOF
}

# libvirt_define ...: farside-guest-define at site A.
libvirt_define() {
  local target=(--root "$WORK/siteA/host")
  if has_libvirt_daemon; then
    wait_for 90 "the daemon of host A" virsh_at A uri # At first it asks QEMU what it can do.
    target=(--uri "$(libvirt_uri A)")
  fi
  "$BIN/farside-guest-define" "${target[@]}" --guest "$(libvirt_guest)" "$@" --start
}

# define_guest [NAME ID]: defines a witness VM with two disks at site A and starts it; without a
# daemon before agent A runs, which owns the root then.
libvirt_define_guest() {
  local name=${1:-$VM_NAME} id=${2:-$VM_ID} disks serial
  disks=$WORK/siteA/disks serial=$WORK/siteA/serial.log
  if [ -n "${1:-}" ]; then disks=$WORK/siteA/disks/$name serial=$WORK/siteA/$name.log; fi
  mkdir -p "$disks"
  libvirt_define --name "$name" --id "$id" --disk "$disks/vda.qcow2:${DISK_MIB:-512}" \
    --disk "$disks/vdb.qcow2:${DISK_MIB:-512}" \
    --card "<interface type='user'><mac address='52:54:00:${id:0:2}:51:de'/><model type='virtio'/></interface>" \
    --serial "$serial" --option "pace_ms=${PACE_MS:-20}" \
    --option "fill_mib=${SEED_MIB:-64}"
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
  if has_libvirt_daemon; then
    virsh_at A start "$VM_NAME" || true # The agent may be faster.
    return
  fi
  stop agentA
  libvirt_define --name "$VM_NAME" --id "$VM_ID" --disk "$WORK/siteA/disks/vda.qcow2:0" \
    --disk "$WORK/siteA/disks/vdb.qcow2:0" --serial "$WORK/siteA/again.log" || true
  start agentA
}
# guests_at SITE: those that run.
libvirt_guests_at() { pgrep -f "qemu-system.*$WORK/site$1/"; }
libvirt_old_primary_is_off() { ! libvirt_guests_at A >/dev/null; }

libvirt_stop_target_guests() {
  pkill -TERM -f "qemu-system.*$WORK/siteB/" || true
  libvirt_guests_gone() { ! libvirt_guests_at B; }
  wait_for 30 "the replica's end" libvirt_guests_gone
}
# check_replica VM ACKNOWLEDGED: once it is stopped.
libvirt_check_replica() {
  local disks=$WORK/siteB/replicas/farside-vms/$1
  "$BIN/farside-checker" --acknowledged "$2" "$disks/vda.qcow2" "$disks/vdb.qcow2"
}
