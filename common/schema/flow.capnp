@0xd1c9a1f0b7e33001;
# Workflows: what the orchestrator stores, and the typed state of each workflow.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("farside::wire");
using Plain = import "annotations.capnp";
using T = import "types.capnp";

struct ItemSpec {
  # Everything a workflow needs to know of one protected item, as the vault had it at the start.
  item @0 :Text;
  vm @1 :Text;
  vmName @2 :Text;
  sourceSite @3 :Text;
  sourceCloud @4 :Text;
  sourceAgent @5 :Text;       # Principals.
  targetSite @6 :Text;
  targetCloud @7 :Text;
  targetAgent @8 :Text;
  policy @9 :T.Policy;
  epoch @10 :UInt64;
  networks @11 :List(T.NetworkPair);
  storageClass @12 :Text;
  replicaVm @13 :Text;
}

struct WorkflowInput {
  spec @0 :ItemSpec;
  seq @1 :UInt64;             # Recovery point; 0 = newest.
  network @2 :Text;           # Test failover; empty = isolated.
  notes @3 :Text;
  shutdownSeconds @4 :UInt32;
  deleteReplica @5 :Bool;
  force @6 :Bool;             # Disable although the target cannot be reached.
  lifeSeconds @7 :UInt32;     # Test failover: how long a sign of life is waited for; 0 = 300.
  keepHours @8 :UInt32;       # Commit: how long the replica stays; 0 = not at all.
}

enum StepState {
  notStarted @0;
  inProgress @1;
  succeeded @2;
  failed @3;
  skipped @4;
  undone @5;
  undoFailed @6;
}

struct StepRecord {
  name @0 :Text;
  title @1 :Text;
  state @2 :StepState;
  startedAt @3 :Int64;
  endedAt @4 :Int64;
  tries @5 :UInt32;
  fault @6 :T.Fault $Plain.optional;
  done @7 :UInt64;
  total @8 :UInt64;
  note @9 :Text;
}

enum FlowPhase {
  running @0;
  unwinding @1;
  succeeded @2;
  failed @3;
  cancelled @4;
  needsOperator @5;
}

struct FlowRecord {
  id @0 :Text;                # = job id.
  workflow @1 :Text;
  version @2 :UInt32;
  state @3 :Data;             # The workflow's own struct.
  phase @4 :FlowPhase;
  step @5 :UInt32;            # Current one: acting while running, undoing while unwinding.
  steps @6 :List(StepRecord);
  fault @7 :T.Fault $Plain.optional;
  startedAt @8 :Int64;
  endedAt @9 :Int64;
  revision @10 :UInt64;       # Grows with every change an operator can see.
  request @11 :Text;          # Id of the unanswered request; empty while waiting for a retry.
  heardAt @12 :Int64;         # Last sign of life for it.
  retryAt @13 :Int64;
  cancelRequested @14 :Bool;
  item @15 :Text;
  notedRevision @16 :UInt64;  # What the vault has acknowledged.
  logSeq @17 :UInt64;
  restarts @18 :UInt32;       # Times an operator sent a stuck flow on; makes request ids fresh.
  pastReturn @19 :Bool;       # It can only go forward.
  movedAt @20 :Int64;         # When the try under way last got on; what counts is in engine.h.
  furthest @21 :UInt64;       # The most it has had done ...
  leastLeft @22 :UInt64;      # ... and the least it had left; 0 = not known yet.
}

enum FlowEvent {
  started @0;
  succeeded @1;
  failed @2;
  undoStarted @3;
  undoSucceeded @4;
  undoFailed @5;
  cancelled @6;
  ended @7;
}

struct FlowLogEntry {
  at @0 :Int64;
  step @1 :Text;
  event @2 :FlowEvent;
  request @3 :Text;
  detail @4 :Text;
}

struct EnableState {
  spec @0 :ItemSpec;
  vm @1 :T.Vm;
  sourceKey @2 :Text;
  storagePath @3 :Text;
  endpoint @4 :Text;
  targetKey @5 :Text;
  newest @6 :T.RecoveryPoint;
  initialSeconds @7 :Float64;
  guestBytes @8 :UInt64;
  wireBytes @9 :UInt64;
  definition @10 :T.VmDefinition;
  networks @11 :List(T.NetworkPair);  # To networks of the target's host.
}

struct TestFailoverState {
  spec @0 :ItemSpec;
  seq @1 :UInt64;
  network @2 :Text;
  hostNetwork @3 :Text;
  testVm @4 :Text;
  capturedAt @5 :Int64;
  bootMillis @6 :UInt64;
  lifeSeconds @7 :UInt32;
  sign @8 :Text;
}

struct CleanupState {
  spec @0 :ItemSpec;
  notes @1 :Text;
}

struct PlannedFailoverState {
  spec @0 :ItemSpec;
  shutdownSeconds @1 :UInt32;
  newEpoch @2 :UInt64;
  wasRunning @3 :Bool;
  forced @4 :Bool;
  point @5 :T.RecoveryPoint;
  digest @6 :Text;
  nics @7 :List(T.Nic);
  replicaVm @8 :Text;
  plan @9 :List(T.PlanRow);   # Where the VM at the target differs.
  verified @10 :UInt64;       # The point whose bytes were all compared while the VM ran.
}

struct CommitState {
  spec @0 :ItemSpec;
  keepHours @1 :UInt32;
  replicaVm @2 :Text;         # As its host knows it now.
}

struct DisableState {
  spec @0 :ItemSpec;
  deleteReplica @1 :Bool;
  force @2 :Bool;
}
