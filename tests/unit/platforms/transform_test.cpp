// What a target makes of foreign definitions: the usual ones, and those of an enemy.
#include <fmt/core.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "common/base/random.h"
#include "services/agent/platforms/libvirt/boot_files.h"
#include "services/agent/platforms/libvirt/definition.h"
#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/libvirt/qcow2_header.h"
#include "services/agent/platforms/libvirt/transform.h"
#include "tests/support/temp_folder.h"

namespace farside::agent::libvirt {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kId = "6b0f3f0e-0000-4000-8000-000000000009";
constexpr const char* kMac = "52:54:00:00:00:01";

Networks networks() {
  return *Networks::from_options({{"prod", "bridge:br0"}, {"out", "user"}});
}

NewVm new_vm(const std::string& text) {
  return NewVm{.shape = {.name = "web",
                         .memory_mib = 64,
                         .processors = 1,
                         .generation = 1,
                         .nics = {{.mac = kMac, .network = "prod", .address = ""}}},
               .definition = {.platform = "libvirt", .shape = {}, .text = text},
               .id = kId,
               .item_id = "item-7",
               .disks = {{.name = "vda",
                          .id = "serial:S1",
                          .bytes = 1U << 20U,
                          .overlay_path = "/o/vda.qcow2",
                          .nbd_socket = "/s/x.sock",
                          .nbd_export = "vda"}}};
}

TargetHost target_host(const std::string& type = "qemu") {
  return {.type = type,
          .emulator = "/usr/bin/qemu-system-x86_64",
          .serial_log = "/l/serial.log",
          .boot_folder = "",
          .firmware = {}};
}

const std::string kDisk =
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/a/EVIL'/>"
    "<target dev='vda' bus='virtio'/><serial>S1</serial></disk>";

// A small VM with one disk, and more.
std::string domain(const std::string& devices, const std::string& rest = "",
                   const std::string& os = "") {
  return fmt::format(
      "<domain type='kvm'><name>web</name><uuid>6b0f3f0e-0000-4000-8000-000000000001</uuid>"
      "<memory unit='KiB'>65536</memory><vcpu>1</vcpu><os>"
      "<type arch='x86_64' "
      "machine='pc-q35-7.2'>hvm</type>{}</os>{}<devices>{}{}</devices></domain>",
      os, rest, kDisk, devices);
}

Result<TargetDomain> made(const std::string& text, const std::string& type = "qemu") {
  return make_domain(new_vm(text), networks(), target_host(type));
}

std::string xml_of(const std::string& text, const std::string& type = "qemu") {
  const auto domain = made(text, type);
  EXPECT_TRUE(domain) << (domain ? "" : to_text(domain.error()));
  return domain ? domain->xml : "";
}

const msg::PlanRow* row_of(const TargetDomain& domain, std::string_view what) {
  const auto found = std::ranges::find(domain.rows, what, &msg::PlanRow::what);
  return found == domain.rows.end() ? nullptr : &*found;
}

// libvirt starts no VM whose SMBIOS says another UUID than the VM has.
TEST(TransformTest, TheGuestSeesTheUuidThatItsVmHas) {
  const auto domain_made = made(
      domain("",
             "<sysinfo type='smbios'><system><entry name='serial'>S</entry>"
             "<entry name='uuid'>6b0f3f0e-0000-4000-8000-000000000001</entry></system></sysinfo>"));

  ASSERT_TRUE(domain_made) << to_text(domain_made.error());
  EXPECT_THAT(domain_made->xml, HasSubstr(fmt::format("<entry name='uuid'>{}</entry>", kId)));
  EXPECT_THAT(domain_made->xml, HasSubstr("<entry name='serial'>S</entry>"));
  const auto* row = row_of(*domain_made, "UUID");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->rule, msg::PlanRule::mapped);
  EXPECT_EQ(row->target, kId);
}

