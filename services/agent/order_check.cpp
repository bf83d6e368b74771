#include "services/agent/order_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <concepts>
#include <string>
#include <type_traits>
#include <variant>

#include "common/base/endpoint.h"
#include "common/base/file_name.h"
#include "common/base/log_value.h"

namespace farside::agent {
namespace {

constexpr std::uint64_t kEpochEnd = std::uint64_t{1} << 62U;
constexpr std::uint32_t kHoursMax = 100 * 366 * 24;
constexpr std::uint32_t kIntervalSecondsMax = kHoursMax * 3'600U;
constexpr std::uint32_t kDeadlineSecondsMax = 7 * 24 * 3'600;

template <class Field, class Type>
concept Is = std::same_as<std::remove_cvref_t<Field>, Type>;

// Those about a VM that is here already; who orders names it, and nobody fills it in.
template <class Arm>
constexpr bool kNamesSourceVm =
    Is<Arm, msg::CheckSource> || Is<Arm, msg::StartReplication> || Is<Arm, msg::StopReplication> ||
    Is<Arm, msg::ShutDownSource> || Is<Arm, msg::RestartSource> || Is<Arm, msg::FenceSource> ||
    Is<Arm, msg::UnfenceSource>;

// Fields of one message; the first that is wrong is told.
class Judge final {
 public:
  explicit Judge(std::string_view order) : order_(order) {}

  Status id(std::string_view field, std::string_view text) const {
    if (is_id(text)) return {};
    return wrong(field, log::quoted(text) + " is not an id",
                 "an id has 1 to 128 letters, digits, '-', '_' and '.'");
  }
  Status id_or_none(std::string_view field, std::string_view text) const {
    return text.empty() ? Status{} : id(field, text);
  }
  Status path(std::string_view field, std::string_view text) const {
    if (is_folder_path(text)) return {};
    return fail(ErrorCode::kForbidden,
                fmt::format("{}.{}: {} is not a path to keep replicas at", order_, field,
                            log::quoted(text)),
                "write the path of the site's storage class whole, without '.' and '..'");
  }
  Status epoch(std::uint64_t value) const {
    if (value >= 1 && value < kEpochEnd) return {};
    return wrong("epoch", fmt::format("{} is not an epoch", value),
                 "look at the item's state; the vault counts its epochs from 1");
  }
  Status within(std::string_view field, std::uint32_t value, std::uint32_t from,
                std::uint32_t to) const {
    if (value >= from && value <= to) return {};
    return wrong(field, fmt::format("{} is not within {} to {}", value, from, to),
                 "correct the policy or the request, and try again");
  }
  Status policy(const msg::Policy& policy) const {
    FARSIDE_TRY(
        within("policy.frequency_seconds", policy.frequency_seconds, 1, kIntervalSecondsMax));
    FARSIDE_TRY(within("policy.retention_hours", policy.retention_hours, 0, kHoursMax));
    FARSIDE_TRY(within("policy.every_point_hours", policy.every_point_hours, 0, kHoursMax));
    FARSIDE_TRY(within("policy.app_consistent_hours", policy.app_consistent_hours, 0, kHoursMax));
    FARSIDE_TRY(within("policy.floor_hours", policy.floor_hours, 0, kHoursMax));
    return within("policy.keep_hours", policy.keep_hours, 0, kHoursMax);
  }
  Status endpoint(std::string_view text) const {
    if (text.empty()) return {};  // It cannot be dialled, and a cycle says so.
    const auto good = check_endpoint(text);
    if (good) return {};
    return wrong("endpoint", good.error().what, good.error().advice);
  }

 private:
  std::unexpected<Error> wrong(std::string_view field, std::string_view what,
                               std::string advice) const {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}.{}: {}", order_, field, what),
                std::move(advice));
  }

  std::string_view order_;
};

