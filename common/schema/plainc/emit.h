// The C++ text that plainc writes for one schema file.
#pragma once

#include <string>

#include "common/schema/plainc/model.h"

namespace farside::plainc {

std::string emit_header(const File& file);  // X.plain.h
std::string emit_source(const File& file);  // X.plain.cpp
std::string emit_fields(
    const File& file);  // X.fields.h: visits fields, arms and structs, for tests.

}  // namespace farside::plainc
