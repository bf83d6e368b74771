#include "services/agent/data_plane/session_worker.h"

#include <new>

namespace farside::data {

SessionWorker::SessionWorker(Options options)
    : options_(std::move(options)), heard_(std::chrono::steady_clock::now()) {
  thread_ = std::thread([this] { run(); });
}

SessionWorker::~SessionWorker() {
  stop();
  thread_.join();
}

bool SessionWorker::put(Incoming incoming) {
  bool fits = false;
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return true;  // Nobody handles it any more.
    // Requests are small and few; the margin is for them.
    fits = queued_bytes_ + incoming.cost <= window_bytes() + (1U << 20U);
    if (fits) {
      queued_bytes_ += incoming.cost;
      heard_ = std::chrono::steady_clock::now();
      queue_.push_back(std::move(incoming));
    } else {
      stop_ = true;
      queue_.clear();
    }
  }
  wake_.notify_one();
  return fits;
}

void SessionWorker::heard() {
  const std::lock_guard lock(mutex_);
  heard_ = std::chrono::steady_clock::now();
}

void SessionWorker::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    queue_.clear();
  }
  wake_.notify_one();
}

std::optional<SessionWorker::Incoming> SessionWorker::next() {
  std::unique_lock lock(mutex_);
  while (!stop_ && queue_.empty() && std::chrono::steady_clock::now() < heard_ + options_.idle) {
    wake_.wait_until(lock, heard_ + options_.idle);
  }
  if (stop_ || queue_.empty()) return std::nullopt;
  Incoming incoming = std::move(queue_.front());
  queue_.pop_front();
  // Given back before the answer leaves: the source may use the credit at once.
  queued_bytes_ -= incoming.cost;
  return incoming;
}

void SessionWorker::run() {
  std::optional<Session> session(std::in_place, options_.number, options_.source_key,
                                 options_.world);
  while (auto incoming = next()) {
    const std::span<char> payload =
        incoming->payload ? incoming->payload->span() : std::span<char>();
    Status handled;
    try {
      handled = incoming->sealed
                    ? session->handle_sealed(incoming->sealed->view(), payload)
                    : session->handle(incoming->frame, {payload.data(), payload.size()});
    } catch (const std::bad_alloc&) {
      handled = fail(ErrorCode::kUnavailable, "this host has no memory left for the session",
                     "free memory on it; replication goes on by itself");
    }
    if (!handled) {
      options_.on_refused(handled.error());
      break;
    }
    // One session, one delta: kept until it idles out it would take the place of others.
    const bool is_last = std::holds_alternative<msg::FinishDelta>(incoming->frame.value);
    if (!incoming->sealed && is_last) break;
  }
  stop();  // What is queued still, or comes, is nobody's.
  // It syncs what was staged, which a sick volume may take any time for: only then may the threads
  // of the ports, on which all items depend, join this one.
  session.reset();
  ended_ = true;
  options_.on_ended();
}

}  // namespace farside::data
