@0xd1c9a1f0b7e32001;
# What an agent is asked, answers, reports and stores.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("farside::wire");
using Plain = import "annotations.capnp";
using T = import "types.capnp";

# ---- Source side ----

struct CheckSource {
  vm @0 :Text;
}

struct SourceChecked {
  vm @0 :T.Vm;
  publicKey @1 :Text;         # Of the source agent's data plane.
  hostNetworks @2 :List(Text);
  definition @3 :T.VmDefinition;  # Without NVRAM.
}

struct StartReplication {
  item @0 :Text;
  vm @1 :Text;
  epoch @2 :UInt64;
  policy @3 :T.Policy;
  endpoint @4 :Text;          # Of the target agent's data plane.
  targetKey @5 :Text;
}

struct ReplicationStarted {
  item @0 :Text;
}

struct AwaitInitial {         # Answered when the first recovery point is durable.
  item @0 :Text;
}

struct InitialDone {
  item @0 :Text;
  point @1 :T.RecoveryPoint;
  seconds @2 :Float64;
  guestBytes @3 :UInt64;
  wireBytes @4 :UInt64;
}

struct StopReplication {      # Ends cycles and drops change tracking.
  item @0 :Text;
  vm @1 :Text;
}

struct ReplicationStopped {
  item @0 :Text;
}

struct ShutDownSource {
  item @0 :Text;
  vm @1 :Text;
  deadlineSeconds @2 :UInt32;
}

struct SourceShutDown {
  item @0 :Text;
  wasRunning @1 :Bool;
  forced @2 :Bool;
}

struct RestartSource {        # Undo of ShutDownSource: run again, replicate again.
  item @0 :Text;
  vm @1 :Text;
  start @2 :Bool;
}

struct SourceRestarted {
  item @0 :Text;
}

struct SyncSource {           # A delta now, while the VM runs, and the digest of its point.
  item @0 :Text;
}

struct SourceSynced {
  item @0 :Text;
  point @1 :T.RecoveryPoint;
  digest @2 :Text;            # Of the source's disks as of the point, taken by the source itself.
}

struct FinalSync {            # The last delta of a VM that is shut down.
  item @0 :Text;
}

struct FinalSynced {
  item @0 :Text;
  point @1 :T.RecoveryPoint;
  digest @2 :Text;            # Of the source's disks, taken by the source itself.
}

struct FenceSource {          # The VM must never start here again under this or an older epoch.
  item @0 :Text;
  vm @1 :Text;
  epoch @2 :UInt64;
  activeAt @3 :Text;          # Where the VM is active from now on, in words for people.
}

struct SourceFenced {
  item @0 :Text;
  epoch @1 :UInt64;
  activeAt @2 :Text;
}

struct UnfenceSource {
  item @0 :Text;
  vm @1 :Text;
  epoch @2 :UInt64;           # Refused unless it is at least the fence's.
}

struct SourceUnfenced {
  item @0 :Text;
}

# ---- Target side ----

struct PrepareReplica {
  item @0 :Text;
  vm @1 :T.Vm;                # Shape of the source VM.
  epoch @2 :UInt64;
  storagePath @3 :Text;
  sourceKey @4 :Text;
  policy @5 :T.Policy;
  definition @6 :T.VmDefinition;  # Of the source VM, without NVRAM; one like it is built as a test.
  networks @7 :List(T.NetworkPair);  # From VM networks of the source to networks of this host.
  vmName @8 :Text;
}

struct ReplicaPrepared {
  item @0 :Text;
  endpoint @1 :Text;
  publicKey @2 :Text;
}

struct RemoveReplica {
  item @0 :Text;
  keepVm @1 :Bool;            # A committed failover leaves the running VM alone.
  vm @2 :Text;                # Ids as the target agent's core has them ...
  testVm @3 :Text;
}

struct ReplicaRemoved {
  item @0 :Text;
}

struct VerifyPoint {
  item @0 :Text;
  seq @1 :UInt64;
  digest @2 :Text;
  since @3 :UInt64;           # A point that was verified: what came later is read; 0: all is.
}

struct PointVerified {
  item @0 :Text;
  seq @1 :UInt64;
  digest @2 :Text;
}

struct PromoteReplica {       # Makes the epoch durable: no delta of an older one is taken any more.
  item @0 :Text;
  epoch @1 :UInt64;
}

struct ReplicaPromoted {
  item @0 :Text;
  epoch @1 :UInt64;
}

struct DemoteReplica {        # Undo of PromoteReplica, before the replica ever started.
  item @0 :Text;
  epoch @1 :UInt64;
}

