#!/bin/sh
# Makes the witness guest: OUT_DIR/vmlinuz and OUT_DIR/initrd.gz.
#
#   build.sh OUT_DIR WITNESS_BINARY
#
# The kernel is Debian's cloud kernel, unpacked, not installed.  It is kept under
# $FARSIDE_GUEST_CACHE (default: ~/.cache/farside/guest), so that only the first build needs the
# network.  Needs: apt-get, dpkg, busybox-static, cpio, gzip.
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

if [ ! -d "$cache/kernel" ]; then
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ {print $2}')
  [ -n "$package" ] || fail "apt knows no linux-image-cloud-amd64; run apt-get update"
  (cd "$scratch" && apt-get -qq download "$package" 2>&1 | grep -v unsandboxed >&2 || true)
  ls "$scratch"/linux-image-*.deb >/dev/null 2>&1 ||
    fail "cannot download $package; run apt-get update, or check the network"
  dpkg -x "$scratch"/linux-image-*.deb "$scratch/all"
  mkdir "$scratch/kernel"
  cp "$scratch"/all/boot/vmlinuz-* "$scratch/kernel/vmlinuz"
  for module in $modules; do
    file=$(find "$scratch/all/lib/modules" -name "$module.ko" -o \
      -name "$(echo "$module" | tr _ -).ko" | head -n 1)
    [ -n "$file" ] || fail "the kernel package has no module $module"
    cp "$file" "$scratch/kernel/$module.ko"
  done
  # Another build may have been faster: then its result is as good as ours.
  mv -T "$scratch/kernel" "$cache/kernel" 2>/dev/null || [ -d "$cache/kernel" ]
fi

root=$scratch/root
mkdir -p "$root/bin" "$root/lib" "$root/proc" "$root/sys" "$root/dev"
cp "$busybox" "$root/bin/busybox"
cp "$witness" "$root/witness"
cp "$here/init.sh" "$root/init"
chmod 755 "$root/init" "$root/witness" "$root/bin/busybox"
for module in $modules; do
  cp "$cache/kernel/$module.ko" "$root/lib/"
  echo "$module.ko" >>"$root/lib/modules.order"
done

(cd "$root" && find . | LC_ALL=C sort | cpio --quiet --create --format=newc --owner=0:0) |
  gzip -1 >"$out/initrd.gz.new"
cp "$cache/kernel/vmlinuz" "$out/vmlinuz.new"
mv "$out/vmlinuz.new" "$out/vmlinuz"
mv "$out/initrd.gz.new" "$out/initrd.gz"
