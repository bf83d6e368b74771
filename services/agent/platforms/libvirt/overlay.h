// The image that a disk of a VM of ours has above its view.
#pragma once

#include "services/agent/platforms/platform.h"

namespace farside::agent::libvirt {

// Durable when it returns; one that is there already is kept.  Its folder must be there.  Errors:
// kPlatform, kIo, kNoSpace.
Status create_overlay(const NewDisk& disk);

}  // namespace farside::agent::libvirt
