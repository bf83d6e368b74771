@0xd1c9a1f0b7e38001;
# What the replica store keeps in its index, next to the block entries (whose fixed layout is in
# services/agent/replica_store/layout.h).

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("farside::wire");
using Types = import "types.capnp";

struct StoredReplica {
  item @0 :Text;
  disks @1 :List(Types.ReplicaDisk);   # In the order of their numbers in the index.
  epoch @2 :UInt64;
  cycle @3 :Text;                      # Of the delta under way; empty: none.
  cycleEpoch @4 :UInt64;
  cycleBytes @5 :UInt64;               # Stored payload of the delta under way, so far.
  rewindTo @6 :UInt64;                 # Everything later is being erased; 0 = nothing is.
}

struct StoredPoint {
  point @0 :Types.RecoveryPoint;
  attempt @1 :Text;                    # By which a source recognises that its ack was lost.
  blocks @2 :UInt64;
}

struct StoredSegment {
  liveRecords @0 :UInt64;              # That an index entry names.
  liveBytes @1 :UInt64;
  bytes @2 :UInt64;
}

struct StoredPin {
  seq @0 :UInt64;
  lastSegment @1 :UInt32;              # Segments up to this one stay until the pin is gone.
}
