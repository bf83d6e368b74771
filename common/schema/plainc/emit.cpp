#include "common/schema/plainc/emit.h"

namespace farside::plainc {
namespace {

std::string stem(const std::string& path) {
  return path.substr(0, path.rfind(".capnp"));
}

std::string member_type(const Field& field) {
  return field.optional ? "std::optional<" + field.type.plain + ">" : field.type.plain;
}

std::string variant_of(const Struct& shape) {
  std::string arms;
  for (const Field& field : shape.fields) arms += (arms.empty() ? "" : ", ") + field.type.plain;
  return "std::variant<" + arms + ">";
}

// ---- decoding: `source` is a wire value, `target` a plain lvalue.

std::string read_value(const Type& type, const std::string& source, const std::string& target,
                       int depth) {
  switch (type.kind) {
    case Kind::kVoid:
      return "";
    case Kind::kNumber:
      return target + " = " + source + ";\n";
    case Kind::kText:
    case Kind::kData:
      return target + " = wire::blob_of(" + source + ", room);\n";
    case Kind::kEnum:
      return "FARSIDE_TRY(wire::read_enum(" + source + ", " + std::to_string(type.enumerants) +
             ", \"" + type.name + "\", " + target + "));\n";
    case Kind::kStruct:
      return "FARSIDE_TRY(plain_read(" + source + ", " + target + ", room));\n";
    case Kind::kList: {
      const std::string n = std::to_string(depth);
      return "{\nconst auto list" + n + " = " + source + ";\nFARSIDE_TRY(wire::check_items<" +
             type.item->plain + ">(list" + n + ", room));\n" + target + ".reserve(list" + n +
             ".size());\nfor (const auto item" + n + " : list" + n + ") {\n" + type.item->plain +
             " plain" + n + "{};\n" + read_value(*type.item, "item" + n, "plain" + n, depth + 1) +
             target + ".push_back(std::move(plain" + n + "));\n}\n}\n";
    }
  }
  return "";
}

std::string read_field(const Field& field) {
  const std::string source = "in.get" + field.accessor + "()";
  if (!field.optional) return read_value(field.type, source, "out." + field.name, 0);
  return "if (in.has" + field.accessor + "()) {\n" +
         read_value(field.type, source, "out." + field.name + ".emplace()", 0) + "}\n";
}

// `plain_read(x, out.field.emplace())` would evaluate the emplace once for structs but many times
// for lists, so optional lists go through a reference.
std::string read_optional_list(const Field& field) {
  return "if (in.has" + field.accessor + "()) {\nauto& plain = out." + field.name +
         ".emplace();\n" + read_value(field.type, "in.get" + field.accessor + "()", "plain", 0) +
         "}\n";
}

// ---- encoding: into field `accessor` of `out`, or element `index` of a list builder.

struct Place {
  std::string set_open, init_open, struct_init;
};

Place field_place(const std::string& accessor) {
  return {"out.set" + accessor + "(", "out.init" + accessor + "(", "out.init" + accessor + "()"};
}
Place item_place(const std::string& list, const std::string& index) {
  return {list + ".set(" + index + ", ", list + ".init(" + index + ", ", list + "[" + index + "]"};
}

std::string build_value(const Type& type, const Place& place, const std::string& plain, int depth) {
  switch (type.kind) {
    case Kind::kVoid:
      return "";
    case Kind::kNumber:
      return place.set_open + plain + ");\n";
    case Kind::kText:
      return place.set_open + "wire::as_text(" + plain + "));\n";
    case Kind::kData:
      return place.set_open + "wire::as_data(" + plain + "));\n";
    case Kind::kEnum:
      return place.set_open + "static_cast<" + type.wire + ">(" + plain + "));\n";
    case Kind::kStruct:
      return "plain_build(" + place.struct_init + ", " + plain + ");\n";
    case Kind::kList: {
      const std::string n = std::to_string(depth);
      return "{\nauto list" + n + " = " + place.init_open + "static_cast<unsigned>(" + plain +
             ".size()));\nfor (unsigned i" + n + " = 0; i" + n + " < list" + n + ".size(); ++i" +
             n + ") {\n" +
             build_value(*type.item, item_place("list" + n, "i" + n), plain + "[i" + n + "]",
                         depth + 1) +
             "}\n}\n";
    }
  }
  return "";
}

std::string build_field(const Field& field) {
  const std::string plain = "in." + field.name;
  const Place place = field_place(field.accessor);
  if (field.optional) {
    return "if (" + plain + ") {\n" + build_value(field.type, place, "(*" + plain + ")", 0) + "}\n";
  }
  const std::string build = build_value(field.type, place, plain, 0);
  const bool may_be_empty = field.type.kind == Kind::kText || field.type.kind == Kind::kData ||
                            field.type.kind == Kind::kList;
  return may_be_empty ? "if (!" + plain + ".empty()) {\n" + build + "}\n" : build;
}

// ---- printing

std::string text_of(const Type& type, const std::string& plain) {
  switch (type.kind) {
    case Kind::kVoid:
      return "std::string()";
    case Kind::kNumber:
      return "wire::number_text(" + plain + ")";
    case Kind::kText:
      return "wire::quoted(" + plain + ")";
    case Kind::kData:
      return "(\"<\" + std::to_string(" + plain + ".size()) + \" bytes>\")";
    case Kind::kEnum:
    case Kind::kStruct:
      return "std::string(to_text(" + plain + "))";
    case Kind::kList:
      return "wire::list_text(" + plain + ", [](const auto& item) { return " +
             text_of(*type.item, "item") + "; })";
  }
  return "";
}

std::string print_field(const Field& field) {
  const std::string plain = "in." + field.name;
  const std::string value = field.optional ? "(*" + plain + ")" : plain;
  const std::string text = field.secret ? "\"***\"" : text_of(field.type, value);
  return "if (" + plain + " != defaults." + field.name + ") printer.field(\"" + field.name +
         "\", " + text + ");\n";
}

std::string enum_source(const Enum& item) {
  std::string out = "std::string_view to_text(" + item.name + " value) {\nswitch (value) {\n";
  for (const std::string& name : item.names) {
    out += "case " + item.name + "::" + without_keyword(name) + ": return \"" + name + "\";\n";
  }
  out += "}\nreturn \"?\";\n}\ntemplate <>\nstd::optional<" + item.name + "> enum_from_text<" +
         item.name + ">(std::string_view text) {\n";
  for (const std::string& name : item.names) {
    out +=
        "if (text == \"" + name + "\") return " + item.name + "::" + without_keyword(name) + ";\n";
  }
  return out + "return std::nullopt;\n}\n\n";
}

std::string union_source(const Struct& shape) {
  std::string read = "switch (in.which()) {\n";
  std::string build = "switch (in.value.index()) {\n";
  std::string name = build;
  std::string text = build;
  int index = 0;
  for (const Field& field : shape.fields) {
    const std::string i = std::to_string(index++);
    const std::string get = "std::get<" + i + ">(in.value)";
    read += "case " + shape.wire + "::" + field.which + ":\nreturn plain_read(in.get" +
            field.accessor + "(), out.value.emplace<" + i + ">(), room);\n";
    build += "case " + i + ": plain_build(out.init" + field.accessor + "(), " + get + "); break;\n";
    name += "case " + i + ": return \"" + field.name + "\";\n";
    text += "case " + i + ": return to_text(" + get + ");\n";
  }
  return "Status plain_read(" + shape.wire + "::Reader in, " + shape.name +
         "& out, wire::Room& room) {\n" + read +
         "}\nreturn fail(ErrorCode::kCorrupt, \"unknown kind of " + shape.name + "\");\n}\n" +
         "void plain_build(" + shape.wire + "::Builder out, const " + shape.name + "& in) {\n" +
         build + "default: break;\n}\n}\n" + "std::string_view name_of(const " + shape.name +
         "& in) {\n" + name + "}\nreturn \"?\";\n}\n" + "std::string to_text(const " + shape.name +
         "& in) {\n" + text + "}\nreturn \"?\";\n}\n";
}

std::string struct_source(const Struct& shape) {
  std::string read;
  std::string build;
  std::string print;
  for (const Field& field : shape.fields) {
    read += field.optional && field.type.kind == Kind::kList ? read_optional_list(field)
                                                             : read_field(field);
    build += build_field(field);
    print += print_field(field);
  }
  return "Status plain_read([[maybe_unused]] " + shape.wire + "::Reader in, [[maybe_unused]] " +
         shape.name + "& out, [[maybe_unused]] wire::Room& room) {\n" + read + "return {};\n}\n" +
         "void plain_build([[maybe_unused]] " + shape.wire +
         "::Builder out, [[maybe_unused]] const " + shape.name + "& in) {\n" + build + "}\n" +
         "std::string to_text([[maybe_unused]] const " + shape.name +
         "& in) {\n[[maybe_unused]] static const " + shape.name +
         " defaults{};\nwire::Printer printer(\"" + shape.name + "\");\n" + print +
         "return printer.finish();\n}\n";
}

std::string codec_source(const Struct& shape) {
  return "std::string encode(const " + shape.name +
         "& in) {\ncapnp::MallocMessageBuilder message;\nplain_build(message.initRoot<" +
         shape.wire + ">(), in);\nreturn wire::to_bytes(message);\n}\ntemplate <>\nResult<" +
         shape.name + "> decode<" + shape.name +
         ">(std::string_view bytes) {\nreturn wire::decode_with<" + shape.wire + ", " + shape.name +
         ">(bytes, \"" + shape.name +
         "\", [](auto in, auto& out, wire::Room& room) { return plain_read(in, out, room); "
         "});\n}\n\n";
}

}  // namespace

// A union's special members live in its source: instantiating those of a variant with many arms in
// every file that includes it is what most of a build's time would go into.
std::string union_header(const Struct& shape) {
  const std::string& name = shape.name;
  std::string out = "  " + name + "();\n";
  for (const Field& field : shape.fields) out += "  " + name + "(" + field.type.plain + " arm);\n";
  out += "  " + name + "(const " + name + "& other);\n  " + name + "(" + name +
         "&& other) noexcept;\n  " + name + "& operator=(const " + name + "& other);\n  " + name +
         "& operator=(" + name + "&& other) noexcept;\n  ~" + name + "();\n" +
         "  bool operator==(const " + name + "& other) const;\n\n";
  return out + "  " + variant_of(shape) + " value;\n};\n";
}

std::string union_members(const Struct& shape) {
  const std::string& name = shape.name;
  const std::string scope = name + "::";
  std::string out = scope + name + "() = default;\n";
  for (const Field& field : shape.fields) {
    out += scope + name + "(" + field.type.plain + " arm) : value(std::in_place_type<" +
           field.type.plain + ">, std::move(arm)) {}\n";
  }
  out += scope + name + "(const " + name + "&) = default;\n" + scope + name + "(" + name +
         "&&) noexcept = default;\n" + name + "& " + scope + "operator=(const " + name +
         "&) = default;\n" + name + "& " + scope + "operator=(" + name +
         "&&) noexcept = default;\n" + scope + "~" + name + "() = default;\n" + "bool " + scope +
         "operator==(const " + name + "& other) const { return value == other.value; }\n\n";
  return out;
}

std::string emit_header(const File& file) {
  std::string out = "// Generated by plainc from " + file.path + ".\n#pragma once\n\n";
  for (const char* header :
       {"cstdint", "optional", "string", "string_view", "utility", "variant", "vector"}) {
    out += std::string("#include <") + header + ">\n";
  }
  out += "\n#include \"common/wire/codec.h\"\n";
  for (const std::string& import : file.imports) {
    out += "#include \"" + stem(import) + ".plain.h\"\n";
  }
  out += "\nnamespace farside::msg {\n\n";
  for (const Enum& item : file.enums) {
    out += "enum class " + item.name + " : std::uint16_t {\n";
    for (const std::string& name : item.names) out += "  " + without_keyword(name) + ",\n";
    out += "};\nstd::string_view to_text(" + item.name + " value);\ntemplate <>\nstd::optional<" +
           item.name + "> enum_from_text<" + item.name + ">(std::string_view text);\n\n";
  }
  for (const Struct& shape : file.structs) {
    out += "struct " + shape.name + " {\n";
    if (shape.is_union) {
      out += union_header(shape);
    } else {
      for (const Field& field : shape.fields) {
        out += "  " + member_type(field) + " " + field.name + "{" + field.initial + "};\n";
      }
      out += "  bool operator==(const " + shape.name + "&) const = default;\n};\n";
    }
    out += "std::string to_text(const " + shape.name + "& value);\n";
    if (shape.is_union) out += "std::string_view name_of(const " + shape.name + "& value);\n";
    out += "std::string encode(const " + shape.name + "& value);\ntemplate <>\nResult<" +
           shape.name + "> decode<" + shape.name + ">(std::string_view bytes);\n\n";
  }
  return out + "}  // namespace farside::msg\n";
}

std::string emit_source(const File& file) {
  std::string out = "// Generated by plainc from " + file.path + ".\n#include \"" +
                    stem(file.path) + ".plain.h\"\n\n#include \"" + file.path + ".h\"\n" +
                    "#include \"common/wire/generated.h\"\n\nnamespace farside::msg {\n\n";
  // Structs of other files are read and built by their own files.
  for (const Struct& shape : file.structs) {
    for (const Field& field : shape.fields) {
      const Type* type = &field.type;
      while (type->kind == Kind::kList) type = type->item.get();
      if (type->kind == Kind::kStruct && type->file != file.path) {
        out += "Status plain_read(" + type->wire + "::Reader in, " + type->plain +
               "& out, wire::Room& room);\n" + "void plain_build(" + type->wire +
               "::Builder out, const " + type->plain + "& in);\n";
      }
    }
  }
  out += "\n";
  for (const Enum& item : file.enums) out += enum_source(item);
  for (const Struct& shape : file.structs) {
    out += (shape.is_union ? union_members(shape) + union_source(shape) : struct_source(shape)) +
           codec_source(shape);
  }
  return out + "}  // namespace farside::msg\n";
}

// Several values of one struct are visited side by side: visit("item", a.item, b.item, c.item).
std::string emit_fields(const File& file) {
  std::string name = stem(file.path);
  name = name.substr(name.rfind('/') + 1);
  std::string out = "// Generated by plainc from " + file.path +
                    ": what it takes to treat all its structs alike.\n#pragma once\n\n"
                    "#include <concepts>\n#include <type_traits>\n\n#include \"" +
                    stem(file.path) + ".plain.h\"\n\nnamespace farside::msg {\n\n";
  std::string all;
  for (const Struct& shape : file.structs) {
    all += "  visit.template operator()<" + shape.name + ">(\"" + shape.name + "\");\n";
    if (shape.is_union) {
      out += "template <class Visit>\nvoid for_each_arm(std::type_identity<" + shape.name +
             ">, const Visit& visit) {\n";
      for (const Field& field : shape.fields) {
        out += "  visit(\"" + field.name + "\", " + shape.name + "(" + field.type.plain + "{}));\n";
      }
      out += "}\n\n";
      continue;
    }
    out +=
        "template <class Visit, class First, class... More>\n  requires "
        "std::same_as<std::remove_const_t<First>, " +
        shape.name +
        ">\nvoid for_each_field([[maybe_unused]] const Visit& visit, "
        "[[maybe_unused]] First& first, [[maybe_unused]] More&... more) {\n";
    for (const Field& field : shape.fields) {
      out += "  visit(\"" + field.name + "\", first." + field.name + ", more." + field.name +
             "...);\n";
    }
    out += "}\n\n";
  }
  return out + "template <class Visit>\nvoid for_each_struct_of_" + name +
         "(const Visit& visit) {\n" + all + "}\n\n}  // namespace farside::msg\n";
}

}  // namespace farside::plainc
