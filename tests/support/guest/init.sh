#!/bin/busybox sh
# First process of the witness guest: loads the drivers, brings the network cards up, and becomes
# the witness.  `witness.address=ADDRESS/BITS` on the kernel command line gives eth0 an address.
/bin/busybox --install -s /bin
export PATH=/bin
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
  [ "$card" = lo ] ||
    echo "witness: nic $card mac=$(cat /sys/class/net/$card/address) carrier=$(cat /sys/class/net/$card/carrier)"
done
exec /witness
