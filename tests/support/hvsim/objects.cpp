#include "tests/support/hvsim/objects.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/wsman/wmi_path.h"

namespace farside::hvsim {

void Objects::define(ClassShape shape) {
  FARSIDE_ASSERT(shape.base.empty() || has_class(shape.base));
  if (shape.keys.empty() && !shape.base.empty()) shape.keys = classes_.at(shape.base).keys;
  classes_[shape.name] = shape;
}

bool Objects::is_a(const std::string& name, const std::string& base) const {
  for (auto at = classes_.find(name); at != classes_.end(); at = classes_.find(at->second.base)) {
    if (at->first == base) return true;
  }
  return false;
}

Reference Objects::reference_to(const Instance& instance) const {
  Reference reference{.class_name = instance.class_name, .keys = {}};
  for (const std::string& key : classes_.at(instance.class_name).keys) {
    reference.keys[key] = instance.text(key);
  }
  return reference;
}

Instance& Objects::add(Instance instance) {
  const std::string path = to_wmi_path(reference_to(instance));
  return instances_[path] = std::move(instance);
}

void Objects::remove(const Reference& object) {
  const Instance* found = find(object);
  if (found == nullptr) return;
  const Reference exact = reference_to(*found);
  std::erase_if(links_,
                [&](const Link& link) { return link.left == exact || link.right == exact; });
  instances_.erase(to_wmi_path(exact));
}

Instance* Objects::find(const Reference& object) {
  Instance* found = nullptr;
  for (auto& [path, instance] : instances_) {
    if (!is_a(instance.class_name, object.class_name)) continue;
    const bool matches = std::ranges::all_of(object.keys, [&](const auto& key) {
      return key.first == "__cimnamespace" || instance.text(key.first) == key.second;
    });
    if (!matches) continue;
    if (found != nullptr) return nullptr;
    found = &instance;
  }
  return found;
}

std::vector<const Instance*> Objects::of_class(const std::string& name) const {
  std::vector<const Instance*> found;
  for (const auto& [path, instance] : instances_) {
    if (is_a(instance.class_name, name)) found.push_back(&instance);
  }
  return found;
}

void Objects::associate(const std::string& association, const Instance& left,
                        const Instance& right) {
  FARSIDE_ASSERT(has_class(association));
  links_.push_back({association, reference_to(left), reference_to(right)});
}

std::vector<const Instance*> Objects::associated(const Reference& object,
                                                 const std::string& association,
                                                 const std::string& result) {
  std::vector<const Instance*> all;
  const Instance* from = find(object);
  if (from == nullptr) return all;
  const Reference exact = reference_to(*from);
  for (const Link& link : links_) {
    if (!association.empty() && !is_a(link.association, association)) continue;
    if (link.left != exact && link.right != exact) continue;
    const Instance* other = find(link.left == exact ? link.right : link.left);
    if (other != nullptr && (result.empty() || is_a(other->class_name, result))) {
      all.push_back(other);
    }
  }
  return all;
}

}  // namespace farside::hvsim
