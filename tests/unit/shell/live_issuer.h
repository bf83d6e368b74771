// A provider that does nothing but admit agents, at a port of its own, in a thread of its own.
//
// Thread: any; what is asked of it happens in its reactor's.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "common/bus/zmq_bus.h"
#include "common/flow/fault.h"
#include "common/identity/registrar.h"
#include "common/reactor/reactor.h"
#include "common/shell/key_proof.h"
#include "common/shell/service.h"
#include "common/store/mem_store.h"

namespace farside::test {

class LiveIssuer final : public reactor::Core {
 public:
  LiveIssuer() : bus_(bus::ZmqBus::open({.keys = keys_, .listen = "tcp://127.0.0.1:0"}, clock_)) {
    EXPECT_TRUE(bus_) << bus_.error().what;
    registrar_.emplace(identity::Issuer{.principal = "provider/A",
                                        .endpoint = (*bus_)->endpoint(),
                                        .public_key = keys_.public_key,
                                        .key_pair_from = shell::key_pair_from,
                                        .open_proof = [this](const identity::KeyProof& shown) {
                                          return shell::open_proof(shown, keys_.secret_key);
                                        }});
    reactor_.emplace(reactor::Reactor::Parts{.self = "provider/A",
                                             .core = *this,
                                             .store = store_,
                                             .bus = **bus_,
                                             .workers = workers_,
                                             .clock = clock_,
                                             .random = random_});
    thread_ = std::thread([this] {
      auto status = reactor_->start();
      while (status && !reactor_->is_stopping()) status = reactor_->turn(20);
      EXPECT_TRUE(status) << status.error().what;
    });
  }
  ~LiveIssuer() override {
    reactor_->stop();
    thread_.join();
  }
  LiveIssuer(const LiveIssuer&) = delete;
  LiveIssuer& operator=(const LiveIssuer&) = delete;

  msg::RegistrationKey token(const std::string& host) {
    return ask<msg::RegistrationKey>(
               [host](identity::Registrar& registrar, reactor::Effects& effects) {
                 return registrar.issue(
                     {.name = host, .role = msg::Role::agent, .site = "A", .host = host}, effects);
               })
        .value();
  }
  void revoke(const std::string& principal) {
    EXPECT_TRUE(
        ask<std::string>([principal](identity::Registrar& registrar, reactor::Effects& effects) {
          return registrar.revoke(principal, "", effects);
        }));
  }
  std::string key_of(const std::string& principal) {
    return ask<std::string>([principal](identity::Registrar& registrar,
                                        reactor::Effects& effects) -> Result<std::string> {
             FARSIDE_ASSIGN(const auto found, registrar.admitted(effects.store(), principal));
             return found ? found->peer.public_key : std::string();
           })
        .value();
  }

  msg::Peer peer() const {
    return {.principal = "provider/A",
            .role = msg::Role::provider,
            .public_key = keys_.public_key,
            .endpoint = (*bus_)->endpoint()};
  }

  void start(reactor::Effects& effects) override {
    registrar_->start(effects);
    effects.set_timer("orders", Micros{0});
  }
  void on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                  reactor::Effects& effects) override {
    auto reply = answer(peer, envelope, effects);
    if (!reply) reply = reactor::message(msg::Refused{.fault = flow::to_fault(reply.error())});
    effects.reply(peer.principal, envelope, std::move(*reply));
  }
  void on_job(const std::string&, const Result<msg::Message>&, reactor::Effects&) override {}
  void on_timer(const std::string&, reactor::Effects& effects) override {
    std::deque<std::function<void(reactor::Effects&)>> orders;
    {
      const std::lock_guard lock(mutex_);
      orders.swap(orders_);
    }
    for (auto& order : orders) order(effects);
    effects.set_timer("orders", std::chrono::milliseconds{20});
  }
  void on_peer(const reactor::PeerChange& change, reactor::Effects& effects) override {
    if (change.connected) registrar_->heard(change.peer, effects);
  }

 private:
  struct NoWorkers final : reactor::Workers {
    void start(const std::string&, msg::Message) override {}
    void collect(const OnResult&) override {}
  };

  template <class T, class Act>
  Result<T> ask(Act act) {
    const auto promise = std::make_shared<std::promise<Result<T>>>();
    auto answer = promise->get_future();
    {
      const std::lock_guard lock(mutex_);
      orders_.emplace_back([this, act, promise](reactor::Effects& effects) {
        promise->set_value(act(*registrar_, effects));
      });
    }
    return answer.get();
  }

  Result<msg::Message> answer(const reactor::PeerId& peer, const msg::Envelope& envelope,
                              reactor::Effects& effects) {
    if (const auto* wanted = std::get_if<msg::Register>(&envelope.body.value)) {
      FARSIDE_ASSIGN(const auto identity, registrar_->admit(peer, *wanted, effects));
      return reactor::message(msg::Registered{
          .principal = identity.peer.principal, .site = "A", .peers = {this->peer()}});
    }
    if (const auto* wanted = std::get_if<msg::RotateKey>(&envelope.body.value)) {
      FARSIDE_ASSIGN(auto rotated, registrar_->rotate(peer, *wanted, effects));
      return reactor::message(std::move(rotated));
    }
    return fail(ErrorCode::kUnsupported, "nothing else");
  }

  SystemClock clock_;
  SystemRandom random_;
  bus::CurveKeys keys_ = bus::generate_keys().value();
  Result<std::unique_ptr<bus::ZmqBus>> bus_;
  store::MemStore store_;
  NoWorkers workers_;
  std::optional<identity::Registrar> registrar_;
  std::optional<reactor::Reactor> reactor_;
  std::mutex mutex_;  // Guards `orders_`.
  std::deque<std::function<void(reactor::Effects&)>> orders_;
  std::thread thread_;
};

}  // namespace farside::test
