@0xd1c9a1f0b7e36001;
# One control-plane frame.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("farside::wire");
using Plain = import "annotations.capnp";
using T = import "types.capnp";

using A = import "agent.capnp";
using C = import "control.capnp";
using V = import "vault.capnp";

struct Envelope {
  id @0 :Text;        # Of the request; its reply carries the same.  Empty: a report, unanswered.
  from @1 :Text;      # Principals; a provider passes on what is not for itself.
  to @2 :Text;
  reply @3 :Bool;
  body @4 :Message;
}

struct Message {
  union {
    register @0 :C.Register;
    registered @1 :C.Registered;
    peersChanged @2 :C.PeersChanged;
    inventoryReport @3 :C.InventoryReport;
    startWorkflow @4 :C.StartWorkflow;
    workflowAccepted @5 :C.WorkflowAccepted;
    cancelWorkflow @6 :C.CancelWorkflow;
    workflowCancelling @7 :C.WorkflowCancelling;
    restartWorkflow @8 :C.RestartWorkflow;
    jobChanged @9 :C.JobChanged;
    jobNoted @10 :C.JobNoted;
    recordItem @11 :C.RecordItem;
    itemRecorded @12 :C.ItemRecorded;
    placeReplica @13 :C.PlaceReplica;
    replicaPlaced @14 :C.ReplicaPlaced;
    releasePlacement @15 :C.ReleasePlacement;
    placementReleased @16 :C.PlacementReleased;
    resolveNetworks @17 :C.ResolveNetworks;
    networksResolved @18 :C.NetworksResolved;
    refused @19 :C.Refused;
    progress @20 :C.Progress;
    readSite @21 :C.ReadSite;
    siteRead @22 :C.SiteRead;
    checkSource @23 :A.CheckSource;
    sourceChecked @24 :A.SourceChecked;
    startReplication @25 :A.StartReplication;
    replicationStarted @26 :A.ReplicationStarted;
    awaitInitial @27 :A.AwaitInitial;
    initialDone @28 :A.InitialDone;
    stopReplication @29 :A.StopReplication;
    replicationStopped @30 :A.ReplicationStopped;
    shutDownSource @31 :A.ShutDownSource;
    sourceShutDown @32 :A.SourceShutDown;
    restartSource @33 :A.RestartSource;
    sourceRestarted @34 :A.SourceRestarted;
    finalSync @35 :A.FinalSync;
    finalSynced @36 :A.FinalSynced;
    fenceSource @37 :A.FenceSource;
    sourceFenced @38 :A.SourceFenced;
    unfenceSource @39 :A.UnfenceSource;
    sourceUnfenced @40 :A.SourceUnfenced;
    prepareReplica @41 :A.PrepareReplica;
    replicaPrepared @42 :A.ReplicaPrepared;
    removeReplica @43 :A.RemoveReplica;
    replicaRemoved @44 :A.ReplicaRemoved;
    verifyPoint @45 :A.VerifyPoint;
    pointVerified @46 :A.PointVerified;
    promoteReplica @47 :A.PromoteReplica;
    replicaPromoted @48 :A.ReplicaPromoted;
    demoteReplica @49 :A.DemoteReplica;
    replicaDemoted @50 :A.ReplicaDemoted;
    startReplica @51 :A.StartReplica;
    replicaStarted @52 :A.ReplicaStarted;
    detachReplica @53 :A.DetachReplica;
    replicaDetached @54 :A.ReplicaDetached;
    commitReplica @55 :A.CommitReplica;
    replicaCommitted @56 :A.ReplicaCommitted;
    startTestVm @57 :A.StartTestVm;
    testVmStarted @58 :A.TestVmStarted;
    removeTestVm @59 :A.RemoveTestVm;
    testVmRemoved @60 :A.TestVmRemoved;
    listPoints @61 :A.ListPoints;
    points @62 :A.Points;
    hostReport @63 :A.HostReport;
    statusReport @64 :A.StatusReport;
    replicaReport @65 :A.ReplicaReport;
    observeHost @66 :A.ObserveHost;
    enforceFences @67 :A.EnforceFences;
    fencesEnforced @68 :A.FencesEnforced;
    reconcile @69 :A.Reconcile;
    reconciled @70 :A.Reconciled;
    runCycle @71 :A.RunCycle;
    cycleDone @72 :A.CycleDone;
    maintainReplica @73 :A.MaintainReplica;
    replicaMaintained @74 :A.ReplicaMaintained;
    httpRequest @75 :V.HttpRequest;
    httpResponse @76 :V.HttpResponse;
    issueToken @77 :C.IssueToken;
    tokenIssued @78 :C.TokenIssued;
    revokeAgent @79 :C.RevokeAgent;
    agentRevoked @80 :C.AgentRevoked;
    itemSettings @81 :A.ItemSettings;
    cancelCycle @82 :A.CancelCycle;
    cycleCancelled @83 :A.CycleCancelled;
    proveReplica @84 :A.ProveReplica;
    replicaProven @85 :A.ReplicaProven;
    awaitLife @86 :A.AwaitLife;
    lifeSeen @87 :A.LifeSeen;
    retryReplication @88 :A.RetryReplication;
    replicationRetried @89 :A.ReplicationRetried;
    syncSource @90 :A.SyncSource;
    sourceSynced @91 :A.SourceSynced;
    rotateKey @92 :C.RotateKey;
    keyRotated @93 :C.KeyRotated;
    rotateIdentity @94 :C.RotateIdentity;
    rotationBegun @95 :C.RotationBegun;
  }
}
