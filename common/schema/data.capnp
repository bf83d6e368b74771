@0xd1c9a1f0b7e39001;
# The data plane: agent to agent, one session per delta.  A frame is a DataFrame, followed by raw
# payload where one is mentioned.  Disks are numbered as OpenDelta lists them.
#
#   source                                         target
#   OpenDelta ------------------------------------->
#             <------------------------------------ DeltaOpened   (credit: windowBytes)
#   PutDefinition + definition --------------------> (if the target lacks it)
#             <------------------------------------ DefinitionKept
#   UnstageBlocks + bitmap, AskStaged, AskHashes -->
#             <------------------------------------ BlocksUnstaged, StagedBlocks + bitmap,
#                                                   BlockHashes + hashes
#   BlockBatch + payload, BlockBatch + payload ---->
#             <------------------------------------ DataCredit    (as they are written)
#   FinishDelta ----------------------------------->
#             <------------------------------------ DeltaCommitted (it is durable)
#   any time: DataPing --> DataPong; <-- DeltaRefused ends the session
#
# Bulk may go beside CURVE: the source connects to `sealedPort`, names `sealedSession` and sends
# frames sealed under `sealedKey` (data_plane/bulk_dialogue.h).  The first is a DataPing, which the
# target answers, inside CURVE, with SealedReady; from then on BlockBatches may go this way.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("farside::wire");
using T = import "types.capnp";

struct DataFrame {
  union {
    open @0 :OpenDelta;
    opened @1 :DeltaOpened;
    unstage @2 :UnstageBlocks;
    unstaged @3 :BlocksUnstaged;
    askStaged @4 :AskStaged;
    staged @5 :StagedBlocks;
    askHashes @6 :AskHashes;
    hashes @7 :BlockHashes;
    blocks @8 :BlockBatch;
    credit @9 :DataCredit;
    finish @10 :FinishDelta;
    committed @11 :DeltaCommitted;
    refused @12 :DeltaRefused;
    ping @13 :DataPing;
    pong @14 :DataPong;
    sealedReady @15 :SealedReady;
    putDefinition @16 :PutDefinition;
    definitionKept @17 :DefinitionKept;
  }
}

struct OpenDelta {
  item @0 :Text;
  epoch @1 :UInt64;
  cycle @2 :Text;             # The same for all attempts at one delta.
  disks @3 :List(T.ReplicaDisk);
  compare @4 :Bool;           # A resynchronisation: blocks staged by any cycle are welcome.
  definition @5 :Text;        # Digest (SHA-256, hexadecimal) of the VM's definition; empty: none.
}

struct DeltaOpened {
  seq @0 :UInt64;
  newest @1 :T.RecoveryPoint;
  newestAttempt @2 :Text;
  stagedBlocks @3 :UInt64;
  windowBytes @4 :UInt64;     # Unacknowledged bytes the target has room for.
  sealedPort @5 :UInt16;      # 0: everything goes inside CURVE.
  sealedSession @6 :UInt64;
  sealedKey @7 :Data;         # Of this session only, from source to target.
  lacksDefinition @8 :Bool;   # PutDefinition is expected.
  hashKey @9 :Data;           # Of the replica; empty: its hashes are made without a key.
}

struct PutDefinition {}       # + an encoded VmDefinition; its digest is that of OpenDelta.

struct DefinitionKept {}

struct UnstageBlocks {        # + bitmap of `count` blocks, lowest bit first.
  disk @0 :UInt16;
  first @1 :UInt32;
  count @2 :UInt32;
}

struct BlocksUnstaged {}

struct AskStaged {
  disk @0 :UInt16;
  first @1 :UInt32;
  count @2 :UInt32;
}

struct StagedBlocks {         # + bitmap.
  disk @0 :UInt16;
  first @1 :UInt32;
}

struct AskHashes {
  disk @0 :UInt16;
  first @1 :UInt32;
  count @2 :UInt32;
}

struct BlockHashes {          # + 8 bytes each, big-endian.
  disk @0 :UInt16;
  first @1 :UInt32;
}

struct BlockHead {
  block @0 :UInt32;
  stored @1 :UInt32;          # Bytes of the payload.
  hash @2 :UInt64;            # Of the plain bytes (replica_store/block_hash.h).
  codec @3 :UInt8;            # 1 raw, 2 zstd, 3 zeros.
}

struct BlockBatch {           # + payloads, one after the other.
  disk @0 :UInt16;
  blocks @1 :List(BlockHead);
}

struct DataCredit {
  bytes @0 :UInt64;           # Given back to the source.
}

struct FinishDelta {
  blocks @0 :UInt64;          # The delta consists of.
  capturedAt @1 :Int64;
  appConsistent @2 :Bool;
  attempt @3 :Text;
}

struct DeltaCommitted {
  point @0 :T.RecoveryPoint;
}

struct DeltaRefused {
  fault @0 :T.Fault;
}

struct DataPing {}

struct DataPong {}

struct SealedReady {}

# ---- Stored by the source, one file per item ----

struct StoredPendingDisk {
  name @0 :Text;
  bytes @1 :UInt64;
  needed @2 :Data;            # Bitmaps, packed with zstd.
  stale @3 :Data;
  id @4 :Text;                # See Disk.id.
}

struct StoredPending {
  cycle @0 :Text;
  attempt @1 :Text;           # Token of the last attempt's point.
  base @2 :Text;              # Token of the point that the delta builds on; empty: on nothing.
  epoch @3 :UInt64;
  disks @4 :List(StoredPendingDisk);
}

struct HashedDisk {
  name @0 :Text;
  id @1 :Text;                # See Disk.id.
  bytes @2 :UInt64;
  sumHigh @3 :UInt64;         # Of the hashes of its blocks (replica_store/digest.h).
  sumLow @4 :UInt64;
  unknown @5 :UInt64;         # Blocks whose hash is not known.
}

struct StoredHashes {         # Head of the file with the hashes of all blocks.
  point @0 :Text;             # Token of the point that they are of, ...
  cycle @1 :Text;             # ... but for the delta under way; empty: none is, and sums hold.
  disks @2 :List(HashedDisk);
  key @3 :Data;               # DeltaOpened.hashKey.
}
