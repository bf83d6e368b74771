#include "services/agent/platforms/libvirt/proof.h"

#include <fmt/core.h>
#include <libvirt/virterror.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <system_error>

#include "common/base/file.h"
#include "common/base/log.h"
#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/libvirt/host_memory.h"
#include "services/agent/platforms/libvirt/power.h"
#include "services/agent/platforms/libvirt/program.h"

namespace farside::agent::libvirt {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kUndefineFlags =
    VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_NVRAM;

// The VM of this host that `handle` names, if it is not one that we made of the same item.
Result<std::string> foreign_name(virDomainPtr handle, const NewVm& vm, const Networks& networks) {
  const std::string xml = take_text(virDomainGetXMLDesc(handle, VIR_DOMAIN_XML_INACTIVE));
  if (xml.empty()) return libvirt_error("describe a VM");
  FARSIDE_ASSIGN(const auto shape, read_domain(xml, networks));
  if (shape.is_ours && shape.item_id == vm.item_id) return std::string();
  return shape.vm.name;
}

Status check_names(const ProofPlace& place, const NewVm& vm) {
  const DomainHandle same_id(virDomainLookupByUUIDString(place.connection, vm.id.c_str()));
  if (!same_id && libvirt_error_number() != VIR_ERR_NO_DOMAIN) {
    return libvirt_error("look for VM " + vm.id);
  }
  if (same_id) {
    FARSIDE_ASSIGN(const std::string name, foreign_name(same_id.get(), vm, place.networks));
    if (!name.empty()) {
      return fail(ErrorCode::kAlreadyExists,
                  fmt::format("VM '{}' of this host already has the id {} that VM '{}' needs", name,
                              vm.id, vm.shape.name),
                  "remove that VM, or give it another id");
    }
  }
  const DomainHandle same_name(virDomainLookupByName(place.connection, vm.shape.name.c_str()));
  if (!same_name && libvirt_error_number() != VIR_ERR_NO_DOMAIN) {
    return libvirt_error(fmt::format("look for VM '{}'", vm.shape.name));
  }
  if (!same_name) return {};
  FARSIDE_ASSIGN(const std::string name, foreign_name(same_name.get(), vm, place.networks));
  if (name.empty()) return {};
  return fail(ErrorCode::kAlreadyExists,
              fmt::format("this host already has another VM with the name '{}'", name),
              "rename or remove that VM");
}

Status check_storage(const NewVm& vm) {
  for (const NewDisk& disk : vm.disks) {
    fs::path folder = fs::path(disk.overlay_path).parent_path();
    std::error_code error;
    while (!folder.empty() && !fs::exists(folder, error) && folder != folder.parent_path()) {
      folder = folder.parent_path();
    }
    if (::access(folder.c_str(), W_OK) == 0) continue;
    return fail(ErrorCode::kForbidden,
                fmt::format("disk {} of VM '{}' cannot be put into {}: {}", disk.name,
                            vm.shape.name, folder.string(), std::generic_category().message(errno)),
                "let the agent write there");
  }
  return {};
}

Status create_blank(const NewDisk& disk) {
  FARSIDE_ASSIGN(const auto made, run_program({"qemu-img", "create", "-q", "-f", "qcow2",
                                               disk.overlay_path, std::to_string(disk.bytes)},
                                              std::chrono::seconds(30)));
  if (made.exit_code == 0) return {};
  return fail(ErrorCode::kPlatform, fmt::format("create {}: {}", disk.overlay_path, made.output));
}

// Takes away the domain of a proof, if it is one.
Status remove_domain(const ProofPlace& place, const std::string& proof_id) {
  const DomainHandle domain(virDomainLookupByUUIDString(place.connection, proof_id.c_str()));
  if (!domain) {
    if (libvirt_error_number() == VIR_ERR_NO_DOMAIN) return {};
    return libvirt_error("look for VM " + proof_id);
  }
  const std::string xml = take_text(virDomainGetXMLDesc(domain.get(), VIR_DOMAIN_XML_INACTIVE));
  if (xml.empty()) return libvirt_error("describe a VM");
  FARSIDE_ASSIGN(const auto shape, read_domain(xml, place.networks));
  if (!shape.is_ours || !shape.vm.is_test) {
    return fail(ErrorCode::kForbidden, fmt::format("VM '{}' is no proof of ours", shape.vm.name));
  }
  FARSIDE_TRY(turn_off(domain.get()));
  if (virDomainUndefineFlags(domain.get(), kUndefineFlags) != 0 &&
      libvirt_error_number() != VIR_ERR_NO_DOMAIN) {
    return libvirt_error(fmt::format("remove VM '{}'", shape.vm.name));
  }
  return {};
}

Status build(const ProofPlace& place, const NewVm& proof) {
  FARSIDE_ASSIGN(const auto made, make_domain(proof, place.networks, place.host));
  for (const NewDisk& disk : proof.disks) FARSIDE_TRY(create_blank(disk));
  if (!made.nvram.empty()) FARSIDE_TRY(replace_file(made.nvram_path, made.nvram));
  const DomainHandle domain(virDomainDefineXML(place.connection, made.xml.c_str()));
  if (!domain) return libvirt_error("define it");
  FARSIDE_TRY(check_memory(place.connection, domain.get()));
  return turn_on(domain.get(), VIR_DOMAIN_START_PAUSED);
}

NewVm proof_of(const NewVm& vm, const std::string& proof_id, const std::string& folder) {
  NewVm proof = vm;
  proof.id = proof_id;
  proof.shape.id = proof_id;
  proof.shape.name += " - Proof";
  proof.is_test = true;
  std::size_t number = 0;
  for (NewDisk& disk : proof.disks) {
    disk.overlay_path = fmt::format("{}/{}.qcow2", folder, number++);
    disk.nbd_socket.clear();
    disk.delta = nullptr;
  }
  return proof;
}

}  // namespace

Status prove_vm(const ProofPlace& place, const NewVm& vm, const std::string& proof_id) {
  FARSIDE_TRY(check_names(place, vm));
  FARSIDE_TRY(make_domain(vm, place.networks, place.host));
  FARSIDE_TRY(check_storage(vm));

  FARSIDE_TRY(remove_domain(place, proof_id));
  std::error_code error;
  fs::remove_all(place.folder, error);
  FARSIDE_TRY(place.make_folder(place.folder));
  ProofPlace own = place;
  own.host.serial_log = place.folder + "/serial.log";
  Status built = build(own, proof_of(vm, proof_id, place.folder));
  const Status removed = remove_domain(place, proof_id);
  fs::remove_all(place.folder, error);
  if (!removed) log::error("proof_left", {{"vm", proof_id}, {"error", removed.error()}});
  if (!built) {
    Error reason = built.error();
    if (reason.advice.empty()) {
      reason.advice =
          "change what it complains of at the source, or give the target host what is missing";
    }
    return fail(std::move(reason));
  }
  return removed;
}

}  // namespace farside::agent::libvirt