TEST(TransformTest, NothingThatNamesThingsOfAHostGetsIn) {
  for (const char* devices : {
           "<emulator>/bin/EVIL</emulator>",
           "<hostdev mode='subsystem' type='pci'><source><address bus='EVIL'/></source></hostdev>",
           "<filesystem type='mount'><source dir='/EVIL'/><target dir='EVIL'/></filesystem>",
           "<shmem name='EVIL'><model type='ivshmem-plain'/></shmem>",
           "<redirdev bus='usb' type='tcp'><source mode='connect' host='EVIL'/></redirdev>",
           "<smartcard mode='host-certificates'><certificate>EVIL</certificate></smartcard>",
           "<tpm model='tpm-tis'><backend type='passthrough'><device "
           "path='/EVIL'/></backend></tpm>",
           "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='EVIL'/>"
           "<script path='/EVIL'/><target dev='EVIL'/><model type='EVIL'/><rom file='/EVIL'/>"
           "<backend tap='/EVIL' vhost='/EVIL'/></interface>",
           "<interface type='vhostuser'><mac address='52:54:00:00:00:02'/>"
           "<source type='unix' path='/EVIL' mode='client'/></interface>",
           "<serial type='dev'><source path='/EVIL'/><target port='0'/></serial>",
           "<serial type='file'><source path='/a'/><log file='/EVIL'/></serial>"
           "<serial type='pipe'><source path='/EVIL'/><target port='1'/></serial>",
           "<console type='unix'><source mode='bind' path='/EVIL'/><target "
           "type='virtio'/></console>",
           "<parallel type='dev'><source path='/EVIL'/><target port='0'/></parallel>",
           "<channel type='unix'><source mode='bind' path='/EVIL'/>"
           "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
           "<channel type='unix'><source path='/EVIL'/><target type='virtio' "
           "name='/EVIL'/></channel>",
           "<channel type='pipe'><source path='/EVIL'/><target type='guestfwd' address='10.0.2.1' "
           "port='80'/></channel>",
           "<graphics type='vnc' passwd='EVIL' socket='/EVIL' listen='0.0.0.0' port='5999'/>",
           "<graphics type='spice'><listen type='network' network='EVIL'/>"
           "<gl enable='yes' rendernode='/EVIL'/></graphics>",
           "<graphics type='sdl' display='EVIL' xauth='/EVIL'/>",
           "<video><model type='virtio'><acceleration accel3d='yes' rendernode='/EVIL'/></model>"
           "<driver name='vhostuser'/><source path='/EVIL'/></video>",
           "<rng model='virtio'><backend model='egd' type='unix'><source path='/EVIL'/></backend>"
           "</rng>",
           "<rng model='virtio'><backend model='random'>/EVIL</backend></rng>",
           "<input type='evdev'><source dev='/EVIL'/></input>",
           "<input type='passthrough' bus='virtio'><source evdev='/EVIL'/></input>",
           "<audio id='1' type='oss'><input dev='/EVIL'/></audio>",
           "<memory model='nvdimm'><source><path>/EVIL</path></source></memory>",
           "<nvram><address type='EVIL'/></nvram>",
           "<vsock model='virtio'><cid address='EVIL'/></vsock>",
           "<lease><lockspace>EVIL</lockspace></lease>",
           "<crypto model='virtio'><backend model='EVIL'/></crypto>",
           "<watchdog model='EVIL' action='reset'/>",
           "<sound model='EVIL'/>",
           "<controller type='EVIL'/>",
           "<panic model='isa'><source path='/EVIL'/></panic>",
           "<hub type='/EVIL'/>",
           "<unheard-of path='/EVIL'><source file='/EVIL'>EVIL</source></unheard-of>",
           "<disk type='file' device='cdrom'><source file='/EVIL'/><target dev='sda' bus='sata'/>"
           "<readonly/></disk>",
           "<disk type='block' device='lun'><source dev='/EVIL'/><target dev='sdb' "
           "bus='scsi'/></disk>",
           "<disk type='file' device='disk'><source file='/EVIL'/><target dev='vdb' bus='virtio'/>"
           "</disk>",
           "<disk type='file' device='disk'><source file='/EVIL'/><target dev='vdc' bus='virtio'/>"
           "<readonly/></disk>",
           "<x:disk xmlns:x='urn:EVIL' type='file'><source file='/EVIL'/></x:disk>",
       }) {
    SCOPED_TRACE(devices);
    const std::string xml = xml_of(domain(devices));
    EXPECT_THAT(xml, Not(HasSubstr("EVIL")));
    EXPECT_TRUE(read_domain(xml, networks()));
  }
  for (const char* rest : {
           "<seclabel type='static'><label>EVIL</label></seclabel>",
           "<memoryBacking><hugepages><page size='EVIL'/></hugepages></memoryBacking>",
           "<numatune><memory nodeset='EVIL'/></numatune>",
           "<cputune><vcpupin vcpu='0' cpuset='EVIL'/></cputune>",
           "<resource><partition>/EVIL</partition></resource>",
           "<launchSecurity type='sev'><dhCert>EVIL</dhCert></launchSecurity>",
           "<bootloader>/EVIL</bootloader>",
           "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
           "<q:arg value='EVIL'/></q:commandline>",
           "<commandline><arg value='EVIL'/></commandline>",
           "<sysinfo type='fwcfg'><entry name='opt/x' file='/EVIL'/></sysinfo>",
           "<clock offset='timezone' timezone='/EVIL'/>",
           "<clock offset='timezone' timezone=':EVIL'/>",
           "<clock offset='timezone' timezone='../../EVIL,'/>",
           "<cpu mode='/EVIL'><model>EVIL,x=y</model><feature name='a,EVIL'/></cpu>",
           "<on_crash>EVIL</on_crash>",
           "<perf><event name='EVIL'/></perf>",
           "<name>EVIL</name><uuid>EVIL</uuid>",
           "<memory unit='/EVIL'>12</memory>",
           "<iothreads>EVIL</iothreads>",
       }) {
    SCOPED_TRACE(rest);
    EXPECT_THAT(xml_of(domain("", rest)), Not(HasSubstr("EVIL")));
  }
  for (const char* os : {
           "<loader>/EVIL</loader>",
           "<dtb>/EVIL</dtb>",
           "<acpi><table type='slic'>/EVIL</table></acpi>",
           "<boot dev='/EVIL'/>",
           "<smbios mode='host'/>",
           "<bios useserial='EVIL'/>",
       }) {
    SCOPED_TRACE(os);
    EXPECT_THAT(xml_of(domain("", "", os)), Not(HasSubstr("EVIL")));
  }
}

