@0xd1c9a1f0b7e38001;
# What the replica store keeps in its index, next to the block entries (whose fixed layout is in
# services/agent/replica_store/layout.h).

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("farside::wire");
using Types = import "types.capnp";

struct StoredReplica {
  item @0 :Text;
  disks @1 :List(Types.ReplicaDisk);   # All there ever were, at their largest, by their number.
  epoch @2 :UInt64;
  cycle @3 :Text;                      # Of the delta under way; empty: none.
  cycleEpoch @4 :UInt64;
  cycleBytes @5 :UInt64;               # Stored payload of the delta under way, so far.
  rewindTo @6 :UInt64;                 # Everything later is being erased; 0 = nothing is.
  bases @7 :List(Text);                # Names of the base disks, in the same order.
  hashKey @8 :Data;                    # Of the hashes of its blocks (replica_store/block_hash.h).
  baseIsExact @9 :Bool;                # The bases hold zeros where the first delta has no data.
}

struct PointDisk {
  number @0 :UInt16;                   # In StoredReplica.disks.
  disk @1 :Types.ReplicaDisk;          # Name, size and identity as of the point.
}

struct StoredShape {
  # What points consist of, kept by content: a new one is stored only when it changed.
  disks @0 :List(PointDisk);
  definition @1 :Text;                 # SHA-256 of the file in definitions/; empty: none.
}

struct StoredPoint {
  point @0 :Types.RecoveryPoint;
  attempt @1 :Text;                    # By which a source recognises that its ack was lost.
  blocks @2 :UInt64;
  shape @3 :UInt32;                    # Number of its StoredShape.
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

struct DiskSum {
  disk @0 :UInt16;                     # Its number.
  high @1 :UInt64;
  low @2 :UInt64;
}

struct StoredVerified {
  # The last point whose every byte was read, and the sums of its disks.
  seq @0 :UInt64;
  attempt @1 :Text;                    # Of that point: numbers are used again after a rewind.
  sums @2 :List(DiskSum);
}
