@0xd1c9a1f0b7e31001;
# Things that more than one service speaks about.  Schemas only grow: never renumber or reuse.
# Ids are texts (UUIDs, or names an operator chose); times are microseconds since 1970 UTC.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("farside::wire");
using Plain = import "annotations.capnp";

enum Role {
  nobody @0;
  vault @1;
  orchestrator @2;
  provider @3;
  agent @4;
  registrant @5;  # May send Register and nothing else.
}

struct Peer {
  # An identity as others are told of it.
  principal @0 :Text;   # "vault", "orchestrator", "provider/<site>", "agent/<site>/<host>"
  role @1 :Role;
  publicKey @2 :Text;   # Z85, 40 characters.
  endpoint @3 :Text;    # "tcp://host:port" where it listens; empty: it only dials out.
  revoked @4 :Bool;
  site @5 :Text;
}

enum PowerState { unknown @0; running @1; off @2; paused @3; }

struct Disk {
  name @0 :Text;      # Target device on the VM: "vda".
  bytes @1 :UInt64;
  path @2 :Text;      # On its host.
  format @3 :Text;    # qcow2, raw, vhdx
  id @4 :Text;        # Whose content it is, whatever it is called: "serial:X", "wwn:X", "file:X".
}

struct Nic {
  mac @0 :Text;
  network @1 :Text;   # Name of the VM network; "" = not connected.
  address @2 :Text;   # Static IPv4/IPv6 address if known.
}

struct NetworkPair {
  source @0 :Text;            # Name of a VM network at the source site.
  target @1 :Text;            # What stands for it at the target.
}

struct Vm {
  id @0 :Text;
  name @1 :Text;
  state @2 :PowerState;
  memoryMib @3 :UInt32;
  processors @4 :UInt32;
  generation @5 :UInt32;      # 1 = BIOS, 2 = UEFI.
  disks @6 :List(Disk);
  nics @7 :List(Nic);
  osType @8 :Text;
  bootKernel @9 :Text;        # Direct kernel boot (libvirt), else empty.
  bootInitrd @10 :Text;
  bootCommandLine @11 :Text;
  problem @12 :Text;          # Why it cannot be protected; empty = it can.
  isReplica @13 :Bool;        # Created by Farside on this host.
  isTest @14 :Bool;
  fenced @15 :Bool;           # Must not start here: its active side is elsewhere ...
  activeAt @16 :Text;         # ... where, in words for people; empty: not known.
}

struct VmDefinition {
  # A VM as it was at one instant: what a target makes one like it from.  Nothing in it names
  # anything on the target's host.
  platform @0 :Text;          # Whose language `text` is: libvirt, hyperv, sim.
  shape @1 :Vm;               # What every platform understands; without state and problem.
  text @2 :Text;              # The platform's own description, whole; empty: `shape` is all.
  firmware @3 :List(Text);    # Features of its UEFI firmware: "secure-boot", "enrolled-keys", ...
  nvram @4 :Data;             # UEFI variables as of that instant; empty: none.
}

struct PlanRow {
  # One line of how a VM will be made at the target.
  what @0 :Text;              # "memory", "disk vda", "network card 52:54:...".
  rule @1 :PlanRule;
  source @2 :Text;
  target @3 :Text;
  note @4 :Text;              # Why, where it differs.
}

enum PlanRule { kept @0; mapped @1; dropped @2; }

struct StoragePath {
  path @0 :Text;
  totalBytes @1 :UInt64;
  freeBytes @2 :UInt64;
}

struct HostState {
  name @0 :Text;
  platform @1 :Text;          # libvirt, hyperv, sim
  platformVersion @2 :Text;
  agentVersion @3 :Text;
  processors @4 :UInt32;
  memoryMib @5 :UInt64;
  memoryFreeMib @6 :UInt64;
  networks @7 :List(Text);    # Host networks (libvirt networks, virtual switches) that exist.
  storage @8 :List(StoragePath);
  dataEndpoint @9 :Text;      # tcp://host:8084
  publicKey @10 :Text;
  problem @11 :Text;          # What is wrong there for everything on it; empty: nothing.
  troubles @12 :List(VmTrouble);
}

enum VmTroubleKind {
  unclean @0;      # Something of ours is open on it that should not be, and could not be ended.
  stray @1;        # It is fenced and was found running.
}

