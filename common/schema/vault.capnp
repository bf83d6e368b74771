@0xd1c9a1f0b7e35001;
# What the vault stores, and REST requests as its core sees them.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("farside::wire");
using Plain = import "annotations.capnp";
using T = import "types.capnp";

using C = import "control.capnp";

struct HttpRequest {
  method @0 :Text;
  path @1 :Text;              # Still percent-encoded.
  query @2 :Text;
  authorization @3 :Text $Plain.secret;
  clientRequestId @4 :Text;
  body @5 :Text;
  host @6 :Text;              # The Host header: how the client reached us.
}

struct HttpHeader {
  name @0 :Text;
  value @1 :Text;
}

struct HttpResponse {
  status @0 :UInt32;
  headers @1 :List(HttpHeader);
  body @2 :Text;
}

struct Identity {
  peer @0 :T.Peer;
  name @1 :Text;
  registeredAt @2 :Int64;
  version @3 :Text;
  nextKey @4 :Text;           # Takes the place of the peer's once it is seen; empty: none.
  rotatedAt @5 :Int64;        # When that was agreed on.
  earlierKeys @6 :List(Text); # Since it registered: who revokes one of them means this identity.
}

struct CloudPair {            # Protection container mapping.
  name @0 :Text;
  sourceSite @1 :Text;
  sourceCloud @2 :Text;
  targetSite @3 :Text;
  targetCloud @4 :Text;
  policy @5 :Text;
}

struct NetworkMapping {
  name @0 :Text;
  sourceSite @1 :Text;
  sourceNetwork @2 :Text;
  targetSite @3 :Text;
  targetNetwork @4 :Text;
}

struct StorageMapping {       # Of storage classifications.
  name @0 :Text;
  sourceSite @1 :Text;
  sourceClass @2 :Text;
  targetSite @3 :Text;
  targetClass @4 :Text;
}

struct RevokedKey {           # The key an agent had when it was revoked.
  principal @0 :Text;
  publicKey @1 :Text;         # Empty: not known.
  untold @2 :Bool;            # Its provider has not confirmed that it lets it in no more.
}

struct ProtectedItem {
  id @0 :Text;
  vm @1 :Text;
  vmName @2 :Text;
  sourceSite @3 :Text;
  sourceCloud @4 :Text;
  sourceAgent @5 :Text;
  targetSite @6 :Text;
  targetCloud @7 :Text;
  targetAgent @8 :Text;
  policy @9 :Text;
  pair @10 :Text;
  state @11 :C.ItemState;
  epoch @12 :UInt64;
  activeLocation @13 :Text;   # Primary or Recovery
  replicaVm @14 :Text;
  testVm @15 :Text;
  testSeq @16 :UInt64;
  job @17 :Text;              # Running now; empty = none.
  createdAt @18 :Int64;
  drilledAt @19 :Int64;
  failedOverAt @20 :Int64;
  notes @21 :Text;
  drillBootMillis @22 :UInt64;
  failoverSeq @23 :UInt64;
  name @24 :Text;             # In its REST path, unique in its source cloud.
  pausedAt @25 :Int64;        # By an operator; 0 = replication goes on.
  drillSign @26 :Text;        # Of the newest drill; empty: it did not show that it lives.
}

struct JobRecord {
  flow @0 :import "flow.capnp".FlowRecord;
  vmName @1 :Text;
  itemPath @2 :Text;          # ARM id of the target object.
  accepted @3 :Bool;          # The orchestrator has it.
  input @4 :Data;             # StartWorkflow, to be sent again until it does.
  site @5 :Text;
}

