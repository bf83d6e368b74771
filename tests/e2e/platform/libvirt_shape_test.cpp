// A VM is more than its blocks: real domains of many kinds, and what is made of them at a target.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/definition.h"
#include "services/agent/platforms/libvirt/program.h"
#include "services/agent/platforms/libvirt/xml.h"
#include "tests/contract/platform/libvirt_host.h"
#include "tests/contract/platform/replica.h"

namespace farside::agent {
namespace {

using libvirt::XmlDocument;
using libvirt::XmlNode;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr const char* kSource = "6b0f3f0e-0000-4000-8000-0000000000a1";
constexpr std::uint64_t kDiskBytes = 16U << 20U;

std::string file_content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

// "disk virtio vda pci 0x06": every device that has a place, with it.
std::vector<std::string> places(const XmlNode& domain) {
  std::vector<std::string> found;
  for (const XmlNode& device : domain.child("devices").elements()) {
    const XmlNode address = device.child("address");
    std::string place = device.name() + " " + device.child("model").attribute("type") + " " +
                        device.attribute("model") + " " + device.child("target").attribute("dev");
    for (const char* part :
         {"type", "domain", "bus", "slot", "function", "controller", "target", "unit"}) {
      place += " " + address.attribute(part);
    }
    if (address) found.push_back(std::move(place));
  }
  std::ranges::sort(found);
  return found;
}

XmlNode disk_of(const XmlNode& domain, const std::string& name) {
  for (const XmlNode& disk : domain.child("devices").children("disk")) {
    if (disk.child("target").attribute("dev") == name) return disk;
  }
  return XmlNode();
}

class LibvirtShapeTest : public testing::Test {
 protected:
  static LibvirtHost& host() { return LibvirtHost::shared(); }
  static Platform& platform() { return host().platform(); }

  void SetUp() override { ASSERT_TRUE(platform().reconcile({})); }

  void TearDown() override {
    for (const NewVm& vm : made_) {
      const auto gone = platform().destroy_vm(vm.id, /*delete_overlays=*/true);
      EXPECT_TRUE(gone) << to_text(gone.error());
    }
    const libvirt::DomainHandle source(virDomainLookupByUUIDString(host().connection(), kSource));
    if (!source) return;
    EXPECT_TRUE(platform().power_off(kSource));
    virDomainUndefineFlags(source.get(),
                           VIR_DOMAIN_UNDEFINE_NVRAM | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA);
  }

  static Status prove(const NewVm& vm, const std::string& proof_id) {
    return platform().prove_vm(vm, proof_id, host().path("proof"));
  }

  std::string image(const std::string& name, const std::string& options = "compat=1.1") {
    const std::string path = host().path("shape-" + name + ".qcow2");
    std::filesystem::remove(path);
    const auto made = libvirt::run_program({"qemu-img", "create", "-q", "-f", "qcow2", "-o",
                                            options, path, std::to_string(kDiskBytes)},
                                           seconds(30));
    EXPECT_TRUE(made && made->exit_code == 0) << (made ? made->output : "");
    return path;
  }

  static std::string disk(const std::string& path, const std::string& target,
                          const std::string& bus, const std::string& inner = "") {
    return fmt::format(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>"
        "<target dev='{}' bus='{}'/>{}</disk>",
        path, target, bus, inner);
  }

  // A VM that boots nothing, unless `os` says so.
  static std::string domain(const std::string& os, const std::string& devices,
                            const std::string& rest = "") {
    return fmt::format(
        "<domain type='qemu'><name>source</name><uuid>{}</uuid><memory unit='MiB'>64</memory>"
        "<vcpu>1</vcpu>{}{}<cpu mode='maximum'/><devices>{}</devices></domain>",
        kSource, os, rest.contains("<features>") ? rest : rest + "<features><acpi/></features>",
        devices);
  }
  static constexpr const char* kQ35 = "<os><type arch='x86_64' machine='q35'>hvm</type></os>";

  void define(const std::string& xml) {
    const libvirt::DomainHandle defined(virDomainDefineXML(host().connection(), xml.c_str()));
    ASSERT_TRUE(defined) << libvirt::libvirt_error("define").error().what;
  }
  void run(const std::string& xml) {
    define(xml);
    const auto started = platform().start(kSource);
    ASSERT_TRUE(started) << to_text(started.error());
  }

