@0xd1c9a1f0b7e3a101;
# What an agent of a Hyper-V host remembers of the VMs it takes points of: objects on the host carry
# no marks of ours, so this is how they are told from those of others.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("farside::wire");

struct TrackedDisk {
  diskId @0 :Text;                     # Of the VHDX file, lower case, without braces.
  changeId @1 :Text;                   # Resilient change tracking counts from here.
}

struct TrackedPoint {
  token @0 :Text;
  referencePoint @1 :Text;             # InstanceID.
  disks @2 :List(TrackedDisk);
}

struct OpenCheckpoint {
  token @0 :Text;
  others @1 :List(Text);               # Checkpoints that were there before: ours is none of these.
  checkpoint @2 :Text;                 # InstanceID; empty: it was asked for, and maybe exists.
  otherPoints @3 :List(Text);          # Reference points that were there before.
}

struct StoredTracking {
  vm @0 :Text;
  open @1 :OpenCheckpoint;             # No token: none.
  points @2 :List(TrackedPoint);
  dropped @3 :List(Text);              # Reference points of ours that are to be removed.
}
