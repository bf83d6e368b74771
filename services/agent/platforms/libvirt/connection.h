// The connection to libvirt, handles that free themselves, and its errors in our terms.
//
// Owns: the connection, and once per process the thread that runs libvirt's event loop.
// Thread: any; libvirt locks for itself.
#pragma once

#include <libvirt/libvirt.h>

#include <future>
#include <memory>
#include <string>
#include <utility>

#include "common/base/result.h"

namespace farside::agent::libvirt {

struct FreeHandle {
  void operator()(virConnectPtr handle) const { virConnectClose(handle); }
  void operator()(virDomainPtr handle) const { virDomainFree(handle); }
  void operator()(virDomainCheckpointPtr handle) const { virDomainCheckpointFree(handle); }
  void operator()(virNetworkPtr handle) const { virNetworkFree(handle); }
};
using ConnectionHandle = std::unique_ptr<virConnect, FreeHandle>;
using DomainHandle = std::unique_ptr<virDomain, FreeHandle>;
using CheckpointHandle = std::unique_ptr<virDomainCheckpoint, FreeHandle>;

struct ConnectionTarget {
  std::string uri;           // "qemu:///system"; or empty, and then
  std::string root;          // the driver runs inside this process and keeps its files here.
  std::string own_folder{};  // The agent's: QEMU may be let into it, if `root` lies there.
};

// With `root`, writes ROOT/etc/qemu.conf first.  A process can open one root only; other processes
// must not have it open at the same time.  Guests that run under this root are found running.
// Errors: kInvalidArgument, kUnavailable (with libvirt's words), kIo.
Result<ConnectionHandle> open_connection(const ConnectionTarget& target);

// The client's end of a connection to a daemon, by which calls that wait for an answer can be
// ended.
//
// Source: libvirt, CVE-2024-4418.  Before 10.1, a client whose connection is used by a second
// thread, or sends a ping, while a call waits, may use memory that is gone.  So there are no pings
// of libvirt's here, and each thread has a connection of its own.
class ClientSocket {
 public:
  ClientSocket() = default;
  explicit ClientSocket(int fd) : fd_(fd) {}
  ~ClientSocket();
  ClientSocket(ClientSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ClientSocket& operator=(ClientSocket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  void shut_down() const;

 private:
  int fd_ = -1;
};

struct Opened {
  ConnectionHandle connection;
  ClientSocket socket;  // Of a local daemon.
};

// The same without waiting: a daemon that is frozen accepts the connection and then says nothing,
// for as long as it is.  A connection that nobody takes any more is closed.
std::future<Result<Opened>> open_in_background(ConnectionTarget target);

// What libvirt says about the call of this thread that failed last.  kUnavailable if it was the
// connection that failed; kBusy if somebody else's work on the domain kept libvirt from it.
std::unexpected<Error> libvirt_error(const std::string& doing);

// What this thread's errors of the connection shall name, from now on.
void set_error_uri(const std::string& uri);

// libvirt's own number for it (VIR_ERR_...).  Only the numbers that say "no such thing" mean that
// it is not there; after any other one nothing is known.
int libvirt_error_number();

// Takes ownership of a text that libvirt allocated; null gives "".
std::string take_text(char* text);

}  // namespace farside::agent::libvirt
