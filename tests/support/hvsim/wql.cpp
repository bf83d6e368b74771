#include "tests/support/hvsim/wql.h"

#include <algorithm>
#include <cctype>

#include "common/wsman/wmi_path.h"

namespace farside::hvsim {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

class Words final {
 public:
  explicit Words(std::string_view text) : rest_(text) {}

  // A name, a number, a quoted text (with its first quote) or one other character; "" at the end.
  std::string next() {
    skip_space();
    if (rest_.empty()) return {};
    const char first = rest_[0];
    if (first == '\'' || first == '"') return quoted(first);
    std::size_t end = 0;
    while (end < rest_.size() &&
           (std::isalnum(static_cast<unsigned char>(rest_[end])) != 0 || rest_[end] == '_')) {
      ++end;
    }
    return take(std::max<std::size_t>(end, 1));
  }
  bool take_word(std::string_view word) {
    const std::string_view before = rest_;
    if (lower(next()) == word) return true;
    rest_ = before;
    return false;
  }
  bool take_braces(std::string& inside) {
    skip_space();
    const std::size_t end = rest_.find('}');
    if (!rest_.starts_with('{') || end == std::string_view::npos) return false;
    inside = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return true;
  }
  bool is_at_end() {
    skip_space();
    return rest_.empty();
  }

 private:
  void skip_space() {
    while (!rest_.empty() && std::isspace(static_cast<unsigned char>(rest_[0])) != 0) {
      rest_.remove_prefix(1);
    }
  }
  std::string take(std::size_t count) {
    std::string word(rest_.substr(0, count));
    rest_.remove_prefix(count);
    return word;
  }
  std::string quoted(char quote) {
    std::string text(1, '\'');
    for (std::size_t at = 1; at < rest_.size(); ++at) {
      if (rest_[at] == quote) {
        rest_.remove_prefix(at + 1);
        return text;
      }
      if (rest_[at] == '\\' && ++at == rest_.size()) break;
      text += rest_[at];
    }
    rest_ = {};
    return "?";  // Without its end.
  }

  std::string_view rest_;
};

bool is_name(const std::string& word) {
  return !word.empty() &&
         (std::isalpha(static_cast<unsigned char>(word[0])) != 0 || word[0] == '_');
}

bool is_value(const std::string& word) {
  return word.starts_with('\'') || (!word.empty() && std::ranges::all_of(word, [](unsigned char c) {
           return std::isalnum(c) != 0;
         }));
}

std::unexpected<Error> invalid(std::string_view text) {
  return fail(ErrorCode::kInvalidArgument, "Invalid query: " + std::string(text));
}

Result<Query> parse_select(Words& words, std::string_view text) {
  Query query;
  if (!words.take_word("*") || !words.take_word("from")) return invalid(text);
  query.class_name = words.next();
  if (!is_name(query.class_name)) return invalid(text);
  if (words.is_at_end()) return query;
  if (!words.take_word("where")) return invalid(text);
  do {
    const std::string name = words.next();
    if (!is_name(name) || !words.take_word("=")) return invalid(text);
    std::string value = words.next();
    if (!is_value(value)) return invalid(text);
    if (value.starts_with('\'')) value.erase(0, 1);
    query.equals.emplace_back(name, value);
  } while (words.take_word("and"));
  if (!words.is_at_end()) return invalid(text);
  return query;
}

// The path in braces quotes with single quotes; our parser of paths takes double ones.
Result<Query> parse_associators(Words& words, std::string_view text) {
  Query query;
  std::string inside;
  if (!words.take_word("of") || !words.take_braces(inside)) return invalid(text);
  Words path(inside);
  query.of.class_name = path.next();
  if (!is_name(query.of.class_name)) return invalid(text);
  for (char before = '.'; !path.is_at_end(); before = ',') {
    if (path.next() != std::string(1, before)) return invalid(text);
    const std::string key = path.next();
    if (!is_name(key) || !path.take_word("=")) return invalid(text);
    const std::string value = path.next();
    if (!value.starts_with('\'')) return invalid(text);
    query.of.keys[key] = value.substr(1);
  }
  if (words.is_at_end()) return query;
  if (!words.take_word("where") || words.is_at_end()) return invalid(text);
  while (!words.is_at_end()) {
    const std::string what = lower(words.next());
    if (!words.take_word("=")) return invalid(text);
    const std::string name = words.next();
    if (!is_name(name)) return invalid(text);
    if (what == "assocclass") {
      query.association = name;
    } else if (what == "resultclass") {
      query.result = name;
    } else {
      return invalid(text);
    }
  }
  return query;
}

}  // namespace

Result<Query> parse_wql(std::string_view text) {
  Words words(text);
  if (words.take_word("select")) return parse_select(words, text);
  if (words.take_word("associators")) return parse_associators(words, text);
  return invalid(text);
}

Result<std::vector<const Instance*>> run_query(Objects& objects, const Query& query) {
  for (const std::string& name : {query.class_name, query.association, query.result}) {
    if (!name.empty() && !objects.has_class(name)) {
      return fail(ErrorCode::kNotFound, "Invalid class " + name);
    }
  }
  if (query.class_name.empty()) {
    if (objects.find(query.of) == nullptr) return fail(ErrorCode::kNotFound, "Not found");
    return objects.associated(query.of, query.association, query.result);
  }
  auto found = objects.of_class(query.class_name);
  std::erase_if(found, [&](const Instance* instance) {
    return !std::ranges::all_of(query.equals, [&](const auto& pair) {
      // WQL compares texts without regard to case.
      return lower(instance->text(pair.first)) == lower(pair.second);
    });
  });
  return found;
}

}  // namespace farside::hvsim
