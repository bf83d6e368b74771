#!/bin/busybox sh
# First process of the witness guest: loads the drivers, brings the network cards up, and becomes
# the witness.  `witness.address=ADDRESS/BITS` on the kernel command line gives eth0 an address.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
for module in $(cat /lib/modules.order); do insmod "/lib/$module"; done

for word in $(cat /proc/cmdline); do
  case "$word" in witness.address=*) address="${word#witness.address=}" ;; esac
done
for card in $(ls /sys/class/net); do
  ip link set "$card" up
  [ "$card" = eth0 ] && [ -n "$address" ] && ip address add "$address" dev eth0
  [ "$card" = lo ] && continue
  cd "/sys/class/net/$card"
  echo "witness: nic $card mac=$(cat address) carrier=$(cat carrier)"
done
cd /

# The guest agent, if the machine has a channel for it.
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] || continue
  qemu-ga --path="/dev/${port##*/}" --method=virtio-serial --fsfreeze-hook=/quiesce \
    --statedir=/run >/dev/null 2>&1 &
done
exec /witness
