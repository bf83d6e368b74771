# The one list of Debian packages that building, testing and running Farside takes.
# Source it:  farside_install_packages "$FARSIDE_BUILD_PACKAGES"
# shellcheck shell=sh disable=SC2034

# To compile everything.
FARSIDE_BUILD_PACKAGES="g++ cmake ninja-build ccache pkg-config git ca-certificates
  libzmq3-dev cppzmq-dev libsodium-dev libcapnp-dev capnproto librocksdb-dev
  prometheus-cpp-dev libcivetweb-dev libgtest-dev libgmock-dev libbenchmark-dev
  libvirt-dev libxml2-dev libnbd-dev nbdkit-plugin-dev libzstd-dev libxxhash-dev
  libcli11-dev libtomlplusplus-dev libspdlog-dev libfmt-dev nlohmann-json3-dev
  libboost1.81-dev libssl-dev libcurl4-openssl-dev libkrb5-dev libpugixml-dev libsmbclient-dev
  libfuse3-dev"

# To run virtual machines on this host, in the demo and in the tests.
FARSIDE_HOST_PACKAGES="libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients nbdkit libnbd-bin
  qemu-system-x86 qemu-utils ovmf busybox-static cpio gzip iproute2 openssl curl jq procps
  bsdextrautils"

# To log in to Hyper-V hosts; and for the simulated one, a second client, a second reader of its
# disks, a Kerberos and shares of its own.  None of their services is started.
FARSIDE_HYPERV_PACKAGES="gss-ntlmssp python3-winrm python3-libvhdi krb5-kdc krb5-admin-server
  samba smbclient"

# To check the sources, and to let clocks jump in a test.
FARSIDE_CHECK_PACKAGES="clang-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev python3 shellcheck
  libfaketime"

# Those of "$1" that are not installed, one a line.
farside_missing_packages() {
  for package in $1; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' ||
      echo "$package"
  done
}

# Installs what is missing of "$1"; says what to do where it cannot.
farside_install_packages() {
  missing=$(farside_missing_packages "$1" | tr '\n' ' ')
  [ -n "$missing" ] || return 0
  echo "installing: $missing"
  if [ "$(id -u)" -eq 0 ]; then
    as_root=
  elif command -v sudo >/dev/null; then
    as_root=sudo
  else
    echo "missing packages; run as root: apt-get install $missing" >&2
    return 1
  fi
  # shellcheck disable=SC2086  # One word each.
  $as_root apt-get update -qq &&
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends $missing >/dev/null
}

# libvirt's QEMU driver, when run by root, runs QEMU as Debian's user for it.  Debian creates that
# only with the daemon (libvirt-daemon-system), which takes systemd.
farside_create_qemu_user() {
  [ "$(id -u)" -eq 0 ] || return 0  # Others do not need it.
  if ! getent passwd libvirt-qemu >/dev/null; then
    echo "creating the system user libvirt-qemu"
    useradd --system --user-group --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin libvirt-qemu
  fi
  if getent group kvm >/dev/null; then usermod -a -G kvm libvirt-qemu; fi
}