struct ReplicaDemoted {
  item @0 :Text;
}

struct StartReplica {
  item @0 :Text;
  epoch @1 :UInt64;
  seq @2 :UInt64;             # 0 = newest.
  vmName @3 :Text;
  nics @4 :List(T.Nic);       # Networks are names on the target host.
  vm @5 :Text;                # Id of the VM to create; chosen by the target agent's core.
}

struct ReplicaStarted {
  item @0 :Text;
  vm @1 :Text;
  seq @2 :UInt64;
}

struct DetachReplica {        # Makes the running replica independent of the recovery point's view.
  item @0 :Text;
  vm @1 :Text;                # Filled in by the target agent's core, here and below.
}

struct ReplicaDetached {
  item @0 :Text;
}

struct CommitReplica {        # The VM becomes the operator's own; the replica goes, now or later.
  item @0 :Text;
  vm @1 :Text;
  keepHours @2 :UInt32;       # The replica stays this long; 0: not at all.
}

struct ReplicaCommitted {
  item @0 :Text;
  vm @1 :Text;                # As its host knows it now that it is no longer ours.
  keptUntil @2 :Int64;        # 0: the replica is gone.
}

struct StartTestVm {
  item @0 :Text;
  seq @1 :UInt64;             # 0 = newest.
  vmName @2 :Text;
  network @3 :Text;           # On the target host; empty = isolated.
  vm @4 :Text;                # Id of the VM to create; chosen by the target agent's core.
}

struct TestVmStarted {
  item @0 :Text;
  vm @1 :Text;
  seq @2 :UInt64;
  capturedAt @3 :Int64;
  bootMillis @4 :UInt64;      # From the request to the running VM.
}

struct ProveReplica {         # Builds the VM for a test, and removes it.
  item @0 :Text;
  seq @1 :UInt64;             # 0 = newest.
  vmName @2 :Text;
  nics @3 :List(T.Nic);       # Networks are names on the target host; empty: as configured.
  planOnly @4 :Bool;          # Only says how it would be built.
}

struct ReplicaProven {
  item @0 :Text;
  seq @1 :UInt64;
  plan @2 :List(T.PlanRow);
}

struct AwaitLife {            # Waits until the VM made from a point shows a sign of life.
  item @0 :Text;
  seconds @1 :UInt32;         # No longer than this.
  vm @2 :Text;                # Filled in by the target agent's core.
}

struct LifeSeen {
  item @0 :Text;
  sign @1 :Text;              # "the guest agent answers"; empty: none within the limit.
}

struct RetryReplication {     # The next cycle begins now, whatever the retry ladder says.
  item @0 :Text;
  compare @1 :Bool;           # A resynchronisation: every block is compared with the replica's.
}

struct ReplicationRetried {
  item @0 :Text;
}

struct RemoveTestVm {
  item @0 :Text;
  vm @1 :Text;
}

struct TestVmRemoved {
  item @0 :Text;
}

struct ListPoints {
  item @0 :Text;
}

struct Points {
  item @0 :Text;
  points @1 :List(T.RecoveryPoint);
}

# ---- Reports ----

struct HostReport {
  host @0 :T.HostState;
  vms @1 :List(T.Vm);
}

struct StatusReport {
  statuses @0 :List(T.ReplicationStatus);
}

struct ReplicaStatus {
  # What a target agent knows of a replica it keeps.
  item @0 :Text;
  epoch @1 :UInt64;
  newest @2 :T.RecoveryPoint;
  oldest @3 :T.RecoveryPoint;
  points @4 :UInt64;
  journalBytes @5 :UInt64;
  baseBytes @6 :UInt64;
  fault @7 :T.Fault $Plain.optional;
  settings @8 :Text;          # Digest of the ItemSettings the agent works by.
  scrubbedAt @9 :Int64;       # End of the last whole pass over base and journal; 0 = none yet.
  scrubMismatches @10 :UInt64;  # Blocks that did not match their hash, ever.
  provenAt @11 :Int64;        # When a VM was last built from its newest point for a test; 0: never.
  proofFault @12 :T.Fault $Plain.optional;  # Why that failed: a failover would, too.
  faults @13 :List(T.Fault);  # What of its upkeep does not work, each on its own.
  warnings @14 :List(T.Fault);  # What does, but not as it should.
  damaged @15 :UInt64;        # Stored blocks known as damaged that a recovery point needs.
  keptUntil @16 :Int64;       # The failover was committed, and the replica stays until then.
}

struct ReplicaReport {
  replicas @0 :List(ReplicaStatus);
}

