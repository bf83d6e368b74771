// What becomes of each element of a foreign domain description: the one table of it.
//
// Anything that is not in the table is left out.  Values are copied only where the table allows the
// attribute and the value is harmless: nothing that is copied can name a file, a device, a socket,
// a program or a network of this host.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "services/agent/platforms/libvirt/xml.h"

namespace farside::agent::libvirt {

enum class Treatment {
  kKeep,  // Copied: the attributes and the text that are allowed, and what is inside by its rules.
  kMake,  // Written anew by this host, in its words.
  kDrop,  // Left out, and an operator should know.
  kIgnore,  // Left out: of no meaning here, or made up again by libvirt.
};

enum class TextRule {
  kNone,
  kToken,   // Letters, digits and ".:+_- ", at most kTokenMax.
  kNumber,  // Digits, at most 15.
  kFree,    // Anything printable, at most kFreeTextMax bytes: read by people and guests only.
};

inline constexpr std::size_t kTokenMax = 256;
inline constexpr std::size_t kFreeTextMax = 4096;

struct Rule {
  std::string_view path;  // Below <domain>; "*" stands for one name.
  Treatment treatment = Treatment::kKeep;
  // Separated by spaces: NAME (a token), NAME=a|b (one of these), NAME:free, NAME:zone (a time
  // zone), NAME:list (of numbers).  With "!" before it, an element without a fitting value is
  // dropped; with "-" before it, the attribute is left out without a word.
  std::string_view attributes = "";
  TextRule text = TextRule::kNone;
  std::string_view what = "";  // What an operator calls it; empty: no row of its own.
  std::string_view why = "";   // It is not as it was.
};

// Null: unknown, to be left out.
const Rule* find_rule(std::string_view path);

bool is_token(std::string_view text);
bool is_allowed(TextRule rule, std::string_view text);

struct CheckedAttributes {
  bool is_whole = true;  // Those with "!" are there and fit.
  std::vector<XmlAttribute> kept;
  std::vector<XmlAttribute> dropped;
};
CheckedAttributes check_attributes(const Rule& rule, const XmlNode& node);

}  // namespace farside::agent::libvirt
