// What Virtual Machine Manager is asked: one PowerShell script for each kind of object.
//
// Each makes objects of its own, with the fields that site.cpp reads, so that what ConvertTo-Json
// makes of VMM's classes does not matter; arrays stay arrays also with one element or none; and all
// but ASCII is escaped, so that the host's code page does not matter.
// Not tried on a real VMM server yet: names of cmdlets and properties are those of its
// documentation (System Center 2019, module virtualmachinemanager).
#pragma once

#include <span>
#include <string>

namespace farside::provider::vmm {

struct Script {
  std::string name;  // Its first line is "# farside:NAME".
  std::string text;  // ASCII, short enough for a command line.
};

std::span<const Script> scripts();

}  // namespace farside::provider::vmm