TEST(TransformTest, DriversOfDisksAreChosenHere) {
  std::string text = domain("");
  const std::string driver = "<driver name='qemu' type='qcow2'/>";
  text.replace(text.find(driver), driver.size(),
               "<driver name='EVIL' type='raw' cache='unsafe' io='native' discard='ignore' "
               "error_policy='report' rerror_policy='ignore' iothread='1' copy_on_read='on'/>");

  const auto domain = made(text);

  ASSERT_TRUE(domain);
  EXPECT_THAT(domain->xml, Not(HasSubstr("EVIL")));
  EXPECT_THAT(domain->xml, Not(HasSubstr("unsafe")));
  EXPECT_THAT(domain->xml, HasSubstr("type='qcow2' error_policy='stop' rerror_policy='stop'"));
  EXPECT_THAT(domain->xml, HasSubstr(" io='native'"));
  EXPECT_THAT(domain->xml, HasSubstr(" discard='ignore'"));
  EXPECT_THAT(domain->xml, HasSubstr(" iothread='1'"));
}

TEST(TransformTest, AMarkOfOursInAForeignDefinitionIsNotTaken) {
  const auto domain_with = [](const std::string& metadata) {
    const std::string xml = xml_of(domain("", "<metadata>" + metadata + "</metadata>"));
    EXPECT_THAT(xml, Not(HasSubstr("/etc/shadow")));
    return read_domain(xml, networks());
  };
  for (const char* space : {"urn:farside:domain:1", "urn:farside:domain:2"}) {
    const auto shape = domain_with(fmt::format(
        "<f:vm xmlns:f='{}' item='other'><f:overlay>/etc/shadow</f:overlay></f:vm>"
        "<x xmlns='urn:x'><f:vm xmlns:f='{}'><f:overlay>/etc/shadow</f:overlay></f:vm></x>",
        space, space));
    ASSERT_TRUE(shape);
    EXPECT_EQ(shape->item_id, "item-7");
    EXPECT_THAT(shape->overlays, testing::ElementsAre("/o/vda.qcow2"));
  }
  // Somebody else's element of the same name is neither taken for ours.
  const auto foreign = read_domain(
      domain("", "<metadata><o:vm xmlns:o='http://ovirt.org/vm/1.0' item='x'/></metadata>"),
      networks());
  ASSERT_TRUE(foreign);
  EXPECT_FALSE(foreign->is_ours);
}

