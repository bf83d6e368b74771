@0xd1c9a1f0b7e3a001;
# Every kind of thing that plainc understands, once.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("farside::wire");
using Plain = import "/common/schema/annotations.capnp";
using Types = import "/common/schema/types.capnp";

enum Colour { red @0; darkBlue @1; default @2; }

struct Leaf {
  name @0 :Text;
  weight @1 :Float64;
}

struct Empty {}

struct Everything {
  nothing @0 :Void;
  flag @1 :Bool;
  tiny @2 :Int8;
  small @3 :Int16;
  medium @4 :Int32;
  large @5 :Int64;
  utiny @6 :UInt8;
  usmall @7 :UInt16;
  umedium @8 :UInt32;
  ularge @9 :UInt64;
  half @10 :Float32;
  whole @11 :Float64;
  text @12 :Text;
  blob @13 :Data;
  colour @14 :Colour;
  leaf @15 :Leaf;
  flags @16 :List(Bool);
  numbers @17 :List(UInt64);
  texts @18 :List(Text);
  blobs @19 :List(Data);
  colours @20 :List(Colour);
  leaves @21 :List(Leaf);
  nested @22 :List(List(Text));
  maybeText @23 :Text $Plain.optional;
  maybeBlob @24 :Data $Plain.optional;
  maybeLeaf @25 :Leaf $Plain.optional;
  maybeLeaves @26 :List(Leaf) $Plain.optional;
  password @27 :Text $Plain.secret;
  class @28 :UInt32;             # A keyword of C++.
  preset @29 :Int32 = -7;
  paint @30 :Colour = darkBlue;
  role @31 :Types.Role;          # From another file.
  disk @32 :Types.Disk;
  on @33 :Bool = true;
  choice @34 :Choice;            # Declared further down.
}

struct Choice {
  union {
    leaf @0 :Leaf;
    nothing @1 :Empty;
    darkDisk @2 :Types.Disk;
  }
}

# What a later version of the software might write; read by the version above.

enum LaterColour { red @0; darkBlue @1; default @2; green @3; }

struct LaterLeaf {
  name @0 :Text;
  weight @1 :Float64;
  colour @2 :LaterColour;
  extra @3 :List(Text);
}

struct LaterChoice {
  union {
    leaf @0 :Leaf;
    nothing @1 :Empty;
    darkDisk @2 :Types.Disk;
    later @3 :LaterLeaf;
  }
}

struct Painted { colour @0 :Colour; }
struct LaterPainted { colour @0 :LaterColour; }
