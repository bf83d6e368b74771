#include "common/metrics/exposer.h"

#include <CivetServer.h>
#include <fmt/format.h>
#include <poll.h>

#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace farside::metrics {
namespace {

void answer(mg_connection* connection, int status, const char* reason, const char* type,
            const std::string& body) {
  mg_printf(connection,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            status, reason, type, body.size());
  mg_write(connection, body.data(), body.size());
}

class MetricsPage final : public CivetHandler {
 public:
  explicit MetricsPage(const Registry& registry) : registry_(registry) {}
  bool handleGet(CivetServer*, mg_connection* connection) override {
    answer(connection, 200, "OK", "text/plain; version=0.0.4; charset=utf-8", registry_.text());
    return true;
  }

 private:
  const Registry& registry_;
};

class HealthPage final : public CivetHandler {
 public:
  HealthPage(Exposer::Health health, Exposer::Notices notices)
      : health_(std::move(health)), notices_(std::move(notices)) {}
  bool handleGet(CivetServer*, mg_connection* connection) override {
    const std::string problem = health_ ? health_() : std::string();
    const std::string notices = notices_ ? notices_() : std::string();
    if (problem.empty()) {
      answer(connection, 200, "OK", "text/plain; charset=utf-8",
             notices.empty() ? "ok\n" : "ok, but\n" + notices + "\n");
    } else {
      answer(connection, 503, "Service Unavailable", "text/plain; charset=utf-8", problem + "\n");
    }
    return true;
  }

 private:
  const Exposer::Health health_;
  const Exposer::Notices notices_;
};

// What the library says, which is the only place where it tells why it could not listen.  Later
// messages are about single requests and come from several threads.
struct Messages {
  std::mutex mutex;
  std::string text;
};

int remember_message(const mg_connection* connection, const char* message) {
  const auto* server =
      static_cast<const CivetServer*>(mg_get_user_data(mg_get_context(connection)));
  if (server == nullptr || server->getUserContext() == nullptr) return 1;
  auto& messages = *static_cast<Messages*>(const_cast<void*>(server->getUserContext()));
  const std::lock_guard lock(messages.mutex);
  if (messages.text.size() < 500) {
    messages.text += (messages.text.empty() ? "" : "; ") + std::string(message);
  }
  return 1;
}

}  // namespace

struct Exposer::Impl {
  Impl(const Registry& registry, Health health, Notices notices)
      : metrics(registry), healthz(std::move(health), std::move(notices)) {}

  MetricsPage metrics;
  HealthPage healthz;
  Messages messages;
  std::unique_ptr<CivetServer> server;  // Last: stops before the pages it calls go away.
  std::string address;
  std::uint16_t port = 0;
};

Exposer::Exposer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

// The library notices a stop only when its accept loop wakes, which may take it two seconds;
// connecting to it until it is gone wakes it at once.
Exposer::~Exposer() {
  std::jthread waker([address = impl_->address, port = impl_->port](std::stop_token stop) {
    while (!stop.stop_requested()) {
      char error[128];
      mg_connection* knock = mg_connect_client(address.c_str(), port, 0, error, sizeof error);
      if (knock != nullptr) mg_close_connection(knock);
      pollfd nothing{.fd = -1, .events = 0, .revents = 0};
      poll(&nothing, 1, 5);
    }
  });
  impl_->server.reset();
}

Result<std::unique_ptr<Exposer>> Exposer::start(const std::string& address, std::uint16_t port,
                                                const Registry& registry, Health health,
                                                Notices notices) {
  // An IPv6 address is told from its port by brackets.
  const std::string host =
      address.contains(':') && !address.starts_with('[') ? fmt::format("[{}]", address) : address;
  const std::string endpoint = fmt::format("{}:{}", host, port);
  const std::vector<std::string> options{"listening_ports",    endpoint, "num_threads", "2",
                                         "request_timeout_ms", "5000"};
  auto impl = std::make_unique<Impl>(registry, std::move(health), std::move(notices));
  impl->address = address == "0.0.0.0" || address == "::" ? "localhost" : address;
  CivetCallbacks callbacks;
  callbacks.log_message = remember_message;
  try {
    impl->server = std::make_unique<CivetServer>(options, &callbacks, &impl->messages);
    const std::vector<int> ports = impl->server->getListeningPorts();
    if (ports.empty()) return fail(ErrorCode::kInternal, "metrics server: no listening port");
    impl->port = static_cast<std::uint16_t>(ports.front());
    impl->server->addHandler("/metrics$", impl->metrics);
    impl->server->addHandler("/healthz$", impl->healthz);
  } catch (const std::exception& error) {
    const auto& said = impl->messages.text;
    return fail(
        ErrorCode::kUnavailable,
        fmt::format("serve metrics on {}: {}", endpoint, said.empty() ? error.what() : said),
        "see who has the port with `ss -ltnp`, stop that or set another metrics.port");
  }
  return std::unique_ptr<Exposer>(new Exposer(std::move(impl)));
}

std::uint16_t Exposer::port() const {
  return impl_->port;
}

}  // namespace farside::metrics