TEST(TransformTest, LabelsOfOtherToolsStay) {
  const std::string xml = xml_of(
      domain("",
             "<title>A &lt;b&gt;</title><description>d</description><metadata>"
             "<o:libosinfo xmlns:o='http://libosinfo.org/1'><o:os id='http://debian.org/12'/>"
             "</o:libosinfo></metadata>"));

  EXPECT_THAT(xml, HasSubstr("<title>A &lt;b&gt;</title>"));
  const auto document = XmlDocument::parse(xml);
  ASSERT_TRUE(document);
  const XmlNode label = document->root().child("metadata").child("libosinfo");
  EXPECT_EQ(label.space(), "http://libosinfo.org/1");
  EXPECT_EQ(label.child("os").attribute("id"), "http://debian.org/12");
}

TEST(TransformTest, RefusesWhatIsNoPlainDescription) {
  std::string deep;
  for (int i = 0; i < 40; ++i) deep += "<a>";
  for (int i = 0; i < 40; ++i) deep += "</a>";
  for (const std::string& text : {
           std::string("no xml"),
           "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/shadow'>]>" + domain(""),
           "<!DOCTYPE domain SYSTEM 'http://EVIL/x.dtd'>" + domain(""),
           domain("", "<title>&undefined;</title>"),
           domain(deep),
           domain("", "<title>" + std::string(300 << 10, 'x') + "</title>"),
           domain("") + std::string("\0x", 2),
           std::string("<network/>"),
           std::string("<domain type='kvm'/>"),
       }) {
    const auto refused = made(text);
    EXPECT_FALSE(refused) << text.substr(0, 100);
  }
}

// Libvirt makes a thing for each, and ends its process where memory lacks.
TEST(TransformTest, NumbersAreNotLargerThanAMachine) {
  for (const char* devices : {
           "<controller type='pci' index='4294967295' model='pcie-root-port'/>",
           "<controller type='scsi' index='0x10000' model='virtio-scsi'/>",
           "<controller type='virtio-serial' ports='99999999999999999999'/>",
           "<input type='tablet' bus='usb'><address type='usb' bus='4294967295'/></input>",
           "<hub type='usb'><address type='drive' controller='4294967295'/></hub>",
       }) {
    const std::string xml = xml_of(domain(devices));
    EXPECT_THAT(xml, Not(testing::ContainsRegex("4294967295|0x10000|99999"))) << devices;
  }
  const std::string many = domain("", "<iothreads>4294967295</iothreads><vcpus/>");
  EXPECT_THAT(xml_of(many), Not(HasSubstr("4294967295")));
  std::string processors = domain("");
  processors.replace(processors.find("<vcpu>1<"), 8, "<vcpu>4294967295<");
  EXPECT_EQ(made(processors).error().code, ErrorCode::kInvalidArgument);
  std::string crowd;
  for (int i = 0; i < 2000; ++i) crowd += "<hub type='usb'/>";
  EXPECT_EQ(made(domain(crowd)).error().code, ErrorCode::kTooLarge);
  EXPECT_THAT(xml_of(domain("<video><model type='vga' vram='16384'/></video>")),
              HasSubstr("vram='16384'"));
}

TEST(TransformTest, VariablesOfAnotherPlatformAreNotWritten) {
  NewVm vm = new_vm("");
  vm.definition.platform = "hyperv";
  vm.definition.nvram = "x";

  const auto domain = make_domain(vm, networks(), target_host());

  ASSERT_TRUE(domain) << to_text(domain.error());
  EXPECT_EQ(domain->nvram, "");
}

