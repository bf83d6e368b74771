// Who may include whom.  The layers go one way:
//   base -> wire -> schema -> store -> reactor -> {bus, flow, identity} -> shell -> services
// with metrics and wsman beside them; no service knows another, and each library has one home.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/tidy/sources.h"

namespace farside::tidy {
namespace {

// What the files of a folder may include, besides their own folder.
const std::map<std::string, std::vector<std::string>>& layers() {
  static const std::map<std::string, std::vector<std::string>> kLayers{
      {"common/base/", {}},
      {"common/wire/", {"common/base/", "common/schema/"}},
      {"common/schema/", {"common/base/", "common/wire/"}},
      {"common/store/", {"common/base/", "common/wire/", "common/schema/"}},
      {"common/reactor/", {"common/base/", "common/wire/", "common/schema/", "common/store/"}},
      {"common/metrics/", {"common/base/"}},
      {"common/bus/", {"common/base/", "common/schema/", "common/reactor/"}},
      {"common/flow/",
       {"common/base/", "common/wire/", "common/schema/", "common/store/", "common/reactor/"}},
      {"common/identity/", {"common/base/", "common/schema/", "common/store/", "common/reactor/"}},
      {"common/wsman/", {"common/base/"}},
      {"common/shell/", {"common/"}},
      {"services/vault/front_door/", {"common/base/"}},
      {"services/vault/", {"common/"}},
      {"services/orchestrator/", {"common/"}},
      {"services/provider/", {"common/"}},
      {"services/agent/platforms/",
       {"common/base/", "common/schema/", "common/wsman/",
        "services/agent/replica_store/base_disk.h"}},
      {"services/agent/replica_store/", {"common/base/", "common/schema/", "common/store/"}},
      {"services/agent/", {"common/"}},
      {"cli/", {"common/base/"}},
  };
  return kLayers;
}

// The longest folder of the table that holds `path`.
const std::pair<const std::string, std::vector<std::string>>* layer_of(const std::string& path) {
  const std::pair<const std::string, std::vector<std::string>>* best = nullptr;
  for (const auto& layer : layers()) {
    if (path.starts_with(layer.first) &&
        (best == nullptr || layer.first.size() > best->first.size())) {
      best = &layer;
    }
  }
  return best;
}

// "common/base/clock.h" of `#include "common/base/clock.h"`; `<` for the others.
std::string included(const std::string& line, char open) {
  const std::string start = std::string("#include ") + open;
  if (!line.starts_with(start)) return {};
  return line.substr(start.size(), line.find(open == '"' ? '"' : '>', start.size()) - start.size());
}

TEST(IncludesTest, EveryFolderOfTheProductHasItsPlaceInTheLayers) {
  for (const SourceFile& file : sources()) {
    if (!file.is_code() || file.is_under("tests/") || file.is_under("deploy/")) continue;
    EXPECT_NE(layer_of(file.path), nullptr) << file.path << " is in no layer: extend layers()";
  }
}

TEST(IncludesTest, GoOneWay) {
  std::string wrong;
  for (const SourceFile& file : sources()) {
    const auto* layer = layer_of(file.path);
    if (!file.is_code() || layer == nullptr) continue;
    for (const std::string& line : file.lines) {
      const std::string name = included(line, '"');
      if (name.empty() || name.starts_with(layer->first)) continue;
      bool allowed = false;
      for (const std::string& folder : layer->second) allowed |= name.starts_with(folder);
      if (!allowed) wrong += file.path + " may not include " + name + "\n";
    }
  }
  EXPECT_EQ(wrong, "");
}

TEST(IncludesTest, AreWrittenFromTheTop) {
  std::string wrong;
  for (const SourceFile& file : sources()) {
    if (!file.is_code()) continue;
    for (const std::string& line : file.lines) {
      const std::string name = included(line, '"');
      if (name.empty() || name.ends_with(".plain.h") || name.ends_with(".fields.h") ||
          name.ends_with(".capnp.h")) {
        continue;
      }
      if (find_source(name) == nullptr) wrong += file.path + ": no file " + name + "\n";
    }
  }
  EXPECT_EQ(wrong, "");
}

TEST(IncludesTest, EachLibraryHasOneHome) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> homes{
      {"zmq", {"common/bus/", "common/shell/", "services/agent/data_plane/"}},
      {"sodium", {"common/shell/", "common/bus/curve_server.cpp"}},
      {"capnp/", {"common/wire/", "common/schema/"}},
      {"kj/", {"common/wire/", "common/schema/"}},
      {"rocksdb/", {"common/store/"}},
      {"prometheus/", {"common/metrics/"}},
      {"CivetServer", {"common/metrics/"}},
      {"boost/",
       {"services/vault/front_door/connection.", "services/vault/front_door/messages.",
        "services/vault/front_door/server.cpp"}},
      {"toml++", {"common/base/"}},
      {"spdlog", {"common/base/"}},
      {"curl/", {"cli/", "common/wsman/", "services/vault/"}},
      {"gssapi/", {"common/wsman/security_context.cpp"}},
      {"pugixml", {"common/wsman/"}},
      {"CLI/", {"cli/", "common/shell/"}},
      {"libsmbclient", {"services/agent/platforms/hyperv/smb/session.h"}},
      {"libvirt/", {"services/agent/platforms/libvirt/"}},
      {"libnbd", {"services/agent/platforms/libvirt/"}},
      {"nbdkit", {"services/agent/view/"}},
      {"zstd", {"services/agent/"}},
      {"xxhash", {"services/agent/"}},
  };
  std::string wrong;
  for (const SourceFile& file : sources()) {
    if (!file.is_code() || file.is_under("tests/") || file.is_under("deploy/")) continue;
    for (const std::string& line : file.lines) {
      const std::string name = included(line, '<');
      for (const auto& [library, folders] : homes) {
        if (name.empty() || !name.starts_with(library)) continue;
        bool at_home = false;
        for (const std::string& folder : folders) at_home |= file.is_under(folder);
        if (!at_home) wrong += file.path + " may not include <" + name + ">\n";
      }
    }
  }
  EXPECT_EQ(wrong, "");
}

TEST(IncludesTest, CoresKnowNeitherSocketsNorDisksNorThreads) {
  const std::set<std::string> banned{"common/bus/zmq_bus.h", "common/store/rocks_store.h",
                                     "common/reactor/reactor.h", "common/shell/service.h"};
  std::string wrong;
  for (const SourceFile& file : sources()) {
    if (!file.path.ends_with("_core.h") && !file.path.ends_with("_core.cpp") &&
        !file.is_under("services/orchestrator/workflows/")) {
      continue;
    }
    for (const std::string& line : file.lines) {
      const std::string name = included(line, '"');
      const std::string system = included(line, '<');
      if (banned.contains(name)) wrong += file.path + " may not include " + name + "\n";
      if (system == "thread" || system == "mutex" || system == "atomic" || system == "fstream") {
        wrong += file.path + " may not include <" + system + ">\n";
      }
    }
  }
  EXPECT_EQ(wrong, "");
}

TEST(IncludesTest, NoHeaderIsAnOrphan) {
  std::set<std::string> used;
  for (const SourceFile& file : sources()) {
    for (const std::string& line : file.lines) {
      if (const std::string name = included(line, '"'); !name.empty()) used.insert(name);
    }
  }
  std::string orphans;
  for (const SourceFile& file : sources()) {
    // Included by the compiler's command line.
    if (file.path == "common/wire/kj_for_clang.h") continue;
    if (file.path.ends_with(".h") && !used.contains(file.path)) orphans += file.path + "\n";
  }
  EXPECT_EQ(orphans, "");
}

}  // namespace
}  // namespace farside::tidy
