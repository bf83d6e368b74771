// A KVM/QEMU host for tests: libvirt's embedded driver in a directory of its own, with a witness
// guest and a guest that has no operating system.
//
// Owns: the directory and every guest in it.  One per process.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/libvirt_platform.h"
#include "tests/support/guest/domain.h"

namespace farside::agent {

class LibvirtHost {
 public:
  static LibvirtHost& shared();

  // In a new temporary folder.
  LibvirtHost();
  // In `folder`; if a host has been there before, continues with what it left.
  explicit LibvirtHost(std::filesystem::path folder);
  ~LibvirtHost();
  LibvirtHost(const LibvirtHost&) = delete;
  LibvirtHost& operator=(const LibvirtHost&) = delete;

  Platform& platform() { return *platform_; }
  void restart_agent();
  std::string witness() const { return kWitness; }
  std::uint64_t write_more(std::uint64_t records);
  void lose_tracking();
  std::string deaf() const { return kDeaf; }
  NewVm new_vm(const std::string& name);
  bool overlay_exists(const NewVm& vm) const;
  bool overlay_is_complete(const NewVm& vm) const;

  libvirt::Options& options() { return options_; }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::ptrdiff_t scratch_files() const;  // Of points: images and sockets.
  virConnectPtr connection() { return connection_.get(); }
  // What the witness' QEMU answers to a query of its monitor; empty: it refuses.
  std::string ask_qemu(const std::string& query);
  std::uint64_t acknowledged() const;
  void define(const guest::WitnessVm& vm);

  // Of the QEMU process that runs a VM.
  static pid_t pid_of(virConnectPtr connection, const std::string& root, const std::string& id);

  // Serves an image as export "view" until stop_serving() or the end; returns the socket.
  std::string serve(const std::string& image, const std::string& format);
  void serve_again(const std::string& socket, const std::string& image, const std::string& format);
  void stop_serving(const std::string& socket);

  // Of any VM with a serial log in this folder.
  std::uint64_t reported(const std::string& log, const std::string& what) const;

 private:
  static constexpr const char* kWitness = "6b0f3f0e-0000-4000-8000-000000000001";
  static constexpr const char* kDeaf = "6b0f3f0e-0000-4000-8000-000000000002";

  void open();
  void define_guests();
  void make_view();

  std::filesystem::path folder_;
  SystemClock clock_;
  libvirt::Options options_;
  libvirt::ConnectionHandle connection_;
  std::unique_ptr<Platform> platform_;
  std::string view_image_;
  std::string view_socket_;
  int served_ = 0;
  std::map<std::string, pid_t> servers_;  // By socket.
};

}  // namespace farside::agent
