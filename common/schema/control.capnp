@0xd1c9a1f0b7e34001;
# What vault, orchestrator and provider say to each other.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("farside::wire");
using Plain = import "annotations.capnp";
using T = import "types.capnp";

using Flow = import "flow.capnp";

struct Register {             # With the one-time key pair of a registration key.
  secret @0 :Text $Plain.secret;
  publicKey @1 :Text;         # The permanent one.
  name @2 :Text;              # Host name of an agent; display name of a provider.
  endpoint @3 :Text;          # Where this process listens on the control plane, if it does.
  version @4 :Text;
  proof @5 :Data;             # That publicKey is the sender's: see common/shell/key_proof.h.
}

struct Registered {
  principal @0 :Text;
  site @1 :Text;
  peers @2 :List(T.Peer);     # Whom to talk to from now on.
  # Filled in by the process itself; empty: registered by an earlier release.
  publicKey @3 :Text;         # What it was admitted with ...
  joinedWith @4 :Text;        # ... by the one-time key with this public half.
}

struct RotateKey {            # Over the present key: another one takes its place.
  publicKey @0 :Text;
  proof @1 :Data;             # As in Register.
}

struct KeyRotated {           # Both keys are let in, until the new one is seen or for a day.
  publicKey @0 :Text;
}

struct PeersChanged {         # The whole list; replaces the earlier one.
  peers @0 :List(T.Peer);
}

struct RotateIdentity {       # The vault's order to do so: the process starts again for it.
  principal @0 :Text;
}

struct RotationBegun {
  publicKey @0 :Text;         # The one that is about to be replaced.
}

struct InventoryReport {
  inventory @0 :T.Inventory;
}

struct RegistrationKey {
  # Contents of a registration key file and of a join token (as TOML).
  name @0 :Text;
  role @1 :T.Role;
  site @2 :Text;
  endpoint @3 :Text;          # Of whoever made it ...
  serverKey @4 :Text;         # ... and its public key.
  issuer @5 :Text;            # Its principal.
  secret @6 :Text $Plain.secret;
  publicKey @7 :Text;         # One-time key pair, to be admitted once.
  secretKey @8 :Text $Plain.secret;
  createdAt @9 :Int64;
  expiresAt @10 :Int64;
  host @11 :Text;             # Of an agent: the only name it may register by; empty: any.
}

struct IssuedKey {            # What the issuer keeps: a hash instead of the secret.
  name @0 :Text;
  role @1 :T.Role;
  site @2 :Text;
  secretHash @3 :Text;
  publicKey @4 :Text;
  createdAt @5 :Int64;
  expiresAt @6 :Int64;
  usedAt @7 :Int64;           # 0 = not yet.
  usedBy @8 :Text;            # Public key that registered with it ...
  host @9 :Text;              # ... the only host name that it may be used for; empty: any ...
  usedAs @10 :Text;           # ... the name it was used for ...
  usedFrom @11 :Text;          # ... and where that process said it listens.
  closedAt @12 :Int64;        # Nobody is let in with it any more since then; 0 = somebody may be.
}

struct StartWorkflow {
  job @0 :Text;
  workflow @1 :Text;
  input @2 :Flow.WorkflowInput;
}

struct WorkflowAccepted {
  job @0 :Text;
}

struct CancelWorkflow {
  job @0 :Text;
}

struct WorkflowCancelling {
  job @0 :Text;
}

struct RestartWorkflow {      # Sends a flow that needs an operator on from where it stands.
  job @0 :Text;
}

struct JobChanged {
  flow @0 :Flow.FlowRecord;   # Without its state.
}

struct JobNoted {
  job @0 :Text;
  revision @1 :UInt64;
}

enum ItemState {
  enabling @0;
  initialReplication @1;
  protected @2;
  enableFailed @3;
  failingOver @4;
  commitRequired @5;          # Planned failover finished.
  committed @6;
  disabling @7;
  failoverFailed @8;
  disabled @9;
}

struct ItemChange {
  # What a workflow writes into the vault's record of an item; absent fields stay as they are.
  item @0 :Text;
  state @1 :ItemState;
  targetAgent @2 :Text $Plain.optional;
  sourceAgent @3 :Text $Plain.optional;
  replicaVm @4 :Text $Plain.optional;
  testVm @5 :Text $Plain.optional;
  testSeq @6 :UInt64;
  epoch @7 :UInt64;           # 0 = as it is.
  activeLocation @8 :Text $Plain.optional;
  drilledAt @9 :Int64;
  failedOverAt @10 :Int64;
  notes @11 :Text $Plain.optional;
  drillBootMillis @12 :UInt64;
  failoverSeq @13 :UInt64;
  drillSign @14 :Text $Plain.optional;  # What the test VM showed of its life; "" = nothing.
}

struct RecordItem {
  change @0 :ItemChange;
}

struct ItemRecorded {
  item @0 :Text;
}

struct PlaceReplica {
  item @0 :Text;
  vm @1 :T.Vm;
  cloud @2 :Text;
  networks @3 :List(Text);    # VM networks the host must reach.
  storageClass @4 :Text;      # Empty: any of the site.
}

struct ReplicaPlaced {
  item @0 :Text;
  agent @1 :Text;
  storagePath @2 :Text;
}

struct ReleasePlacement {
  item @0 :Text;
}

struct PlacementReleased {
  item @0 :Text;
}

struct ResolveNetworks {      # VM network names of a cloud -> names on a host.
  cloud @0 :Text;
  agent @1 :Text;
  networks @2 :List(Text);
}

struct NetworksResolved {
  hostNetworks @0 :List(Text);  # In the order asked.
}

struct IssueToken {           # A join token for an agent of this provider's site.
  name @0 :Text;              # Of the token.
  validHours @1 :UInt32;
  host @2 :Text;              # Host name the agent will have; empty: any.
}

struct TokenIssued {
  key @0 :RegistrationKey;
}

struct RevokeAgent {
  principal @0 :Text;
  publicKey @1 :Text;         # If it has joined with another one since, that stays; empty: any.
}

struct AgentRevoked {
  principal @0 :Text;
  publicKey @1 :Text;         # What is revoked.
}

struct Refused {
  fault @0 :T.Fault;
}

struct Progress {
  request @0 :Text;
  done @1 :UInt64;
  total @2 :UInt64;
  note @3 :Text;
}

# ---- Provider: stored, and jobs of its workers ----

struct Placement {
  item @0 :Text;
  agent @1 :Text;
  storagePath @2 :Text;
  bytes @3 :UInt64;
  memoryMib @4 :UInt64;
}

struct SiteDefinition {
  clouds @0 :List(T.Cloud);
  hostGroups @1 :List(T.HostGroup);
  networks @2 :List(T.Network);
  storage @3 :List(T.StorageClass);
}

struct ReadSite {}

struct SiteRead {
  site @0 :SiteDefinition;
}
