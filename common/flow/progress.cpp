// The part of Engine that hears how far a step is, and tells getting on from talking of it.
//
// What counts is `done` beyond the most the try has had done, or less left than ever: a copy that
// breaks and begins anew repeats what it had, and figures that go to and fro go nowhere.  A note
// never counts: it tells why nothing moves, and often has a time in it.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/clip.h"
#include "common/flow/engine.h"

namespace farside::flow {
namespace {

bool gets_on(msg::FlowRecord& record, const msg::Progress& progress) {
  const auto left = progress.total > progress.done ? progress.total - progress.done : 0;
  const bool is_further = progress.done > record.furthest;
  const bool is_nearer = left > 0 && (record.least_left == 0 || left < record.least_left);
  if (is_further) record.furthest = progress.done;
  if (is_nearer) record.least_left = left;
  return is_further || is_nearer;
}

}  // namespace

void Engine::begin_progress(msg::FlowRecord& record, Time now) {
  record.moved_at = now.micros;
  record.furthest = 0;
  record.least_left = 0;
}

std::optional<Error> Engine::stalled_error(const Flow& flow, Time now) {
  const auto& record = flow.record;
  const auto& table = flow.workflow->steps[record.step];
  // Flows that a release without this began are judged by their silence alone.
  const bool was_told = record.moved_at != 0 && record.heard_at > record.moved_at;
  const auto still = Micros{now.micros - record.moved_at};
  if (!was_told || still <= std::max(table.stalled, table.silence)) return std::nullopt;
  const auto& step = record.steps[record.step];
  return Error{
      .code = ErrorCode::kTimeout,
      .what = fmt::format("step '{}' has not got on since {}: {} of {} done{}", step.title,
                          to_iso(Time{record.moved_at}), step.done, step.total,
                          step.note.empty() ? "" : ", it says '" + step.note + "'"),
      .advice = "look at that host, its storage and its link; what it says names the cause"};
}

void Engine::on_progress(const msg::Progress& progress, const std::string& from,
                         reactor::Effects& effects) {
  if (!owns(progress.request)) return;
  const auto parts = progress.request.find('/', 5);
  if (parts == std::string::npos) return;
  auto flow = load(progress.request.substr(5, parts - 5), effects);
  if (!flow || flow->record.request != progress.request) return;
  if (const auto to = asked(*flow); to != from && route_(to) == from) {
    auto& waiting = flow->record.steps[flow->record.step];
    auto note = clipped(progress.note, kNoteMax);
    if (std::exchange(waiting.note, note) != note) save(*flow, effects);
    return;
  }
  if (!is_asked(*flow, from)) return;
  auto& step = flow->record.steps[flow->record.step];
  flow->record.heard_at = effects.now().micros;
  if (gets_on(flow->record, progress)) flow->record.moved_at = effects.now().micros;
  step.done = progress.done;
  step.total = progress.total;
  step.note = clipped(progress.note, kNoteMax);
  save(*flow, effects);
}

}  // namespace farside::flow
