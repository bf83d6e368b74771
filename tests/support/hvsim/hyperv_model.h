// What a Hyper-V host shows of itself: its classes, a set of virtual machines and a switch, and
// those methods that change nothing but the objects.
//
// Owns: nothing; fills what it is given.
#pragma once

#include <string>

#include "tests/support/hvsim/jobs.h"

namespace farside::hvsim {

struct ModelOptions {
  std::string host = "HVSIM01";
  int vms = 2;
  bool is_german = false;  // Descriptions and captions come in the host's language.

  std::string description() const;  // Of a VM.
};

// Classes, services and the host's own system: what is there without any virtual machine.
void fill_host(Objects& objects, const ModelOptions& options);

// Name of the VM with this number, counted from 0; its ElementName is "vm-<number>".
std::string vm_guid(int number);

// The host with machines that do nothing, and a switch.
void fill_model(Objects& objects, const ModelOptions& options);
// All outlive the methods.
void add_methods(Methods& methods, Objects& objects, Jobs& jobs, Faults& faults);

}  // namespace farside::hvsim