template <class Arm>
Status check_names(const Judge& judge, const Arm& arm) {
  if constexpr (requires {
                  { arm.item } -> Is<std::string>;
                }) {
    FARSIDE_TRY(judge.id("item", arm.item));
  }
  if constexpr (kNamesSourceVm<Arm>) {
    FARSIDE_TRY(judge.id("vm", arm.vm));
  } else if constexpr (requires {
                         { arm.vm } -> Is<std::string>;
                       }) {
    FARSIDE_TRY(judge.id_or_none("vm", arm.vm));
  } else if constexpr (requires {
                         { arm.vm } -> Is<msg::Vm>;
                       }) {
    FARSIDE_TRY(judge.id_or_none("vm.id", arm.vm.id));
  }
  if constexpr (requires {
                  { arm.test_vm } -> Is<std::string>;
                }) {
    FARSIDE_TRY(judge.id_or_none("test_vm", arm.test_vm));
  }
  if constexpr (requires {
                  { arm.storage_path } -> Is<std::string>;
                }) {
    FARSIDE_TRY(judge.path("storage_path", arm.storage_path));
  }
  if constexpr (requires {
                  { arm.endpoint } -> Is<std::string>;
                }) {
    FARSIDE_TRY(judge.endpoint(arm.endpoint));
  }
  return {};
}

template <class Arm>
Status check_numbers(const Judge& judge, const Arm& arm) {
  constexpr bool kSettings = Is<Arm, msg::ItemSettings>;
  if constexpr (requires {
                  { arm.epoch } -> Is<std::uint64_t>;
                }) {
    if (!kSettings || arm.epoch != 0) FARSIDE_TRY(judge.epoch(arm.epoch));
  }
  if constexpr (kSettings) {
    if (!arm.ended) FARSIDE_TRY(judge.policy(arm.policy));
  } else if constexpr (requires {
                         { arm.policy } -> Is<msg::Policy>;
                       }) {
    FARSIDE_TRY(judge.policy(arm.policy));
  }
  if constexpr (requires {
                  { arm.keep_hours } -> Is<std::uint32_t>;
                }) {
    FARSIDE_TRY(judge.within("keep_hours", arm.keep_hours, 0, kHoursMax));
  }
  if constexpr (requires {
                  { arm.deadline_seconds } -> Is<std::uint32_t>;
                }) {
    FARSIDE_TRY(judge.within("deadline_seconds", arm.deadline_seconds, 0, kDeadlineSecondsMax));
  }
  return {};
}

}  // namespace

Status check_order(const msg::Message& order) {
  const Judge judge(msg::name_of(order));
  return std::visit(
      [&](const auto& arm) -> Status {
        FARSIDE_TRY(check_names(judge, arm));
        return check_numbers(judge, arm);
      },
      order.value);
}

Status check_epoch_step(std::uint64_t known, const msg::Message& order) {
  return std::visit(
      [&](const auto& arm) -> Status {
        if constexpr (requires { std::uint64_t{arm.epoch}; }) {
          if (arm.epoch <= known + kEpochStepMax) return {};
          return fail(ErrorCode::kForbidden,
                      fmt::format("{}.epoch: {} is not one that epoch {} is followed by",
                                  msg::name_of(order), arm.epoch, known),
                      "look at the item with `farside item show`, and at who sends such orders");
        } else {
          return {};
        }
      },
      order.value);
}

Status check_own_vm(const msg::SourceItem& source, const msg::Message& order) {
  return std::visit(
      [&](const auto& arm) -> Status {
        if constexpr (kNamesSourceVm<std::remove_cvref_t<decltype(arm)>> &&
                      requires { arm.item; }) {
          if (arm.item != source.item || arm.vm == source.vm) return {};
          return fail(
              ErrorCode::kForbidden,
              fmt::format("{}.vm: {} is not the VM of item '{}', which is {}", msg::name_of(order),
                          log::quoted(arm.vm), source.item, log::quoted(source.vm)),
              "an order for an item touches no other VM of this host; look at the item "
              "with `farside item show`");
        } else {
          return {};
        }
      },
      order.value);
}

}  // namespace farside::agent
