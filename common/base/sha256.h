// SHA-256, for what is named by its content and for secrets that are only compared.
#pragma once

#include <string>
#include <string_view>

namespace farside {

std::string sha256_hex(std::string_view bytes);  // 64 lower-case hexadecimal digits.

}  // namespace farside
