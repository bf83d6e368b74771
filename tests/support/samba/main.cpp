// samba-share: an smbd for scripts.
//
//   samba-share [--user NAME] [--password-file FILE] [--as UNIX-USER] NAME=FOLDER...
//
// Prints one line of JSON with its port once it takes connections, and runs until its standard
// input ends.  Exit code 77: it cannot run here, and says why.
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "tests/support/samba/samba_server.h"

int main(int argc, char** argv) {
  using namespace farside;  // Of this program.
  test::SambaOptions options;
  std::string as_user;  // Who touches the files.
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::size_t equals = word.find('=');
    if (word == "--user" && i + 1 < argc) {
      options.user = argv[++i];
    } else if (word == "--password-file" && i + 1 < argc) {
      std::ifstream in(argv[++i]);
      std::getline(in, options.password);
    } else if (word == "--as" && i + 1 < argc) {
      as_user = argv[++i];
    } else if (equals != std::string::npos) {
      options.shares.push_back({.name = word.substr(0, equals), .folder = word.substr(equals + 1)});
    } else {
      std::fprintf(stderr, "samba-share: what is '%s'?\n", word.c_str());
      return 64;
    }
  }
  for (test::SambaShare& share : options.shares) share.as_user = as_user;
  const auto server = test::SambaServer::start(std::move(options));
  if (!server) {
    std::fprintf(stderr, "samba-share: %s\n", to_text(server.error()).c_str());
    return server.error().code == ErrorCode::kUnsupported ? 77 : 1;
  }
  std::printf("{\"port\": %d}\n", static_cast<int>((*server)->port()));
  std::fflush(stdout);
  for (char c = 0; ::read(STDIN_FILENO, &c, 1) > 0;) {
  }
  return 0;
}
