// The Cap'n Proto compiler plug-in: `capnp compile -o<path>/plainc:<out> --src-prefix=<root> ...`
// reads a CodeGeneratorRequest from standard input and writes X.plain.h and X.plain.cpp for every
// X.capnp, relative to the working directory, which the compiler sets to <out>.
#include <capnp/serialize.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "common/schema/plainc/emit.h"
#include "common/schema/plainc/model.h"

namespace {

using namespace farside::plainc;

// Leaves a file alone that already says the same, so that nothing is compiled in vain.
void write(const std::filesystem::path& path, const std::string& text) {
  std::ifstream old(path);
  const std::string before{std::istreambuf_iterator<char>(old), std::istreambuf_iterator<char>()};
  if (old.is_open() && before == text) return;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path());
  std::ofstream out(path, std::ios::trunc);
  out << text;
  if (!out.flush()) throw Refused("cannot write " + path.string());
}

void run() {
  capnp::ReaderOptions options;
  options.traversalLimitInWords = 1ULL << 30U;
  capnp::StreamFdMessageReader message(STDIN_FILENO, options);
  const auto request = message.getRoot<capnp::schema::CodeGeneratorRequest>();
  capnp::SchemaLoader loader;
  for (const auto node : request.getNodes()) loader.load(node);
  for (const auto requested : request.getRequestedFiles()) {
    const File file = read_file(loader, loader.get(requested.getId()).getProto());
    const std::string path = file.path.substr(0, file.path.rfind(".capnp"));
    write(path + ".plain.h", emit_header(file));
    write(path + ".plain.cpp", emit_source(file));
    write(path + ".fields.h", emit_fields(file));
  }
}

}  // namespace

int main() {
  try {
    run();
    return 0;
  } catch (const Refused& refused) {
    std::cerr << "plainc: " << refused.what() << "\n";
  } catch (const kj::Exception& broken) {
    std::cerr << "plainc: " << broken.getDescription().cStr() << "\n";
  } catch (const std::exception& broken) {
    std::cerr << "plainc: " << broken.what() << "\n";
  }
  return 1;
}
