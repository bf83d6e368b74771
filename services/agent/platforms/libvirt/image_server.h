// A process that serves one image that no guest runs on, read-only, over a Unix socket.
//
// It takes no lock that could keep QEMU from starting with the image, and ends by itself with its
// last client: an agent that dies leaves none behind.
//
// Owns: the process and its socket.  Thread: one at a time.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "common/base/result.h"

namespace farside::agent::libvirt {

class ImageServer {
 public:
  struct Image {
    std::string path;    // qcow2
    std::string socket;  // To be made; replaced if it exists.
    std::string name;    // Of the export.
    std::string bitmap;  // Offered as "qemu:dirty-bitmap:<bitmap>"; empty: none.
  };
  // Returns when a client can connect.  Errors: kNotFound (no qemu-nbd), kPlatform (its words),
  // kTimeout.
  static Result<std::unique_ptr<ImageServer>> start(const Image& image);
  ~ImageServer();
  bool has_ended();  // It found something wrong with the image.
  ImageServer(const ImageServer&) = delete;
  ImageServer& operator=(const ImageServer&) = delete;

 private:
  ImageServer(pid_t pid, std::string socket) : pid_(pid), socket_(std::move(socket)) {}

  pid_t pid_;
  std::string socket_;
};

}  // namespace farside::agent::libvirt
