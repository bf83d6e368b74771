// Reading XML documents and escaping text for those we write.  The only user of libxml2.
//
// Nodes are views: they live as long as their document.  Thread: any, one at a time per document.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

struct _xmlDoc;   // NOLINT(bugprone-reserved-identifier): libxml2's own name.
struct _xmlNode;  // NOLINT(bugprone-reserved-identifier): libxml2's own name.

namespace farside::agent::libvirt {

struct XmlAttribute {
  std::string name;
  std::string value;
};

// Answers every question with "nothing" where an element or attribute is missing, so that paths
// can be followed without checking each step.
class XmlNode {
 public:
  explicit XmlNode(_xmlNode* node = nullptr) : node_(node) {}
  explicit operator bool() const { return node_ != nullptr; }

  std::string name() const;   // Without its prefix.
  std::string space() const;  // The URI of its namespace; empty: none.
  std::string attribute(const char* name) const;
  std::vector<XmlAttribute> attributes() const;  // In their order; without namespaces of their own.
  std::string text() const;
  std::string own_text() const;                // Without that of the elements inside.
  XmlNode child(std::string_view name) const;  // The first one; names without their prefix.
  std::vector<XmlNode> children(std::string_view name) const;
  std::vector<XmlNode> elements() const;  // All of them.

 private:
  _xmlNode* node_;
};

class XmlDocument {
 public:
  // Errors: kCorrupt.
  static Result<XmlDocument> parse(std::string_view text);

  // A text that a stranger wrote: at most kForeignTextMax bytes, kForeignDepthMax elements deep,
  // and without a document type, that is, without entities.  Errors: kCorrupt, kTooLarge.
  static Result<XmlDocument> parse_foreign(std::string_view text);

  XmlNode root() const;

 private:
  struct Free {
    void operator()(_xmlDoc* document) const;
  };
  explicit XmlDocument(_xmlDoc* document) : document_(document) {}
  std::unique_ptr<_xmlDoc, Free> document_;
};

inline constexpr std::size_t kForeignTextMax = 256U << 10U;
inline constexpr int kForeignDepthMax = 24;

// Fit for element text and for attributes in single or double quotes.
std::string xml_escape(std::string_view text);

}  // namespace farside::agent::libvirt
