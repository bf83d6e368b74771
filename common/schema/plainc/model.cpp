#include "common/schema/plainc/model.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <map>
#include <set>
#include <string_view>

namespace farside::plainc {
namespace {

namespace schema = capnp::schema;

constexpr std::uint64_t kCxxNamespace = 0xb9c6f99ebf805f2cULL;  // Source: capnp/c++.capnp.
constexpr std::uint64_t kOptional = 0xd1c9a1f0b7e30002ULL;      // annotations.capnp
constexpr std::uint64_t kSecret = 0xd1c9a1f0b7e30003ULL;

constexpr std::string_view kKeywords[] = {
    "alignas",  "alignof",  "and",      "and_eq",   "asm",     "auto",    "bitand",    "bitor",
    "bool",     "break",    "case",     "catch",    "char",    "class",   "compl",     "concept",
    "const",    "continue", "decltype", "default",  "delete",  "do",      "double",    "else",
    "enum",     "explicit", "export",   "extern",   "false",   "float",   "for",       "friend",
    "goto",     "if",       "inline",   "int",      "long",    "mutable", "namespace", "new",
    "noexcept", "not",      "nullptr",  "operator", "or",      "private", "protected", "public",
    "register", "requires", "return",   "short",    "signed",  "sizeof",  "static",    "struct",
    "switch",   "template", "this",     "throw",    "true",    "try",     "typedef",   "typeid",
    "typename", "union",    "unsigned", "using",    "virtual", "void",    "volatile",  "wchar_t",
    "while",    "xor",      "constexpr"};

std::string upper_snake(const std::string& camel) {
  std::string out = snake_case(camel);
  for (char& c : out) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

std::string pascal(std::string name) {
  name[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(name[0])));
  return name;
}

std::string short_name(schema::Node::Reader node) {
  return std::string(node.getDisplayName().cStr()).substr(node.getDisplayNamePrefixLength());
}

template <class Annotated>
bool has(Annotated item, std::uint64_t annotation) {
  for (const auto found : item.getAnnotations()) {
    if (found.getId() == annotation) return true;
  }
  return false;
}

class FileReader {
 public:
  FileReader(const capnp::SchemaLoader& loader, schema::Node::Reader file)
      : loader_(loader), file_(file) {}

  File read() {
    out_.path = file_.getDisplayName().cStr();
    for (const auto nested : file_.getNestedNodes()) {
      const auto node = loader_.get(nested.getId()).getProto();
      if (node.isEnum()) read_enum(node);
    }
    for (const auto nested : file_.getNestedNodes()) {
      const auto node = loader_.get(nested.getId()).getProto();
      if (node.isInterface()) refuse(node, "interfaces have no plain form; use two structs");
      if (node.isStruct()) visit(node);
    }
    imports_.erase(out_.path);
    out_.imports.assign(imports_.begin(), imports_.end());
    return std::move(out_);
  }

 private:
  [[noreturn]] static void refuse(schema::Node::Reader node, const std::string& why) {
    throw Refused(std::string(node.getDisplayName().cStr()) + ": " + why);
  }
  [[noreturn]] static void refuse(schema::Node::Reader node, const std::string& field,
                                  const std::string& why) {
    refuse(node, "field " + field + ": " + why);
  }

  void read_enum(schema::Node::Reader node) {
    Enum out{.name = short_name(node), .names = {}};
    for (const auto enumerant : node.getEnum().getEnumerants()) {
      out.names.emplace_back(enumerant.getName().cStr());
    }
    out_.enums.push_back(std::move(out));
  }

  // Depth first, so that a struct is declared after everything it holds.
  void visit(schema::Node::Reader node) {
    if (done_.contains(node.getId())) return;
    if (!open_.insert(node.getId()).second) {
      refuse(node, "contains itself; plain structs are values and cannot");
    }
    if (node.getIsGeneric()) refuse(node, "generic structs have no plain form");
    if (node.getNestedNodes().size() > 0) {
      refuse(node, "declares types inside; declare them at the top of the file");
    }
    Struct out{.name = short_name(node), .wire = wire_name(node), .is_union = false, .fields = {}};
    const auto shape = node.getStruct();
    out.is_union = shape.getDiscriminantCount() > 0;
    std::set<std::string> arms;
    for (const auto field : shape.getFields()) {
      const std::string name = field.getName().cStr();
      if (field.isGroup()) {
        refuse(node, name, "groups and named unions have no plain form; use a struct of its own");
      }
      const bool in_union = field.getDiscriminantValue() != schema::Field::NO_DISCRIMINANT;
      if (out.is_union && !in_union) {
        refuse(node, name, "a struct with an unnamed union must have nothing else");
      }
      Field plain = read_field(node, field, name);
      if (out.is_union) {
        if (plain.type.kind != Kind::kStruct) refuse(node, name, "union arms must be structs");
        if (plain.optional) refuse(node, name, "union arms cannot be optional");
        if (!arms.insert(plain.type.plain).second) {
          refuse(node, name, "two arms of type " + plain.type.plain + "; each needs its own");
        }
      }
      if (plain.type.kind != Kind::kVoid) out.fields.push_back(std::move(plain));
    }
    open_.erase(node.getId());
    done_.insert(node.getId());
    out_.structs.push_back(std::move(out));
  }

  Field read_field(schema::Node::Reader node, schema::Field::Reader field,
                   const std::string& name) {
    const auto slot = field.getSlot();
    Field out{.name = without_keyword(snake_case(name)),
              .accessor = pascal(name),
              .which = upper_snake(name),
              .type = read_type(node, name, slot.getType()),
              .initial = {},
              .optional = has(field, kOptional),
              .secret = has(field, kSecret)};
    const bool is_pointer = out.type.kind == Kind::kText || out.type.kind == Kind::kData ||
                            out.type.kind == Kind::kStruct || out.type.kind == Kind::kList;
    if (out.optional && !is_pointer) {
      refuse(node, name, "only Text, Data, structs and lists can be $optional");
    }
    if (slot.getHadExplicitDefault()) {
      if (is_pointer) refuse(node, name, "only numbers and enums can have a default");
      out.initial = initial(out.type, slot.getDefaultValue());
    }
    return out;
  }

