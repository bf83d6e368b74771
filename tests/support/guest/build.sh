#!/bin/sh
# Makes the witness guest: OUT_DIR/vmlinuz and OUT_DIR/initrd.gz.
#
#   build.sh OUT_DIR WITNESS_BINARY
#
# The kernel is Debian's cloud kernel and the guest agent Debian's, unpacked, not installed.  They
# are kept under $FARSIDE_GUEST_CACHE (default: ~/.cache/farside/guest): only the first build
# needs the network.  Needs: apt-get, dpkg, busybox-static, cpio, gzip; the agent's libraries come
# from this system (QEMU needs them, too).
set -eu

out=$1
witness=$2
here=$(cd "$(dirname "$0")" && pwd)
cache=${FARSIDE_GUEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/farside/guest}
# virtio_ring before virtio: the other way round its symbols are unknown.
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk
  failover net_failover virtio_net virtio_console button evdev"

fail() {
  echo "build.sh: $1" >&2
  exit 1
}

busybox=$(command -v busybox) || fail "busybox is missing; install busybox-static"
command -v cpio >/dev/null || fail "cpio is missing; install cpio"

mkdir -p "$cache" "$out"
scratch=$(mktemp -d "$cache/unpack.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# download PACKAGE: unpacks it into $scratch/PACKAGE.
download() {
  if ! (cd "$scratch" && apt-get -qq download "$1" >log 2>&1); then
    cat "$scratch/log" >&2
    fail "cannot download $1; run apt-get update, or check the network"
  fi
  dpkg -x "$scratch/$1"_*.deb "$scratch/$1"
}

# keep NAME: moves $scratch/NAME into the cache.  Another build may have been faster: then its
# result is as good as ours.
keep() {
  mv -T "$scratch/$1" "$cache/$1" 2>/dev/null || [ -d "$cache/$1" ]
}

if [ ! -d "$cache/kernel" ]; then
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ {print $2}')
  [ -n "$package" ] || fail "apt knows no linux-image-cloud-amd64; run apt-get update"
  download "$package"
  mkdir "$scratch/kernel"
  cp "$scratch/$package"/boot/vmlinuz-* "$scratch/kernel/vmlinuz"
  for module in $modules; do
    file=$(find "$scratch/$package/lib/modules" -name "$module.ko" -o \
      -name "$(echo "$module" | tr _ -).ko" | head -n 1)
    [ -n "$file" ] || fail "the kernel package has no module $module"
    cp "$file" "$scratch/kernel/$module.ko"
  done
  keep kernel
fi

if [ ! -d "$cache/agent" ]; then
  download qemu-guest-agent
  mkdir -p "$scratch/agent/sbin"
  cp "$scratch/qemu-guest-agent/usr/sbin/qemu-ga" "$scratch/agent/sbin/"
  for library in $(ldd "$scratch/agent/sbin/qemu-ga" | grep -o '/[^ ]*'); do
    mkdir -p "$scratch/agent/$(dirname "$library")"
    cp -L "$library" "$scratch/agent/$library"
  done
  keep agent
fi

root=$scratch/root
mkdir -p "$root/bin" "$root/lib" "$root/proc" "$root/sys" "$root/dev" "$root/run"
cp -r "$cache/agent/." "$root/"
cp "$busybox" "$root/bin/busybox"
cp "$witness" "$root/witness"
cp "$here/init.sh" "$root/init"
cp "$here/quiesce.sh" "$root/quiesce"
chmod 755 "$root/init" "$root/quiesce" "$root/witness" "$root/bin/busybox"
for module in $modules; do
  cp "$cache/kernel/$module.ko" "$root/lib/"
  echo "$module.ko" >>"$root/lib/modules.order"
done

(cd "$root" && find . | LC_ALL=C sort | cpio --quiet --create --format=newc --owner=0:0) |
  gzip -1 >"$out/initrd.gz.new"
cp "$cache/kernel/vmlinuz" "$out/vmlinuz.new"
mv "$out/vmlinuz.new" "$out/vmlinuz"
mv "$out/initrd.gz.new" "$out/initrd.gz"