struct ItemSettings {
  # What the vault wants an agent to know of an item; sent as long as the agent's reports show the
  # digest of other settings.  Texts that are empty stay as they are.
  item @0 :Text;
  epoch @1 :UInt64;           # Settings of an older epoch than the agent's are ignored.
  digest @2 :Text;
  policy @3 :T.Policy;
  peerKey @4 :Text;           # Of the other side's data plane ...
  peerEndpoint @5 :Text;      # ... and, for a source, where that is.
  peerRevoked @6 :Bool;       # Neither send to it nor take from it.
  ended @7 :Bool;             # The item is not protected from here any more: end replication.
  paused @8 :Bool;            # By an operator: no new points until it is resumed.
  disks @9 :List(T.ReplicaDisk);  # To a target: what points may consist of from now on.
  vmName @10 :Text;           # To a target: what a VM built for a test stands for ...
  networks @11 :List(T.NetworkPair);  # ... and the networks of its host that it would be on.
}

# ---- Jobs of the agent's own workers (never on the wire) ----

struct ObserveHost {}

struct EnforceFences {}

struct FencesEnforced {
  stopped @0 :List(Text);
}

struct Reconcile {
  keepVms @0 :List(Text);
  replicas @1 :List(ReplicaItem);
}

struct Reconciled {           # Sources are let in and views served.
  platformFault @0 :T.Fault $Plain.optional;  # Why the host is not in order yet; tried again.
}

struct RunCycle {
  source @0 :SourceItem;
  attempt @1 :Text;           # Token of the point to take.
  final @2 :Bool;             # VM is shut down: only the last delta is read.
  digest @3 :Bool;            # Also return the digest of its disks.
}

struct CancelCycle {
  item @0 :Text;
  attempt @1 :Text;           # The cycle that is to end, begun or still queued.
}

struct CycleCancelled {}

struct CycleDone {
  item @0 :Text;
  point @1 :T.RecoveryPoint;
  token @2 :Text;
  guestBytes @3 :UInt64;
  wireBytes @4 :UInt64;
  resynced @5 :Bool;
  fullCopy @6 :Bool;
  digest @7 :Text;
  millis @8 :UInt64;
  capturedAt @9 :Int64;       # By this host's clock.
}

struct MaintainReplica {      # Retention, consolidation and a slice of scrub, in the background.
  replica @0 :ReplicaItem;
}

struct ReplicaMaintained {
  status @0 :ReplicaStatus;
  scrubCursor @1 :Text;
  provenDefinition @2 :Text;
}

# ---- Stored ----

struct SourceItem {
  item @0 :Text;
  vm @1 :Text;
  epoch @2 :UInt64;
  policy @3 :T.Policy;
  endpoint @4 :Text;
  targetKey @5 :Text;
  token @6 :Text;             # Change tracking since the newest durable point; empty: none.
  attempt @7 :Text;           # Token of an attempt whose outcome is not known.
  status @8 :T.ReplicationStatus;
  stopped @9 :Bool;           # The VM is (being) shut down: only FinalSync runs.
  attempts @10 :UInt64;       # Numbers the tokens.
  failures @11 :UInt32;       # In a row; picks the delay from the retry ladder.
  resync @12 :Bool;           # Tracking was lost: the next cycle compares hashes.
  startedAt @13 :Int64;
  appAt @14 :Int64;           # When the newest app-consistent point was captured; 0 = none.
  peerRevoked @15 :Bool;
  paused @16 :Bool;           # By an operator.
}

struct ReplicaItem {
  item @0 :Text;
  vm @1 :T.Vm;
  epoch @2 :UInt64;
  storagePath @3 :Text;
  sourceKey @4 :Text;
  policy @5 :T.Policy;
  promoted @6 :Bool;          # Takes no more deltas.
  replicaVm @7 :Text;
  testVm @8 :Text;
  testSeq @9 :UInt64;
  committed @10 :Bool;
  peerRevoked @11 :Bool;
  settings @12 :Text;         # Digest of the ItemSettings it works by.
  scrubCursor @13 :Text;      # Where the pass under way stands; empty: none is.
  scrubbedAt @14 :Int64;      # End of the last whole pass; 0 = none yet.
  scrubMismatches @15 :UInt64;
  disks @16 :List(T.ReplicaDisk);  # What points may consist of: the vault's newest order.
  networks @17 :List(T.NetworkPair);  # From VM networks of the source to networks of this host.
  vmName @18 :Text;
  provenAt @19 :Int64;
  provenDefinition @20 :Text; # Digest of the definition that was proven last.
  proofFault @21 :T.Fault $Plain.optional;
  keptUntil @22 :Int64;       # Committed: when the replica goes; 0: it is gone.
}
