// What plainc knows of a schema file: the plain C++ types to be, in the order they must be
// declared.
//
// Errors: anything that has no plain counterpart throws Refused, whose text names the schema item
// and what to write instead; it ends the compilation.
#pragma once

#include <capnp/schema-loader.h>
#include <capnp/schema.capnp.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace farside::plainc {

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Kind { kVoid, kNumber, kText, kData, kEnum, kStruct, kList };

struct Type {
  Kind kind = Kind::kVoid;
  std::string plain;  // "std::uint32_t", "Disk", "std::vector<Disk>"
  std::string wire;   // Of enums and structs: "::farside::wire::Disk".
  std::string name;   // Of enums and structs: "Disk".
  unsigned enumerants = 0;
  std::string file;  // Of enums and structs: where they are declared, "common/schema/types.capnp".
  std::unique_ptr<Type> item;  // Of lists.
};

struct Field {
  std::string name;      // Member: "public_key".
  std::string accessor;  // Of the wire class: "PublicKey", as in getPublicKey().
  std::string which;     // Of union arms: "PUBLIC_KEY".
  Type type;
  std::string initial;  // C++ expression, empty for the type's own.
  bool optional = false;
  bool secret = false;
};

struct Struct {
  std::string name;
  std::string wire;
  bool is_union = false;
  std::vector<Field> fields;  // In order of their numbers.
};

struct Enum {
  std::string name;
  std::vector<std::string> names;  // As in the schema.
};

struct File {
  std::string path;                  // "common/schema/types.capnp"
  std::vector<std::string> imports;  // Paths of the files whose types are used.
  std::vector<Enum> enums;
  std::vector<Struct> structs;  // Each after those it contains.
};

File read_file(const capnp::SchemaLoader& loader, capnp::schema::Node::Reader file);

std::string snake_case(const std::string& camel);
std::string without_keyword(std::string name);  // "delete" -> "delete_"

}  // namespace farside::plainc