TEST(TransformTest, RefusesDisksThatCannotBe) {
  const std::string second =
      "<disk type='file' device='cdrom'><target dev='{}' bus='{}'/><readonly/></disk>";
  EXPECT_TRUE(made(domain(fmt::format(fmt::runtime(second), "sda", "sata"))));
  EXPECT_FALSE(made(domain(fmt::format(fmt::runtime(second), "vda", "sata"))));
  EXPECT_FALSE(made(domain(fmt::format(fmt::runtime(second), "sda", "EVIL"))));
  EXPECT_FALSE(made(domain(fmt::format(fmt::runtime(second), "/dev/sda", "sata"))));

  NewVm vm = new_vm(domain(""));
  vm.disks.push_back({.name = "vdz", .id = "serial:S9", .overlay_path = "/o/vdz.qcow2"});
  const auto unknown = make_domain(vm, networks(), target_host());
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().what, HasSubstr("vdz"));
}

TEST(TransformTest, DisksAreKnownByTheirIdentity) {
  NewVm vm =
      new_vm(domain("<disk type='file' device='disk'><driver type='qcow2'/>"
                    "<source file='/a/two'/><target dev='sda' bus='scsi'/></disk>"));
  vm.disks[0].name = "sda";  // What is serial:S1 was called so when it was first copied.
  vm.disks.push_back({.name = "vda", .id = "file:/a/two", .overlay_path = "/o/two.qcow2"});

  const auto domain = make_domain(vm, networks(), target_host());

  ASSERT_TRUE(domain) << to_text(domain.error());
  const auto shape = read_domain(domain->xml, networks());
  ASSERT_TRUE(shape);
  ASSERT_EQ(shape->disks.size(), 2U);
  EXPECT_EQ(shape->disks[0].name, "vda");
  EXPECT_EQ(shape->disks[0].path, "/o/vda.qcow2");
  EXPECT_EQ(shape->disks[1].name, "sda");
  EXPECT_EQ(shape->disks[1].path, "/o/two.qcow2");
}

TEST(TransformTest, WhatIsLeftOutOrChangedHasARow) {
  const auto domain_made = made(domain(
      "<hostdev mode='subsystem' type='usb'/><unheard-of/>"
      "<disk type='file' device='cdrom'><source file='/x.iso'/><target dev='sda' bus='sata'/>"
      "<readonly/></disk><graphics type='vnc' port='5901'/>"
      "<interface type='bridge'><mac address='52:54:00:00:00:01'/><model "
      "type='e1000'/></interface>",
      "<genid>00000000-0000-0000-0000-000000000001</genid><cputune><shares>2</shares></cputune>"
      "<cpu mode='host-passthrough'/><features><hyperv><relaxed state='on'/></hyperv></features>"));

  ASSERT_TRUE(domain_made) << to_text(domain_made.error());
  const auto rule = [&](const char* what) {
    const msg::PlanRow* row = row_of(*domain_made, what);
    EXPECT_NE(row, nullptr) << what;
    return row == nullptr ? msg::PlanRule{9} : row->rule;
  };
  EXPECT_EQ(rule("passed-through device"), msg::PlanRule::dropped);
  EXPECT_EQ(rule("devices/unheard-of"), msg::PlanRule::dropped);
  EXPECT_EQ(rule("processor limits and pinning"), msg::PlanRule::dropped);
  EXPECT_EQ(rule("drive sda"), msg::PlanRule::mapped);
  EXPECT_EQ(rule("display"), msg::PlanRule::mapped);
  EXPECT_EQ(rule("generation id"), msg::PlanRule::mapped);
  EXPECT_EQ(rule("processor model"), msg::PlanRule::mapped);
  EXPECT_EQ(rule("memory"), msg::PlanRule::kept);
  EXPECT_EQ(rule("processors"), msg::PlanRule::kept);
  EXPECT_EQ(rule("machine"), msg::PlanRule::kept);
  EXPECT_EQ(rule("disk vda"), msg::PlanRule::kept);
  const msg::PlanRow* card = row_of(*domain_made, fmt::format("network card {}", kMac));
  ASSERT_NE(card, nullptr);
  EXPECT_EQ(card->target, "e1000, prod");
  for (const msg::PlanRow& row : domain_made->rows) {
    EXPECT_TRUE(row.rule == msg::PlanRule::kept || row.source == row.target || !row.note.empty() ||
                row.what.starts_with("network card"))
        << to_text(row);
  }
}