  msg::VmDefinition definition_at_a_point() {
    auto point = platform().create_point(
        {.vm_id = kSource, .token = "shape", .since = "", .app_consistent = false});
    EXPECT_TRUE(point) << (point ? "" : to_text(point.error()));
    if (!point) return {};
    msg::VmDefinition definition = (*point)->definition();
    EXPECT_EQ((*point)->disks().size(), definition.shape.disks.size());
    for (std::size_t i = 0; i < definition.shape.disks.size(); ++i) {
      EXPECT_EQ((*point)->disks()[i]->id(), definition.shape.disks[i].id);
      EXPECT_EQ((*point)->disks()[i]->bytes(), definition.shape.disks[i].bytes);
    }
    EXPECT_TRUE((*point)->close());
    return definition;
  }

  // Over a view that holds nothing of interest.
  NewVm successor(const msg::VmDefinition& definition) {
    NewVm vm = host().new_vm("successor");
    const NewDisk like = vm.disks[0];
    const std::string name = vm.shape.name;
    vm.shape = definition.shape;
    vm.shape.id = vm.id;
    vm.shape.name = name;
    vm.definition = definition;
    vm.serial_log = host().path(vm.id + ".log");
    vm.disks.clear();
    for (const msg::Disk& each : definition.shape.disks) {
      NewDisk disk = like;
      disk.name = each.name;
      disk.id = each.id;
      disk.bytes = each.bytes;
      disk.overlay_path = host().path(fmt::format("overlays/{}-{}.qcow2", vm.id, each.name));
      vm.disks.push_back(std::move(disk));
    }
    return vm;
  }

  void create(const NewVm& vm) {
    made_.push_back(vm);
    const auto created = platform().create_vm(vm);
    ASSERT_TRUE(created) << to_text(created.error());
    ASSERT_EQ(platform().describe_vm(vm.id)->state,
              vm.start ? msg::PowerState::running : msg::PowerState::off);
  }

  XmlDocument xml_of(const std::string& id) {
    const libvirt::DomainHandle found(virDomainLookupByUUIDString(host().connection(), id.c_str()));
    auto document = XmlDocument::parse(libvirt::take_text(virDomainGetXMLDesc(found.get(), 0)));
    EXPECT_TRUE(document);
    return std::move(*document);
  }

