// Whether a text may be the name of a file or folder of ours.  Names come from peers, too: wherever
// a path is made with one, that stays inside of its folder.
#pragma once

#include <string_view>

#include "common/base/result.h"

namespace farside {

// 1..255 bytes without '/' and controls that do not begin with a dot.
bool is_file_name(std::string_view name);

// `what` it names: "VM".  Errors: kForbidden.
Status check_file_name(std::string_view what, std::string_view name);

// 1..128 letters, digits, '-', '_' and '.', the first no dot: UUIDs, and names that people choose.
bool is_id(std::string_view text);

// Whether replicas may lie there: an absolute path of at most 1 KiB, not the root, without '.',
// '..', empty parts and controls.  A slash at its end is as an operator may have written it.
bool is_folder_path(std::string_view path);

}  // namespace farside