TEST(TransformTest, WithKvmTheProcessorIsPassedOn) {
  const std::string text = domain(
      "",
      "<cpu mode='host-passthrough' migratable='on'><topology sockets='1' cores='2' threads='1'/>"
      "</cpu><features><kvm><hidden state='on'/></kvm></features>");

  EXPECT_THAT(xml_of(text, "kvm"), HasSubstr("mode='host-passthrough'"));
  EXPECT_THAT(xml_of(text, "kvm"), HasSubstr("<hidden state='on'/>"));
  EXPECT_THAT(xml_of(text, "qemu"), HasSubstr("mode='maximum'"));
  EXPECT_THAT(xml_of(text, "qemu"), Not(HasSubstr("hidden")));
  EXPECT_THAT(xml_of(text, "qemu"), HasSubstr("cores='2'"));
}

// Whatever a definition is, it is refused, or makes a domain that names nothing of its own.
TEST(TransformTest, DamagedDefinitionsDoNoHarm) {
  SeededRandom random(11);
  const std::string good = domain(
      "<controller type='scsi' index='0' model='virtio-scsi'><address type='pci' bus='0x03'/>"
      "</controller><video><model type='vga' vram='16384'/></video><rng model='virtio'>"
      "<backend model='random'>/dev/EVIL</backend></rng><serial type='pty'><source path='/EVIL'/>"
      "<target type='isa-serial' port='0'/></serial>",
      "<features><acpi/></features><cpu mode='custom'><model>EPYC</model></cpu>");
  int accepted = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text = good;
    for (std::uint64_t cuts = 1 + random.below(3); cuts > 0; --cuts) {
      const std::size_t at = random.below(text.size());
      switch (random.below(3)) {
        case 0:
          text[at] = static_cast<char>(random.below(256));
          break;
        case 1:
          text.erase(at, random.below(20));
          break;
        default:
          text.insert(at, good.substr(random.below(good.size()), random.below(60)));
      }
    }
    const auto domain = made(text);
    if (!domain) continue;
    ++accepted;
    ASSERT_THAT(domain->xml, Not(HasSubstr("EVIL"))) << text;
    ASSERT_TRUE(read_domain(domain->xml, networks())) << text;
  }
  EXPECT_GT(accepted, 100);
}

TEST(BootFileTest, OnlyPlainNamesInTheFolder) {
  const test::TempFolder folder;
  std::filesystem::create_directory(folder / "boot");
  std::ofstream(folder / "boot/vmlinuz") << "k";
  std::ofstream(folder / "secret") << "s";
  std::filesystem::create_symlink(folder / "secret", folder / "boot/link");
  std::filesystem::create_directory(folder / "boot/sub");
  const auto code = [&](const std::string& name) {
    const auto path = boot_file(folder / "boot", name);
    return path ? ErrorCode{} : path.error().code;
  };

  EXPECT_EQ(code("vmlinuz"), ErrorCode{});
  EXPECT_EQ(code("missing"), ErrorCode::kNotFound);
  for (const std::string& name :
       {std::string(""), std::string("."), std::string(".."), std::string("../secret"),
        folder / "secret", std::string("link"), std::string("sub"), std::string("a,b"),
        std::string("vmlinuz\0x", 9), std::string(300, 'x')}) {
    EXPECT_EQ(code(name), ErrorCode::kForbidden) << name;
  }
  EXPECT_EQ(boot_file("", "vmlinuz").error().code, ErrorCode::kForbidden);
}

