#include "services/agent/probe.h"

#include <array>

namespace farside::agent {
namespace {

using msg::ReplicationPhase;

constexpr std::array kPhases{ReplicationPhase::idle,    ReplicationPhase::initial,
                             ReplicationPhase::delta,   ReplicationPhase::resync,
                             ReplicationPhase::waiting, ReplicationPhase::paused,
                             ReplicationPhase::failed,  ReplicationPhase::stopped};

double seconds(std::int64_t micros) {
  return static_cast<double>(micros) / 1'000'000.0;
}

double number(std::uint64_t value) {
  return static_cast<double>(value);
}

}  // namespace

Probe::Probe(metrics::Registry& registry, metrics::Problems& problems)
    : registry_(registry), problems_(problems) {}

void Probe::source(const msg::SourceItem& item, const msg::ReplicationStatus& status,
                   bool is_stalled) {
  const metrics::Labels labels{{"source_item", item.item}, {"vm", item.vm}};
  const auto gauge = [&](const char* name, const char* help, double value) {
    registry_.gauge(name, help, labels).set(value);
  };
  const auto counter = [&](const char* name, const char* help, std::uint64_t total) {
    registry_.counter(name, help, labels).raise_to(number(total));
  };
  gauge("farside_recovery_point_timestamp_seconds",
        "When the newest durable recovery point was captured; 0 = none yet.",
        seconds(status.newest.captured_at));
  gauge("farside_recovery_point_target_seconds", "The policy's interval between recovery points.",
        item.policy.frequency_seconds);
  gauge(
      "farside_replication_lag_bytes", "Guest bytes of the delta under way not sent yet.",
      number(status.bytes_total > status.bytes_done ? status.bytes_total - status.bytes_done : 0));
  counter("farside_replication_changed_bytes_total", "Guest bytes that deltas carried.",
          status.changed_bytes_total);
  counter("farside_replication_wire_bytes_total", "Bytes sent for them.", status.wire_bytes_total);
  counter("farside_replication_cycles_total", "Deltas made durable at the target.", status.cycles);
  counter("farside_replication_resyncs_total", "Comparisons by hash after tracking was lost.",
          status.resyncs);
  counter("farside_replication_full_copies_total", "Initial copies of all that is allocated.",
          status.full_copies);
  gauge("farside_replication_failures", "Cycles that failed since the last that did not.",
        item.failures);
  gauge("farside_replication_stalled", "1 while a cycle is under way that does not move.",
        is_stalled ? 1 : 0);
  gauge("farside_replication_health", "0 unknown, 1 normal, 2 warning, 3 critical.",
        static_cast<double>(status.health));
  gauge("farside_source_epoch", "Role epoch this host replicates the item under.",
        number(status.epoch));
  for (const auto phase : kPhases) {
    auto with_phase = labels;
    with_phase["phase"] = std::string(msg::to_text(phase));
    registry_
        .gauge("farside_replication_phase", "1 for the phase replication of the item is in.",
               with_phase)
        .set(phase == status.phase ? 1 : 0);
  }
}

void Probe::replica(const msg::ReplicaStatus& status) {
  const metrics::Labels labels{{"replica_item", status.item}};
  const auto gauge = [&](const char* name, const char* help, double value) {
    registry_.gauge(name, help, labels).set(value);
  };
  gauge("farside_replica_newest_point_timestamp_seconds",
        "When the newest recovery point of the replica was captured.",
        seconds(status.newest.captured_at));
  gauge("farside_replica_oldest_point_timestamp_seconds",
        "When its oldest recovery point was captured.", seconds(status.oldest.captured_at));
  gauge("farside_replica_points", "Recovery points that can be booted.", number(status.points));
  gauge("farside_replica_journal_bytes", "Bytes of its journal.", number(status.journal_bytes));
  gauge("farside_replica_base_bytes", "Bytes of its base disks.", number(status.base_bytes));
  gauge("farside_replica_epoch", "Role epoch the replica is at.", number(status.epoch));
  gauge("farside_replica_scrub_timestamp_seconds",
        "End of the last whole pass over base and journal; 0 = none yet.",
        seconds(status.scrubbed_at));
  gauge("farside_replica_damaged_blocks",
        "Stored blocks known as damaged that a recovery point needs.", number(status.damaged));
  registry_
      .counter("farside_replica_scrub_mismatches_total", "Blocks that did not match their hash.",
               labels)
      .raise_to(number(status.scrub_mismatches));
}

void Probe::cycle_ended(const msg::CycleDone& done, bool is_final) {
  const std::string kind = is_final         ? "final"
                           : done.full_copy ? "initial"
                           : done.resynced  ? "resync"
                                            : "delta";
  registry_
      .histogram("farside_replication_cycle_seconds",
                 "From the order to take a point until it was durable at the target.",
                 metrics::seconds_buckets(), {{"kind", kind}})
      .observe(static_cast<double>(done.millis) / 1000.0);
}

void Probe::cycle_failed(const std::string& item) {
  registry_
      .counter("farside_replication_cycle_failures_total", "Cycles that failed.",
               {{"source_item", item}})
      .add();
}

void Probe::fences_held(Time at) {
  registry_
      .gauge("farside_fences_held_timestamp_seconds",
             "When every fenced VM of the host was last known to be off.")
      .set(seconds(at.micros));
}

void Probe::fenced_vm_stopped() {
  registry_.counter("farside_fenced_vms_stopped_total", "Times a fenced VM was found running.")
      .add();
}

void Probe::data_port(const data::ReceiverFigures& figures) {
  const auto counter = [&](const char* name, const char* help, std::uint64_t total) {
    registry_.counter(name, help).raise_to(number(total));
  };
  registry_.gauge("farside_data_port_sessions", "Sources that are connected to the data port.")
      .set(number(figures.sessions));
  counter("farside_data_port_batches_total", "Batches of blocks taken.", figures.batches);
  counter("farside_data_port_sealed_batches_total", "Of them, those taken beside CURVE.",
          figures.sealed_batches);
  counter("farside_data_port_payload_bytes_total", "Bytes of their blocks.", figures.payload_bytes);
  counter("farside_data_port_refused_sessions_total", "Sessions ended with an error.",
          figures.refused);
  counter("farside_data_port_unknown_keys_total", "Handshakes with unknown keys or sessions.",
          figures.strangers);
  counter("farside_data_port_turned_away_total",
          "Connections ended for want of room or of a proof in time.", figures.turned_away);
}

void Probe::forget_source(const std::string& item) {
  registry_.forget("source_item", item);
}

void Probe::forget_replica(const std::string& item) {
  registry_.forget("replica_item", item);
}

void Probe::problem(const std::string& part, const std::string& what) {
  problems_.set(part, what);
}

}  // namespace farside::agent
