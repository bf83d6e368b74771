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

}  // namespace farside
