// Which form what lies in a folder has, written beside it: a release that does not know that form
// must not touch it.
//
// The file is `format` in the folder itself: "farside KIND VERSION\n".  Kinds and their versions
// stand where the folder is opened and in docs/data.md; a version grows when older releases could
// not read or would spoil what is written, not when a schema grows.
// Thread: any; one process per folder.
#pragma once

#include <string>

#include "common/base/result.h"

namespace farside::store {

struct Format {
  std::string kind;  // "agent state"; no line breaks.
  int version = 1;
};

// An empty or missing folder is made and marked.  Errors: kConflict (another kind or version, or
// something that is not marked), with folder, what was found, what was wanted and what to do;
// those of the file system.
Status claim_folder(const std::string& folder, const Format& format);

}  // namespace farside::store
