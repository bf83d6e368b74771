#!/bin/busybox sh
# shellcheck shell=dash
# First process of the witness guest: loads the drivers, brings the network cards up, and becomes
# the witness.  `witness.address=ADDRESS/BITS` on the kernel command line gives eth0 an address.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
while read -r module; do insmod "/lib/$module"; done </lib/modules.order

read -r words </proc/cmdline
for word in $words; do
  case "$word" in witness.address=*) address="${word#witness.address=}" ;; esac
done
for folder in /sys/class/net/*; do
  card=${folder##*/}
  ip link set "$card" up
  [ "$card" = eth0 ] && [ -n "$address" ] && ip address add "$address" dev eth0
  [ "$card" = lo ] && continue
  has=$(ip -o -4 address show dev "$card" | { read -r _ _ _ found _ && echo "$found"; })
  echo "witness: nic $card mac=$(cat "$folder/address") carrier=$(cat "$folder/carrier") address=$has"
done

# The guest agent, if the machine has a channel for it.
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] || continue
  qemu-ga --path="/dev/${port##*/}" --method=virtio-serial --fsfreeze-hook=/quiesce \
    --statedir=/run >/dev/null 2>&1 &
done
exec /witness