  static std::string initial(const Type& type, schema::Value::Reader value) {
    switch (value.which()) {
      case schema::Value::BOOL:
        return value.getBool() ? "true" : "false";
      case schema::Value::INT8:
        return std::to_string(value.getInt8());
      case schema::Value::INT16:
        return std::to_string(value.getInt16());
      case schema::Value::INT32:
        return std::to_string(value.getInt32());
      case schema::Value::INT64:
        return std::to_string(value.getInt64()) + "LL";
      case schema::Value::UINT8:
        return std::to_string(value.getUint8());
      case schema::Value::UINT16:
        return std::to_string(value.getUint16());
      case schema::Value::UINT32:
        return std::to_string(value.getUint32()) + "U";
      case schema::Value::UINT64:
        return std::to_string(value.getUint64()) + "ULL";
      case schema::Value::FLOAT32:
        return decimal(value.getFloat32()) + "F";
      case schema::Value::FLOAT64:
        return decimal(value.getFloat64());
      case schema::Value::ENUM:
        return "static_cast<" + type.plain + ">(" + std::to_string(value.getEnum()) + ")";
      default:
        throw Refused("a default of a kind plainc does not know");
    }
  }

  static std::string decimal(double value) {
    std::array<char, 40> text{};
    std::snprintf(text.data(), text.size(), "%.17e", value);
    return text.data();
  }

  Type read_type(schema::Node::Reader node, const std::string& field, schema::Type::Reader type) {
    const auto number = [](const char* plain) {
      Type out;
      out.kind = Kind::kNumber;
      out.plain = plain;
      return out;
    };
    switch (type.which()) {
      case schema::Type::VOID:
        return {};
      case schema::Type::BOOL:
        return number("bool");
      case schema::Type::INT8:
        return number("std::int8_t");
      case schema::Type::INT16:
        return number("std::int16_t");
      case schema::Type::INT32:
        return number("std::int32_t");
      case schema::Type::INT64:
        return number("std::int64_t");
      case schema::Type::UINT8:
        return number("std::uint8_t");
      case schema::Type::UINT16:
        return number("std::uint16_t");
      case schema::Type::UINT32:
        return number("std::uint32_t");
      case schema::Type::UINT64:
        return number("std::uint64_t");
      case schema::Type::FLOAT32:
        return number("float");
      case schema::Type::FLOAT64:
        return number("double");
      case schema::Type::TEXT: {
        Type out = number("std::string");
        out.kind = Kind::kText;
        return out;
      }
      case schema::Type::DATA: {
        Type out = number("std::string");
        out.kind = Kind::kData;
        return out;
      }
      case schema::Type::ENUM: {
        const auto target = loader_.get(type.getEnum().getTypeId()).getProto();
        Type out = named(node, field, target, Kind::kEnum);
        out.enumerants = target.getEnum().getEnumerants().size();
        return out;
      }
      case schema::Type::STRUCT: {
        const auto target = loader_.get(type.getStruct().getTypeId()).getProto();
        if (target.getScopeId() == file_.getId()) visit(target);
        return named(node, field, target, Kind::kStruct);
      }
      case schema::Type::LIST: {
        Type out;
        out.kind = Kind::kList;
        out.item = std::make_unique<Type>(read_type(node, field, type.getList().getElementType()));
        if (out.item->kind == Kind::kVoid) refuse(node, field, "a list of Void means nothing");
        out.plain = "std::vector<" + out.item->plain + ">";
        return out;
      }
      default:
        refuse(node, field, "AnyPointer and interfaces have no plain form");
    }
  }

  Type named(schema::Node::Reader user, const std::string& field, schema::Node::Reader target,
             Kind kind) {
    const auto scope = loader_.get(target.getScopeId()).getProto();
    if (!scope.isFile()) refuse(user, field, "the type must be declared at the top of a file");
    imports_.insert(scope.getDisplayName().cStr());
    Type out;
    out.kind = kind;
    out.name = short_name(target);
    out.plain = out.name;
    out.wire = wire_name(target);
    out.file = scope.getDisplayName().cStr();
    return out;
  }

  std::string wire_name(schema::Node::Reader node) const {
    const auto scope = loader_.get(node.getScopeId()).getProto();
    std::string prefix = "::";
    for (const auto annotation : scope.getAnnotations()) {
      if (annotation.getId() == kCxxNamespace) {
        prefix += std::string(annotation.getValue().getText().cStr()) + "::";
      }
    }
    return prefix + short_name(node);
  }

  const capnp::SchemaLoader& loader_;
  schema::Node::Reader file_;
  File out_;
  std::set<std::string> imports_;
  std::set<std::uint64_t> open_;
  std::set<std::uint64_t> done_;
};

}  // namespace

File read_file(const capnp::SchemaLoader& loader, schema::Node::Reader file) {
  return FileReader(loader, file).read();
}

std::string snake_case(const std::string& camel) {
  std::string out;
  for (const char c : camel) {
    if (std::isupper(static_cast<unsigned char>(c)) != 0) {
      if (!out.empty()) out += '_';
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else {
      out += c;
    }
  }
  return out;
}

std::string without_keyword(std::string name) {
  if (std::ranges::find(kKeywords, name) != std::end(kKeywords)) name += '_';
  return name;
}

}  // namespace farside::plainc
