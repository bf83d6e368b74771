// One instance of every struct of the schemas with no field at its default, the same in every
// release: what a field holds follows from its name, not from its place, so that fields added
// later change nothing of those that were there.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "tests/support/schema_shapes.h"

namespace farside::golden {

using test::Record;
using test::Union;

inline std::uint64_t number_of(std::string_view path) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a.
  for (const char c : path) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

template <class E>
std::uint64_t enumerants() {
  std::uint64_t count = 0;
  while (to_text(static_cast<E>(count)) != "?") ++count;
  return count;
}

template <Record T>
void fill(T& out, const std::string& path);
template <Union T>
void fill(T& out, const std::string& path);
template <class Item>
void fill(std::vector<Item>& out, const std::string& path);

inline void fill(bool& out, const std::string&) {
  out = true;
}
inline void fill(std::string& out, const std::string& path) {
  out = path;
}
inline void fill(double& out, const std::string& path) {
  out = static_cast<double>(number_of(path) % 1'000'000) + 0.5;
}
template <std::integral Number>
void fill(Number& out, const std::string& path) {
  out = static_cast<Number>(number_of(path));
  if (out == 0) out = 1;
}
template <class E>
  requires std::is_enum_v<E>
void fill(E& out, const std::string& path) {
  const auto count = enumerants<E>();
  out = static_cast<E>(count < 2 ? 0 : 1 + number_of(path) % (count - 1));
}
template <class Item>
void fill(std::optional<Item>& out, const std::string& path) {
  fill(out.emplace(), path);
}
template <Record T>
void fill(T& out, const std::string& path) {
  msg::for_each_field(
      [&](const char* name, auto& field) { fill(field, path + "." + std::string(name)); }, out);
}
// The first arm: those of a union are sampled one by one.
template <Union T>
void fill(T& out, const std::string& path) {
  out = test::arms_of<T>().front();
  std::visit([&](auto& arm) { fill(arm, path); }, out.value);
}
template <class Item>
void fill(std::vector<Item>& out, const std::string& path) {
  out.resize(2);
  for (std::size_t i = 0; i < out.size(); ++i) fill(out[i], path + std::to_string(i));
}

// What was decoded from bytes of an older release: each field is as sampled, or was not there yet
// and is as `fresh` has it.
template <class T>
bool agrees(const T& old, const T& sample, const T& fresh);

template <class Item>
bool agrees_list(const std::vector<Item>& old, const std::vector<Item>& sample) {
  if (old.empty()) return true;
  if (old.size() != sample.size()) return false;
  for (std::size_t i = 0; i < old.size(); ++i) {
    if (!agrees(old[i], sample[i], Item{})) return false;
  }
  return true;
}

template <class T>
struct IsList : std::false_type {};
template <class Item>
struct IsList<std::vector<Item>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class Item>
struct IsOptional<std::optional<Item>> : std::true_type {};

template <class T>
bool agrees(const T& old, const T& sample, const T& fresh) {
  if constexpr (IsList<T>::value) {
    return agrees_list(old, sample);
  } else if constexpr (IsOptional<T>::value) {
    if (!old) return true;
    return sample && agrees(*old, *sample, typename T::value_type{});
  } else if constexpr (Union<T>) {
    if (old.value.index() != sample.value.index()) return false;
    return std::visit(
        [&]<class Arm>(const Arm& arm) { return agrees(arm, std::get<Arm>(sample.value), Arm{}); },
        old.value);
  } else if constexpr (Record<T>) {
    bool all = true;
    msg::for_each_field([&](const char*, const auto& a, const auto& b,
                            const auto& c) { all = all && agrees(a, b, c); },
                        old, sample, fresh);
    return all;
  } else {
    return old == sample || old == fresh;
  }
}

// Truth values and enums hold too little to tell two of them apart: sample `n` sets those whose
// name has bit `n` and leaves everything else at its default.
inline constexpr int kBitSamples = 6;

template <Record T>
T bit_sample(const std::string& name, int n) {
  T out{};
  msg::for_each_field(
      [&]<class Field>(const char* field_name, Field& field) {
        if constexpr (std::is_same_v<Field, bool> || std::is_enum_v<Field>) {
          const std::string path = name + "." + field_name;
          if ((number_of(path) >> (20 + 5 * n) & 1U) != 0) fill(field, path);
        }
      },
      out);
  return out;
}

template <Record T>
std::string names_of_fields() {
  std::string out;
  T value{};
  msg::for_each_field(
      [&](const char* name, auto&) { out += (out.empty() ? "" : " ") + std::string(name); }, value);
  return out;
}

// How many fields hold too little to be told apart in the whole sample.
template <Record T>
int small_fields() {
  int count = 0;
  T value{};
  msg::for_each_field(
      [&]<class Field>(const char*, Field&) {
        if constexpr (std::is_same_v<Field, bool> || std::is_enum_v<Field>) ++count;
      },
      value);
  return count;
}

template <class Visit>
void for_each_struct(const Visit& visit) {
  msg::for_each_struct_of_agent(visit);
  msg::for_each_struct_of_control(visit);
  msg::for_each_struct_of_data(visit);
  msg::for_each_struct_of_envelope(visit);
  msg::for_each_struct_of_flow(visit);
  msg::for_each_struct_of_hyperv(visit);
  msg::for_each_struct_of_replica(visit);
  msg::for_each_struct_of_types(visit);
  msg::for_each_struct_of_vault(visit);
}
inline const std::vector<std::string>& schemas() {
  static const std::vector<std::string> kSchemas{"agent",  "control", "data",  "envelope", "flow",
                                                 "hyperv", "replica", "types", "vault"};
  return kSchemas;
}

}  // namespace farside::golden