TEST(DefinitionTest, WhatChangesByItselfIsNotInTheText) {
  const auto text = [](const std::string& xml) {
    const auto document = XmlDocument::parse(xml);
    EXPECT_TRUE(document);
    return normal_text(document->root());
  };
  const std::string off =
      "<domain type='kvm'>\n  <name>a</name>\n  <os><kernel>/boot/k</kernel></os><devices>"
      "<disk type='file'><source file='/a'/><target dev='vda'/></disk>"
      "<channel type='unix'><target type='virtio' name='g'/></channel>"
      "<interface type='network'><source network='default'/></interface>"
      "<graphics type='vnc' autoport='yes'/></devices></domain>";
  const std::string running =
      "<domain type='kvm' id='7'><name>a</name><metadata>"
      "<f:vm xmlns:f='urn:farside:domain:1' item='i'/></metadata><os><kernel>/boot/k</kernel></os>"
      "<resource><partition>/machine</partition></resource><devices>"
      "<disk type='file'><source file='/a' index='3'/><backingStore/><target dev='vda'/>"
      "<alias name='virtio-disk0'/></disk><channel type='unix'><source mode='bind' path='/p'/>"
      "<target type='virtio' name='g' state='connected'/><alias name='channel0'/></channel>"
      "<interface type='network'><source network='default' portid='p' bridge='virbr0'/>"
      "<target dev='vnet0'/></interface><graphics type='vnc' port='5900' autoport='yes'/>"
      "</devices><seclabel type='dynamic'/></domain>";

  EXPECT_EQ(text(off), text(running));
  EXPECT_THAT(text(off), HasSubstr("<kernel>k</kernel>"));
  const std::string secrets = text(
      "<domain><q:commandline xmlns:q='urn:q'><q:arg value='SECRET'/></q:commandline>"
      "<sysinfo type='fwcfg'><entry name='x'>SECRET</entry></sysinfo><devices>"
      "<graphics type='vnc' passwd='SECRET'/></devices></domain>");
  EXPECT_THAT(secrets, Not(HasSubstr("SECRET")));
  EXPECT_THAT(secrets, HasSubstr("commandline"));
}

TEST(DefinitionTest, AVirtualTpmIsAProblemAtTheSource) {
  const auto shape = read_domain(
      domain("<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"), networks());

  ASSERT_TRUE(shape);
  EXPECT_THAT(shape->vm.problem,
              HasSubstr("has a virtual TPM, whose state is not replicated yet: remove it"));
}

class FirmwareTest : public testing::Test {
 protected:
  void add(const std::string& name, const std::string& features, std::size_t variables_bytes) {
    std::ofstream(folder_ / (name + ".code")) << "code";
    std::ofstream(folder_ / (name + ".vars")) << std::string(variables_bytes, 'v');
    std::ofstream(folder_ / (name + ".json")) << fmt::format(
        R"({{"interface-types":["uefi"],"mapping":{{"device":"flash","executable":{{"filename":
        "{0}.code","format":"raw"}},"nvram-template":{{"filename":"{0}.vars","format":"raw"}}}},
        "targets":[{{"architecture":"x86_64","machines":["pc-q35-*"]}}],"features":[{1}]}})",
        folder_ / name, features);
  }
  std::vector<Firmware> installed() const { return installed_firmware({folder_ / ""}); }
  Result<Firmware> choose(std::vector<std::string> features, std::uint64_t nvram_bytes,
                          const std::string& machine = "pc-q35-7.2") {
    return choose_firmware({.features = std::move(features),
                            .arch = "x86_64",
                            .machine = machine,
                            .nvram_bytes = nvram_bytes},
                           installed());
  }

  test::TempFolder folder_;
};