  void expect_refused(const std::string& what, const std::string& cure) {
    const auto vm = platform().describe_vm(kSource);
    ASSERT_TRUE(vm) << to_text(vm.error());
    EXPECT_THAT(vm->problem, HasSubstr(what));
    EXPECT_THAT(vm->problem, HasSubstr(cure));
    const auto point = platform().create_point(
        {.vm_id = kSource, .token = "refused", .since = "", .app_consistent = false});
    ASSERT_FALSE(point);
    EXPECT_EQ(point.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(point.error().what, HasSubstr(cure));
  }

  std::vector<NewVm> made_;
};

TEST_F(LibvirtShapeTest, DisksOnTwoBusesRunAtTheTarget) {
  const std::string system = image("system");
  const std::string data = image("data");
  std::string xml = guest::to_xml({.name = "source",
                                   .id = kSource,
                                   .guest_dir = host().options().boot_folder,
                                   .disks = {system},
                                   .serial_log = host().path("shape-source.log"),
                                   .options = {{"run_id", "shape"},
                                               {"slots", "256"},
                                               {"fill_mib", "1"},
                                               {"zero_mib", "1"},
                                               {"pace_ms", "20"}}});
  const std::string extra = disk(data, "sda", "scsi", "<wwn>5000c50015ea71ac</wwn>") +
                            "<controller type='scsi' model='virtio-scsi'/>";
  xml.insert(xml.find("<channel"), extra);
  run(xml);
  const std::string log = "shape-source.log";
  for (const Deadline deadline(seconds(90)); host().reported(log, "acknowledged") < 10;) {
    ASSERT_TRUE(deadline.pause());
  }
  auto point = platform().create_point(
      {.vm_id = kSource, .token = "buses", .since = "", .app_consistent = false});
  ASSERT_TRUE(point) << to_text(point.error());
  Replica replica;
  ASSERT_TRUE(replica.copy_all(**point));
  const msg::VmDefinition definition = (*point)->definition();
  ASSERT_TRUE((*point)->close());

  NewVm vm = successor(definition);
  ASSERT_EQ(vm.disks.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    const std::string raw = host().path(fmt::format("buses-{}.raw", i));
    std::ofstream(raw, std::ios::binary)
        .write(replica.disks()[i].data(), static_cast<std::streamsize>(replica.disks()[i].size()));
    vm.disks[i].nbd_socket = host().serve(raw, "raw");
  }
  const auto proven = prove(vm, "6b0f3f0e-0000-4000-8000-0000000000b1");
  ASSERT_TRUE(proven) << to_text(proven.error());
  create(vm);

  const std::string own = vm.id + ".log";
  for (const Deadline deadline(seconds(90)); host().reported(own, "acknowledged") < 20;) {
    ASSERT_TRUE(deadline.pause()) << file_content(host().path(own));
  }
  EXPECT_GE(host().reported(own, "resumed"), 10U) << "it goes on with what the point holds";
  EXPECT_EQ(places(xml_of(vm.id).root()), places(xml_of(kSource).root()));
  EXPECT_EQ(definition.shape.disks[1].id, "wwn:5000c50015ea71ac");
  const auto life = platform().sign_of_life(vm.id);
  ASSERT_TRUE(life) << to_text(life.error());
  EXPECT_NE(*life, "");
}

TEST_F(LibvirtShapeTest, WithoutADefinitionDisksOfTwoBusesRunToo) {
  define(domain(kQ35, disk(image("a"), "vda", "virtio") + disk(image("b"), "sda", "sata")));
  msg::VmDefinition definition = definition_at_a_point();
  NewVm vm = successor(definition);
  vm.definition = {};

  create(vm);
}

TEST_F(LibvirtShapeTest, TheBootOrderStays) {
  run(domain(
      kQ35, disk(image("data"), "vda", "virtio", "<boot order='2'/>") +
                disk(image("system"), "vdb", "virtio", "<boot order='1'/><serial>SYS-1</serial>")));
  const msg::VmDefinition definition = definition_at_a_point();
  const NewVm vm = successor(definition);

  create(vm);

  const auto target = xml_of(vm.id);
  EXPECT_EQ(disk_of(target.root(), "vda").child("boot").attribute("order"), "2");
  EXPECT_EQ(disk_of(target.root(), "vdb").child("boot").attribute("order"), "1");
  EXPECT_EQ(disk_of(target.root(), "vdb").child("serial").text(), "SYS-1");
  EXPECT_EQ(definition.shape.disks[1].id, "serial:SYS-1");
}

// Each: the name of a case, the source's firmware, and whether it has Secure Boot.
struct UefiCase {
  const char* loader;
  const char* variables;
  bool is_secure;
};

TEST_F(LibvirtShapeTest, UefiVariablesAndSecureBootTravelWithThePoint) {
  for (const UefiCase& each :
       {UefiCase{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", false},
        UefiCase{"/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
                 true}}) {
    SCOPED_TRACE(each.loader);
    if (!std::filesystem::exists(each.loader)) GTEST_SKIP() << "the package ovmf is missing";
    const std::string nvram = host().path("shape-nvram.fd");
    std::filesystem::copy_file(each.variables, nvram,
                               std::filesystem::copy_options::overwrite_existing);
    std::fstream(nvram, std::ios::binary | std::ios::in | std::ios::out).seekp(-16, std::ios::end)
        << "written by guest";
    run(domain(fmt::format("<os><type arch='x86_64' machine='q35'>hvm</type>"
                           "<loader readonly='yes' secure='{}' type='pflash'>{}</loader>"
                           "<nvram template='{}'>{}</nvram></os>",
                           each.is_secure ? "yes" : "no", each.loader, each.variables, nvram),
               disk(image("uefi"), "vda", "virtio"),
               "<features><acpi/><smm state='on'/></features>"));
    const msg::VmDefinition definition = definition_at_a_point();
    ASSERT_TRUE(platform().power_off(kSource));
    EXPECT_EQ(definition.shape.generation, 2U);
    EXPECT_EQ(definition.nvram.size(), std::filesystem::file_size(nvram));
    EXPECT_THAT(definition.nvram, HasSubstr("written by guest"));
    EXPECT_EQ(std::ranges::count(definition.firmware, "secure-boot"), each.is_secure ? 1 : 0);
    EXPECT_EQ(platform().definition_of(kSource)->nvram, "");

    NewVm vm = successor(definition);
    vm.start = false;
    create(vm);

    const std::string own = xml_of(vm.id).root().child("os").child("nvram").text();
    EXPECT_NE(own, nvram);
    EXPECT_TRUE(file_content(own) == definition.nvram) << "equal before the first start";
    const auto started = platform().start(vm.id);
    ASSERT_TRUE(started) << to_text(started.error());
    const pid_t pid = LibvirtHost::pid_of(host().connection(), host().options().root, vm.id);
    const std::string words = file_content(fmt::format("/proc/{}/cmdline", pid));
    EXPECT_THAT(words, HasSubstr(each.loader));
    EXPECT_THAT(words, HasSubstr(own));
    EXPECT_EQ(words.contains("secure,value=on"), each.is_secure);
    const auto gone = platform().destroy_vm(vm.id, true);
    ASSERT_TRUE(gone) << to_text(gone.error());
    EXPECT_FALSE(std::filesystem::exists(own));
  }
}

// The firmware itself writes an entry for the disk, with its place, and reads it at the target.
TEST_F(LibvirtShapeTest, UefiFirmwareFindsItsEntriesAtTheTarget) {
  constexpr const char* kLoader = "/usr/share/OVMF/OVMF_CODE_4M.fd";
  constexpr const char* kVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd";
  if (!std::filesystem::exists(kLoader)) GTEST_SKIP() << "the package ovmf is missing";
  const std::string log = host().path("uefi-source.log");
  const std::string nvram = host().path("shape-entries.fd");
  run(domain(fmt::format("<os><type arch='x86_64' machine='q35'>hvm</type>"
                         "<loader readonly='yes' type='pflash'>{}</loader>"
                         "<nvram template='{}'>{}</nvram></os>",
                         kLoader, kVariables, nvram),
             disk(image("entries"), "vda", "virtio") +
                 fmt::format("<serial type='file'><source path='{}'/></serial>", log)));
  // "BdsDxe: failed to load Boot0001 "UEFI Misc Device" from PciRoot(0x0)/Pci(..."
  const auto entry = [](const std::string& path) -> std::string {
    for (const Deadline deadline(seconds(120)); deadline.pause();) {
      const std::string text = file_content(path);
      const std::size_t begin = text.find("Boot0001 \"UEFI Misc Device\" from ");
      if (begin == std::string::npos) continue;
      const std::size_t end = text.find(": ", begin);
      if (end != std::string::npos) return text.substr(begin, end - begin);
    }
    return {};
  };
  const std::string before = entry(log);
  ASSERT_NE(before, "") << file_content(log);
  const msg::VmDefinition definition = definition_at_a_point();
  EXPECT_NE(definition.nvram, file_content(kVariables));
  const NewVm vm = successor(definition);

  create(vm);

  EXPECT_EQ(entry(vm.serial_log), before);
}

// Libvirt chooses its firmware at each start, and tells only then.  The last point of a planned
// failover is taken while the VM is off.
TEST_F(LibvirtShapeTest, VariablesTravelAlsoWhileTheVmIsOffAndLibvirtChoosesItsFirmware) {
  if (!std::filesystem::exists("/usr/share/OVMF/OVMF_CODE_4M.fd")) {
    GTEST_SKIP() << "the package ovmf is missing";
  }
  run(
      domain("<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type><firmware>"
             "<feature enabled='no' name='secure-boot'/></firmware></os>",
             disk(image("off"), "vda", "virtio")));
  const std::string path = xml_of(kSource).root().child("os").child("nvram").text();
  ASSERT_TRUE(platform().power_off(kSource));
  ASSERT_EQ(xml_of(kSource).root().child("os").child("nvram").text(), "");
  const libvirt::DomainHandle source(virDomainLookupByUUIDString(host().connection(), kSource));

  const auto networks = libvirt::Networks::from_options({});
  const auto definition = libvirt::capture_definition(source.get(), *networks, true);

  ASSERT_TRUE(definition) << to_text(definition.error());
  EXPECT_FALSE(definition->nvram.empty());
  EXPECT_TRUE(definition->nvram == file_content(path));
  EXPECT_EQ(std::ranges::count(definition->firmware, "secure-boot"), 0);
  NewVm vm = successor(*definition);
  vm.start = false;
  create(vm);
  EXPECT_TRUE(file_content(xml_of(vm.id).root().child("os").child("nvram").text()) ==
              definition->nvram);
}

TEST_F(LibvirtShapeTest, FirmwareThatIsNotHereIsToldWithItsPackage) {
  define(domain(kQ35, disk(image("uefi"), "vda", "virtio")));
  msg::VmDefinition definition = definition_at_a_point();
  const std::size_t at = definition.text.find("</os>");
  ASSERT_NE(at, std::string::npos);
  definition.text.insert(at, "<loader type='pflash'>/x</loader><nvram>/y</nvram>");
  definition.nvram.assign(123, 'x');
  const NewVm vm = successor(definition);

  const auto created = platform().create_vm(vm);
  const auto proven = prove(vm, "6b0f3f0e-0000-4000-8000-0000000000b2");

  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(created.error().advice, HasSubstr("ovmf"));
  EXPECT_EQ(proven ? ErrorCode{} : proven.error().code, ErrorCode::kUnsupported);
}

TEST_F(LibvirtShapeTest, OldHardwareStaysAsItIs) {
  run(domain("<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>",
             disk(image("ide"), "hda", "ide") +
                 "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>"
                 "<interface type='user'><mac address='52:54:00:00:00:77'/>"
                 "<model type='rtl8139'/></interface>"
                 "<graphics type='vnc' autoport='yes' listen='127.0.0.1'/>"
                 "<video><model type='vga'/></video><sound model='ac97'/>"
                 "<input type='tablet' bus='usb'/>",
             "<clock offset='localtime'/>"));
  const msg::VmDefinition definition = definition_at_a_point();
  NewVm vm = successor(definition);
  vm.shape.nics[0].network = "quiet";

  create(vm);

  const auto source = xml_of(kSource);
  const auto target = xml_of(vm.id);
  const auto machine = [](const XmlDocument& document) {
    return document.root().child("os").child("type").attribute("machine");
  };
  EXPECT_THAT(machine(target), HasSubstr("i440fx"));
  EXPECT_EQ(machine(target), machine(source));
  EXPECT_EQ(places(target.root()), places(source.root()));
  EXPECT_EQ(disk_of(target.root(), "hda").child("target").attribute("bus"), "ide");
  const XmlNode devices = target.root().child("devices");
  EXPECT_EQ(devices.child("interface").child("model").attribute("type"), "rtl8139");
  EXPECT_EQ(devices.child("interface").child("link").attribute("state"), "down");
  EXPECT_EQ(devices.child("video").child("model").attribute("type"), "vga");
  EXPECT_EQ(devices.child("graphics").attribute("type"), "vnc");
  EXPECT_EQ(devices.child("graphics").child("listen").attribute("address"), "127.0.0.1");
  EXPECT_EQ(target.root().child("clock").attribute("offset"), "localtime");
  const auto plan = platform().plan_vm(vm);
  ASSERT_TRUE(plan) << to_text(plan.error());
  for (const msg::PlanRow& row : *plan) {
    EXPECT_NE(row.rule, msg::PlanRule::dropped) << to_text(row);
  }
}

TEST_F(LibvirtShapeTest, AVmWithManyDevicesIsMadeAgainWithAllOfThem) {
  run(domain(kQ35,
             disk(image("many-a"), "vda", "virtio", "<boot order='2'/><serial>A B-1</serial>") +
                 disk(image("many-b"), "sda", "scsi", "<boot order='1'/>") +
                 disk(image("many-c"), "sdb", "sata") + disk(image("many-d"), "sdc", "usb") +
                 "<disk type='file' device='cdrom'><target dev='sdd' bus='sata'/><readonly/></disk>"
                 "<controller type='scsi' model='virtio-scsi'><driver queues='1' iothread='1'/>"
                 "</controller><controller type='usb' model='qemu-xhci' ports='8'/>"
                 "<interface type='user'><mac address='52:54:00:00:00:78'/><model type='e1000e'/>"
                 "</interface><interface type='user'><mac address='52:54:00:00:00:79'/>"
                 "<model type='virtio'/></interface><serial type='pty'/><serial type='pty'/>"
                 "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
                 "</channel><channel type='unix'><target type='virtio' name='org.example.0'/>"
                 "</channel><console type='pty'><target type='virtio' port='1'/></console>"
                 "<graphics type='vnc' autoport='yes'/><video><model type='bochs'/></video>"
                 "<sound model='ich9'/><watchdog model='i6300esb' action='reset'/>"
                 "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
                 "<input type='tablet' bus='usb'/><panic model='isa'/><memballoon model='virtio'>"
                 "<stats period='10'/></memballoon>",
             "<title>All of it</title><iothreads>1</iothreads><sysinfo type='smbios'><system>"
             "<entry name='serial'>S-1, \"two\"</entry></system></sysinfo>"
             "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/>"
             "<timer name='hpet' present='no'/></clock><on_crash>restart</on_crash>"));
  const msg::VmDefinition definition = definition_at_a_point();
  NewVm vm = successor(definition);
  for (msg::Nic& nic : vm.shape.nics) nic.network = "blue";

  const auto proven = prove(vm, "6b0f3f0e-0000-4000-8000-0000000000b3");
  EXPECT_TRUE(proven) << to_text(proven.error());
  create(vm);

  const auto source = xml_of(kSource);
  const auto target = xml_of(vm.id);
  EXPECT_EQ(places(target.root()), places(source.root()));
  const auto again = platform().definition_of(vm.id);
  ASSERT_TRUE(again) << to_text(again.error());
  const auto text_of = [](const XmlNode& domain, const char* name) {
    return domain.child(name).child("system").child("entry").text() + domain.child(name).text();
  };
  for (const char* name : {"title", "memory", "currentMemory", "vcpu", "iothreads", "sysinfo",
                           "on_crash", "on_reboot", "on_poweroff"}) {
    EXPECT_EQ(text_of(target.root(), name), text_of(source.root(), name)) << name;
  }
  const auto plan = platform().plan_vm(vm);
  ASSERT_TRUE(plan) << to_text(plan.error());
  for (const msg::PlanRow& row : *plan) {
    EXPECT_NE(row.rule, msg::PlanRule::dropped) << to_text(row);
  }
}

TEST_F(LibvirtShapeTest, AProofThatFailsSaysWhyAndLeavesNothing) {
  constexpr const char* kProof = "6b0f3f0e-0000-4000-8000-0000000000b4";
  define(domain(kQ35, disk(image("proof"), "vda", "virtio")));
  const msg::VmDefinition definition = definition_at_a_point();
  const auto refusal = [&](const NewVm& vm) {
    const auto proven = prove(vm, kProof);
    EXPECT_FALSE(proven);
    EXPECT_FALSE(platform().describe_vm(kProof));
    EXPECT_FALSE(std::filesystem::exists(host().path("proof")));
    return proven ? Error{} : proven.error();
  };
  NewVm huge = successor(definition);
  huge.definition.text.replace(huge.definition.text.find(">65536<"), 7, ">99999999999<");
  NewVm taken = successor(definition);
  taken.shape.name = "witness";
  NewVm old = successor(definition);
  const std::string machine = xml_of(kSource).root().child("os").child("type").attribute("machine");
  old.definition.text.replace(old.definition.text.find(machine), machine.size(), "pc-q35-99.9");
  NewVm unconnected = successor(definition);
  unconnected.shape.nics = {{.mac = "52:54:00:00:00:7a", .network = "gone", .address = ""}};

  const Error memory = refusal(huge);
  EXPECT_EQ(memory.code, ErrorCode::kNoSpace);
  EXPECT_THAT(memory.what, HasSubstr("97656249 MiB"));
  const Error name = refusal(taken);
  EXPECT_EQ(name.code, ErrorCode::kAlreadyExists);
  EXPECT_THAT(name.what, HasSubstr("'witness'"));
  const Error unknown_machine = refusal(old);
  EXPECT_THAT(unknown_machine.what, HasSubstr("pc-q35-99.9"));
  EXPECT_NE(unknown_machine.advice, "");
  EXPECT_THAT(refusal(unconnected).what, HasSubstr("fs-gone")) << "its bridge is not there";
}

// Whatever a source says that its VM needs, and whatever became of its proof.
TEST_F(LibvirtShapeTest, AVmThatNeedsMoreMemoryThanThereIsIsNotStarted) {
  define(domain(kQ35, disk(image("greedy"), "vda", "virtio")));
  NewVm huge = successor(definition_at_a_point());
  huge.definition.text.replace(huge.definition.text.find(">65536<"), 7, ">99999999999<");
  huge.is_test = true;

  const auto created = platform().create_vm(huge);

  ASSERT_FALSE(created);
  EXPECT_EQ(created.error().code, ErrorCode::kNoSpace);
  EXPECT_THAT(created.error().what, HasSubstr("97656249 MiB"));
  const auto left = platform().describe_vm(huge.id);
  EXPECT_TRUE(!left || left->state == msg::PowerState::off);
  ASSERT_TRUE(platform().destroy_vm(huge.id, /*delete_overlays=*/true));
}

TEST_F(LibvirtShapeTest, AProofNeedsThePlaceWhereTheDisksWillBe) {
  define(domain(kQ35, disk(image("place"), "vda", "virtio")));
  const NewVm vm = successor(definition_at_a_point());
  std::ofstream(host().path("proof-file")) << "in the way";

  const auto proven =
      platform().prove_vm(vm, "6b0f3f0e-0000-4000-8000-0000000000b5", host().path("proof-file/x"));

  ASSERT_FALSE(proven);
  EXPECT_THAT(proven.error().what, HasSubstr("proof-file"));
}

TEST_F(LibvirtShapeTest, SectorSizesStay) {
  run(domain(kQ35, disk(image("4k"), "vda", "virtio",
                        "<blockio logical_block_size='4096' physical_block_size='4096'/>")));
  const NewVm vm = successor(definition_at_a_point());

  create(vm);

  const auto target = xml_of(vm.id);
  const XmlNode sectors = disk_of(target.root(), "vda").child("blockio");
  EXPECT_EQ(sectors.attribute("logical_block_size"), "4096");
  EXPECT_EQ(sectors.attribute("physical_block_size"), "4096");
}

TEST_F(LibvirtShapeTest, TheShapeBelongsToThePoint) {
  const std::string path = image("shape");
  const std::string before = domain(kQ35, disk(path, "vda", "virtio"));
  run(before);
  const msg::VmDefinition old = definition_at_a_point();
  ASSERT_TRUE(platform().power_off(kSource));
  std::string after = before;
  after.replace(after.find(">64<"), 4, ">96<");
  after.replace(after.find("<vcpu>1<"), 8, "<vcpu>2<");
  run(after);

  const auto now = platform().definition_of(kSource);
  const NewVm vm = successor(definition_at_a_point());
  create(vm);

  EXPECT_EQ(old.shape.memory_mib, 64U);
  ASSERT_TRUE(now) << to_text(now.error());
  EXPECT_EQ(now->shape.memory_mib, 96U);
  EXPECT_EQ(now->shape.processors, 2U);
  EXPECT_NE(now->text, old.text);
  EXPECT_EQ(platform().describe_vm(vm.id)->memory_mib, 96U);
  EXPECT_EQ(platform().describe_vm(vm.id)->processors, 2U);
}

TEST_F(LibvirtShapeTest, EncryptedImagesAreRefused) {
  const std::string secret = host().path("passphrase");
  std::ofstream(secret) << "secret";
  const std::string path = host().path("shape-luks.qcow2");
  const auto made = libvirt::run_program(
      {"qemu-img", "create", "-q", "--object", "secret,id=s,file=" + secret, "-f", "qcow2", "-o",
       "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", path, "16M"},
      seconds(60));
  ASSERT_TRUE(made && made->exit_code == 0) << made->output;
  define(domain(kQ35, disk(path, "vda", "virtio")));

  expect_refused("encrypted", "plain text");
}

TEST_F(LibvirtShapeTest, OldImagesAreRefusedWithTheirCure) {
  const std::string path = image("old", "compat=0.10");
  define(domain(kQ35, disk(path, "vda", "virtio")));

  expect_refused("compat 0.10", "qemu-img amend -o compat=1.1 " + path);

  const auto cured =
      libvirt::run_program({"qemu-img", "amend", "-o", "compat=1.1", path}, seconds(30));
  ASSERT_TRUE(cured && cured->exit_code == 0) << cured->output;
  EXPECT_EQ(platform().describe_vm(kSource)->problem, "");
}

TEST_F(LibvirtShapeTest, AllThatIsWrongIsToldAtOnce) {
  const std::string missing = host().path("shape-missing.qcow2");
  const std::string base = image("base");
  const std::string chained = host().path("shape-chained.qcow2");
  const auto made = libvirt::run_program(
      {"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, chained}, seconds(30));
  ASSERT_TRUE(made && made->exit_code == 0) << made->output;
  const std::string locked = image("locked");
  const std::string pid_file = host().path("shape-nbd.pid");
  const auto served =
      libvirt::run_program({"qemu-nbd", "--fork", "--persistent", "--pid-file=" + pid_file,
                            "--format=qcow2", "--socket=" + host().path("shape-nbd.sock"), locked},
                           seconds(30));
  ASSERT_TRUE(served && served->exit_code == 0) << served->output;
  const std::string readonly = image("readonly");
  std::filesystem::permissions(readonly, std::filesystem::perms::owner_read);
  const std::string devices = disk(chained, "vda", "virtio") + disk(locked, "vdb", "virtio") +
                              disk(readonly, "vdc", "virtio") + disk(missing, "vdd", "virtio");
  define(domain(kQ35, devices));
  const std::string good = platform().describe_vm(kSource)->problem;
  std::filesystem::remove(base);

  const std::string problem = platform().describe_vm(kSource)->problem;

  ::kill(static_cast<pid_t>(std::stol(file_content(pid_file))), SIGTERM);
  EXPECT_EQ(good.contains("vda"), false) << "chains are fine: " << good;
  EXPECT_THAT(problem, HasSubstr("disk vda: " + chained + " stands on " + base));
  EXPECT_THAT(problem, HasSubstr("; disk vdb: "));
  EXPECT_THAT(problem, HasSubstr("in use by qemu-nbd"));
  EXPECT_THAT(problem, HasSubstr("disk vdc: " + readonly + " is read-only"));
  EXPECT_THAT(problem, HasSubstr("disk vdd: " + missing + " cannot be used"));
}

TEST_F(LibvirtShapeTest, BootFilesComeFromTheFolderOfTheOperatorOnly) {
  const std::string secret = host().path("secret.txt");
  std::ofstream(secret) << "of this host";
  define(domain(kQ35, disk(image("boot"), "vda", "virtio")));
  const msg::VmDefinition definition = definition_at_a_point();
  const auto refused = [&](const std::string& kernel, const std::string& initrd, bool in_text) {
    NewVm vm = successor(definition);
    if (in_text) {
      vm.definition.text.insert(
          vm.definition.text.find("</os>"),
          fmt::format("<kernel>{}</kernel><initrd>{}</initrd>", kernel, initrd));
    } else {
      vm.definition = {};
      vm.shape.boot_kernel = kernel;
      vm.shape.boot_initrd = initrd;
    }
    const auto created = platform().create_vm(vm);
    EXPECT_FALSE(created);
    EXPECT_FALSE(platform().describe_vm(vm.id));
    return created ? ErrorCode{} : created.error().code;
  };

  for (const bool in_text : {true, false}) {
    EXPECT_EQ(refused("vmlinuz", secret, in_text), ErrorCode::kForbidden);
    EXPECT_EQ(refused("vmlinuz", "../" + secret, in_text), ErrorCode::kForbidden);
    EXPECT_EQ(refused("vmlinuz", "..", in_text), ErrorCode::kForbidden);
    EXPECT_EQ(refused("vmlinuz", "nothing-there", in_text), ErrorCode::kNotFound);
  }
  const std::string usual = host().options().boot_folder;
  const std::string folder = host().path("boot");
  std::filesystem::create_directory(folder);
  std::filesystem::create_symlink(secret, folder + "/link");
  host().options().boot_folder = folder;
  host().restart_agent();
  EXPECT_EQ(refused("link", "", true), ErrorCode::kForbidden) << "it leads out of the folder";
  host().options().boot_folder.clear();
  host().restart_agent();
  EXPECT_EQ(refused("vmlinuz", "", true), ErrorCode::kForbidden);
  host().options().boot_folder = usual;
  host().restart_agent();
}

}  // namespace
}  // namespace farside::agent
