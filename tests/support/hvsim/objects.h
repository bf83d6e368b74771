// The objects of a simulated host: instances by class and keys, and associations between them.
//
// Thread: one at a time.  Pointers live until the next change of the table.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/wsman/value.h"

namespace farside::hvsim {

using wsman::Instance;
using wsman::Reference;
using wsman::Value;

struct ClassShape {
  std::string name;
  std::string base;  // Empty: none.
  std::vector<std::string> keys;
};

class Objects final {
 public:
  void define(ClassShape shape);
  bool has_class(const std::string& name) const { return classes_.contains(name); }
  bool is_a(const std::string& name, const std::string& base) const;

  Instance& add(Instance instance);
  void remove(const Reference& object);  // And its associations.
  // The only object of the class, or of one derived from it, that has these keys; some may be left
  // out, as real hosts allow it for services.  Null: none, or more than one.
  Instance* find(const Reference& object);
  std::vector<const Instance*> of_class(const std::string& name) const;

  void associate(const std::string& association, const Instance& left, const Instance& right);
  // Empty classes are all classes.
  std::vector<const Instance*> associated(const Reference& object, const std::string& association,
                                          const std::string& result);

  Reference reference_to(const Instance& instance) const;

  struct Link {
    std::string association;
    Reference left;
    Reference right;
  };
  const std::map<std::string, Instance>& instances() const { return instances_; }
  const std::vector<Link>& links() const { return links_; }

 private:
  std::map<std::string, ClassShape> classes_;
  // By reference_to(): addresses stay the same while others come and go.
  std::map<std::string, Instance> instances_;
  std::vector<Link> links_;
};

}  // namespace farside::hvsim
