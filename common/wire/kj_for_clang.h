// Included ahead of everything where Clang compiles or checks sources that see Cap'n Proto.
//
// Cap'n Proto 0.9 compares `const char*` with StringPtr by turning the operands around, which C++20
// stopped doing for types that also have operator!= (P2468R2).  Clang follows that rule since
// version 16, GCC 12 does not; these two overloads say what is meant.
#pragma once

#include <kj/string.h>

namespace kj {

inline bool operator==(const char* a, const StringPtr& b) {
  return b == StringPtr(a);
}
inline bool operator!=(const char* a, const StringPtr& b) {
  return !(b == StringPtr(a));
}

}  // namespace kj
