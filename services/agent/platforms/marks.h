// A durable set of VM ids: one empty file each in a folder of its own.
//
// Owns: the folder.  Thread: any; each call is one file system operation.  A call that returned is
// on stable storage.  An id that is no plain name of a file is refused.
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"

namespace farside::agent {

class Marks {
 public:
  // Errors: kIo.
  static Result<Marks> open(std::string folder);

  Status add(const std::string& vm_id) const;     // Errors: kForbidden, kIo, kNoSpace.
  Status remove(const std::string& vm_id) const;  // Errors: kForbidden, kIo.  Not there: success.
  bool has(const std::string& vm_id) const;
  std::vector<std::string> all() const;

 private:
  explicit Marks(std::string folder) : folder_(std::move(folder)) {}
  Status sync() const;

  std::string folder_;
};

}  // namespace farside::agent