TEST_F(FirmwareTest, IsChosenByFeaturesMachineAndSizeOfVariables) {
  add("40-keys", R"("secure-boot","enrolled-keys","requires-smm")", 100);
  add("50-secure", R"("secure-boot","requires-smm")", 100);
  add("60-plain", R"("acpi-s3")", 100);
  add("70-small", R"("acpi-s3")", 10);
  std::ofstream(folder_ / "10-broken.json") << "{";
  std::ofstream(folder_ / "11-odd.json") << R"({"mapping":[],"interface-types":{}})";

  EXPECT_EQ(choose({}, 0)->loader, folder_ / "60-plain.code");
  EXPECT_EQ(choose({}, 0, "q35")->loader, folder_ / "60-plain.code");
  EXPECT_EQ(choose({}, 10)->loader, folder_ / "70-small.code");
  EXPECT_EQ(choose({"secure-boot"}, 0)->loader, folder_ / "50-secure.code");
  EXPECT_EQ(choose({"secure-boot", "enrolled-keys"}, 100)->loader, folder_ / "40-keys.code");
  std::filesystem::remove(folder_ / "40-keys.json");
  EXPECT_EQ(choose({"secure-boot", "enrolled-keys"}, 100)->loader, folder_ / "50-secure.code")
      << "the keys come with the variables";
  EXPECT_EQ(choose({"secure-boot", "enrolled-keys"}, 0).error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(choose({}, 0, "pc-i440fx-7.2").error().code, ErrorCode::kUnsupported);
  const auto none = choose({}, 77);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().what, HasSubstr("77 bytes"));
  EXPECT_THAT(none.error().advice, HasSubstr("ovmf"));
}

TEST_F(FirmwareTest, FeaturesOfASourceComeFromItsLoaderAndItsWords) {
  add("40-keys", R"("secure-boot","enrolled-keys","requires-smm")", 100);
  add("60-plain", R"("acpi-s3")", 100);
  const auto features = [&](const std::string& os) {
    const auto document = XmlDocument::parse("<os" + os + "</os>");
    EXPECT_TRUE(document);
    return features_of(document->root(), document->root().child("loader").text(), installed());
  };
  using testing::Contains;
  using testing::IsEmpty;

  EXPECT_THAT(features("><loader type='pflash'>" + (folder_ / "40-keys.code") + "</loader>"),
              Contains("enrolled-keys"));
  EXPECT_THAT(features("><loader type='pflash'>" + (folder_ / "60-plain.code") + "</loader>"),
              Not(Contains("secure-boot")));
  EXPECT_THAT(features("><loader type='pflash' secure='yes'>/elsewhere</loader>"),
              Contains("secure-boot"));
  EXPECT_THAT(features(" firmware='efi'><firmware><feature enabled='yes' name='enrolled-keys'/>"
                       "</firmware>"),
              Contains("enrolled-keys"));
  EXPECT_THAT(features("><loader type='rom'>/bios.bin</loader>"), IsEmpty());
}

TEST(Qcow2HeaderTest, ReadsWhatMattersAndRefusesTheRest) {
  std::string head("QFI\xfb\0\0\0\x03", 8);
  head.resize(112, '\0');
  head[24 + 6] = 0x10;  // 4096 bytes.
  head[103] = 104;      // Bytes of the header.

  const auto plain = parse_qcow2_header(head);
  ASSERT_TRUE(plain) << to_text(plain.error());
  EXPECT_EQ(plain->version, 3U);
  EXPECT_EQ(plain->bytes, 4096U);
  EXPECT_FALSE(plain->is_encrypted);
  std::string changed = head;
  changed[35] = 2;
  EXPECT_TRUE(parse_qcow2_header(changed)->is_encrypted);
  changed = head;
  changed[79] = 6;
  EXPECT_TRUE(parse_qcow2_header(changed)->is_corrupt);
  EXPECT_TRUE(parse_qcow2_header(changed)->has_data_file);
  changed = head;
  changed[7] = 2;
  EXPECT_EQ(parse_qcow2_header(changed)->version, 2U);
  changed[7] = 9;
  EXPECT_EQ(parse_qcow2_header(changed).error().code, ErrorCode::kUnsupported);
  changed = head;
  changed[15] = 100;  // A name of 1,000 bytes at byte 100.
  changed[18] = 3;
  EXPECT_EQ(parse_qcow2_header(changed).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(parse_qcow2_header(head.substr(0, 80)).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(parse_qcow2_header("raw").error().code, ErrorCode::kUnsupported);
  SeededRandom random(3);
  for (int i = 0; i < 2000; ++i) {
    changed = head;
    for (int k = 0; k < 4; ++k) changed[4 + random.below(108)] = static_cast<char>(random.next());
    const auto parsed = parse_qcow2_header(changed);
    EXPECT_TRUE(!parsed || parsed->backing.size() <= changed.size());
  }
}

}  // namespace
}  // namespace farside::agent::libvirt