struct VmTrouble {
  # What an operator has to know of one VM of a host, whatever its replication does.
  vm @0 :Text;
  kind @1 :VmTroubleKind;
  what @2 :Text;
  at @3 :Int64;               # When it was last seen.
}

struct Subnet {
  name @0 :Text;
  cidr @1 :Text;
  vlan @2 :UInt32;
  poolFrom @3 :Text;
  poolTo @4 :Text;
}

struct Network {
  name @0 :Text;
  logicalNetwork @1 :Text;
  hostNetwork @2 :Text;       # Its name on the hosts.
  subnets @3 :List(Subnet);
}

struct StorageClass {
  name @0 :Text;
  path @1 :Text;
}

struct HostGroup {
  name @0 :Text;
  hosts @1 :List(Text);
}

struct Cloud {
  name @0 :Text;
  hostGroups @1 :List(Text);
  networks @2 :List(Text);
}

struct HostEntry {
  host @0 :HostState;
  principal @1 :Text;         # "agent/<site>/<host>"
  connected @2 :Bool;
  silentSince @3 :Int64;      # Micros; 0 while connected.
  vms @4 :List(Vm);
}

struct Inventory {
  site @0 :Text;
  clouds @1 :List(Cloud);
  hostGroups @2 :List(HostGroup);
  networks @3 :List(Network);
  storage @4 :List(StorageClass);
  hosts @5 :List(HostEntry);
}

struct Policy {
  name @0 :Text;
  frequencySeconds @1 :UInt32;        # 1..900
  retentionHours @2 :UInt32;          # 0..24 (original) up to 720
  everyPointHours @3 :UInt32;         # Every point is kept this long, then hourly ones.
  appConsistentHours @4 :UInt32;      # 0 = never, else 1..12
  compression @5 :Bool;
  port @6 :UInt32;
  deleteReplica @7 :Bool;             # Remove the replica VM when protection is disabled.
  bandwidthKbps @8 :UInt32;           # 0 = no limit.
  initialMethod @9 :Text;             # OverNetwork
  journalGibMax @10 :UInt32;          # 0 = as much as the volume holds.
  floorHours @11 :UInt32 = 4;         # Points younger than this never go for journalGibMax.
  keepHours @12 :UInt32 = 24;         # The replica stays this long after a failover was committed.
}

struct RecoveryPoint {
  seq @0 :UInt64;             # Grows by one with each delta of the item.
  capturedAt @1 :Int64;       # By the source's clock; arrivedAt where that cannot be.
  appConsistent @2 :Bool;
  bytes @3 :UInt64;           # Stored payload of its delta.
  epoch @4 :UInt64;
  arrivedAt @5 :Int64;        # When it became durable, by the target's clock: retention counts it.
  claimedAt @6 :Int64;        # What the source said of capturedAt if that cannot be; 0: it can.
}

struct ReplicaDisk {
  name @0 :Text;
  bytes @1 :UInt64;
  id @2 :Text;                # See Disk.id; empty: known by its name alone.
}

struct Fault {
  code @0 :UInt16;            # farside::ErrorCode
  what @1 :Text;
  advice @2 :Text;
}

enum Health { unknown @0; normal @1; warning @2; critical @3; }

enum ReplicationPhase {
  idle @0;
  initial @1;
  delta @2;
  resync @3;
  waiting @4;      # For the next cycle.
  paused @5;       # A recoverable error; retries by itself.
  failed @6;       # Needs an operator.
  stopped @7;      # Source is shut down or fenced.
}

struct ReplicationStatus {
  # What a source agent knows of an item it replicates.
  item @0 :Text;
  epoch @1 :UInt64;
  phase @2 :ReplicationPhase;
  health @3 :Health;
  newest @4 :RecoveryPoint;     # Newest durable point; seq 0 = none yet.
  bytesDone @5 :UInt64;         # Of the delta under way ...
  bytesTotal @6 :UInt64;        # ... in guest bytes.
  wireBytesTotal @7 :UInt64;    # Since protection was enabled.
  changedBytesTotal @8 :UInt64;
  fault @9 :Fault $Plain.optional;
  retryAt @10 :Int64;           # 0 = none.
  resyncs @11 :UInt64;
  fullCopies @12 :UInt64;
  initialSeconds @13 :Float64;
  cycles @14 :UInt64;
  settings @15 :Text;         # Digest of the ItemSettings the agent works by.
  paused @16 :Bool;           # By an operator.
  newestHere @17 :Int64;      # When `newest` was captured by the source's clock, whatever it is.
}
