// The parts of the libvirt platform that need no libvirt.
#include <gmock/gmock.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/libvirt/kvm_probe.h"
#include "services/agent/platforms/libvirt/networks.h"
#include "services/agent/platforms/libvirt/program.h"
#include "services/agent/platforms/libvirt/starting_guests.h"
#include "services/agent/platforms/libvirt/transform.h"
#include "services/agent/platforms/libvirt/xml.h"
#include "services/agent/platforms/marks.h"

namespace farside::agent::libvirt {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "marks.XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Networks networks() {
  return *Networks::from_options(
      {{"prod", "bridge:br0"}, {"lab", "network:default"}, {"out", "user"}, {"in", "isolated"}});
}

XmlDocument parse(const std::string& text) {
  auto document = XmlDocument::parse(text);
  EXPECT_TRUE(document);
  return std::move(*document);
}

NewVm new_vm() {
  return NewVm{.shape = {.name = "web <1> & 'two'",
                         .memory_mib = 256,
                         .processors = 2,
                         .generation = 1,
                         .nics = {{.mac = "52:54:00:00:00:01", .network = "out", .address = ""},
                                  {.mac = "52:54:00:00:00:02", .network = "", .address = ""}},
                         .boot_kernel = "k",
                         .boot_initrd = "i",
                         .boot_command_line = "a=\"b\" c<d"},
               .id = "6b0f3f0e-0000-4000-8000-000000000009",
               .item_id = "item<7>",
               .is_test = true,
               .start = false,
               .disks = {{.name = "vda",
                          .bytes = 1048576,
                          .overlay_path = "/o/a & b.qcow2",
                          .nbd_socket = "/s/x.sock",
                          .nbd_export = "7/vda"}},
               .serial_log = ""};
}

TEST(DomainXmlTest, WhatIsWrittenReadsBackTheSame) {
  const Folder boot;
  for (const char* name : {"/k", "/i"}) std::ofstream(boot.path() + name) << "x";
  const NewVm vm = new_vm();
  const auto made = make_domain(vm, networks(),
                                {.type = "qemu",
                                 .emulator = "/usr/bin/q",
                                 .serial_log = "/l",
                                 .boot_folder = boot.path(),
                                 .firmware = {}});
  ASSERT_TRUE(made) << to_text(made.error());

  const auto shape = read_domain(made->xml, networks());

  ASSERT_TRUE(shape);
  EXPECT_TRUE(shape->is_ours);
  EXPECT_EQ(shape->item_id, vm.item_id);
  EXPECT_THAT(shape->overlays, ElementsAre(vm.disks[0].overlay_path));
  EXPECT_EQ(shape->vm.id, vm.id);
  EXPECT_EQ(shape->vm.name, vm.shape.name);
  EXPECT_EQ(shape->vm.memory_mib, 256U);
  EXPECT_EQ(shape->vm.processors, 2U);
  EXPECT_EQ(shape->vm.nics, vm.shape.nics);
  EXPECT_EQ(shape->vm.boot_kernel, vm.shape.boot_kernel);
  EXPECT_EQ(shape->vm.boot_initrd, vm.shape.boot_initrd);
  EXPECT_EQ(shape->vm.boot_command_line, vm.shape.boot_command_line);
  EXPECT_TRUE(shape->vm.is_test);
  EXPECT_EQ(shape->vm.problem, "");
  ASSERT_EQ(shape->disks.size(), 1U);
  EXPECT_TRUE(shape->disks[0].reads_network_view);
  EXPECT_EQ(shape->disks[0].bytes, 1048576U);
}

TEST(DomainXmlTest, SaysWhyAVmCannotBeProtected) {
  const auto problem = [](const std::string& disk) {
    return read_domain("<domain><devices>" + disk + "</devices></domain>", networks())->vm.problem;
  };

  EXPECT_THAT(problem(""), HasSubstr("no disk"));
  EXPECT_THAT(problem("<disk device='disk'><driver type='raw'/><source file='/a'/>"
                      "<target dev='vda'/></disk>"),
              HasSubstr("raw"));
  EXPECT_THAT(problem("<disk type='block' device='disk'><driver type='qcow2'/>"
                      "<source dev='/dev/sdb'/><target dev='vda'/></disk>"),
              HasSubstr("not a file"));
  EXPECT_THAT(
      problem("<disk device='disk'><driver type='qcow2'/><source file='/a'/>"
              "<backingStore type='file'><format type='raw'/><source file='/golden'>"
              "<encryption format='luks'/></source></backingStore><target dev='vda'/></disk>"),
      HasSubstr("encrypted"))
      << "whatever it stands on";
  EXPECT_THAT(problem("<disk device='disk'><driver type='qcow2'/><source file='/a'/>"
                      "<target dev='vda'/><serial>S</serial></disk><disk device='disk'>"
                      "<driver type='qcow2'/><source file='/b'/><target dev='vdb'/>"
                      "<serial>S</serial></disk>"),
              HasSubstr("disk vdb has the serial number"));
  EXPECT_THAT(problem("<disk device='disk'><driver type='qcow2'/><source file='/a'/>"
                      "<target dev='vda'/></disk><disk type='block' device='lun'>"
                      "<source dev='/dev/sdb'/><target dev='sdb'/></disk>"),
              HasSubstr("disk sdb is a LUN"));
  EXPECT_EQ(problem("<disk device='disk'><driver type='qcow2'/><source file='/a'/>"
                    "<target dev='vda'/></disk><disk device='cdrom'><driver type='raw'/>"
                    "<target dev='sda'/></disk>"),
            "");
}

TEST(DomainXmlTest, ABackupLeavesOutWhatIsNoWritableDisk) {
  const std::vector<DiskShape> disks = {
      {.name = "vda", .path = "/a", .format = "qcow2"},
      {.name = "sda", .path = "", .format = "raw", .is_writable_disk = false}};
  const BackupDescription backup{
      .since = "s", .checkpoint = "c", .socket = "/x.sock", .scratch_prefix = "/scratch/vm"};

  const auto document = parse(write_backup(backup, disks));

  EXPECT_EQ(document.root().child("incremental").text(), "s");
  EXPECT_EQ(document.root().child("server").attribute("socket"), "/x.sock");
  const auto found = document.root().child("disks").children("disk");
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].attribute("backup"), "yes");
  EXPECT_EQ(found[0].child("scratch").attribute("file"), "/scratch/vm-vda.scratch");
  EXPECT_EQ(found[1].attribute("backup"), "no");
  const auto checkpoint = parse(write_checkpoint(backup, disks));
  EXPECT_EQ(checkpoint.root().child("disks").children("disk")[0].attribute("checkpoint"), "bitmap");
}

TEST(NetworksTest, EachKindOfNetworkBecomesACard) {
  const auto card = [](const std::string& network) {
    return *networks().card_xml(network, "52:54:00:00:00:01");
  };

  EXPECT_EQ(parse(card("prod")).root().child("source").attribute("bridge"), "br0");
  EXPECT_EQ(parse(card("lab")).root().child("source").attribute("network"), "default");
  EXPECT_EQ(parse(card("out")).root().child("link").attribute("state"), "up");
  EXPECT_EQ(parse(card("in")).root().child("link").attribute("state"), "down");
  EXPECT_EQ(parse(card("")).root().child("link").attribute("state"), "down");
  for (const char* name : {"prod", "lab", "out", "in"}) {
    EXPECT_EQ(networks().network_of(parse(card(name)).root()), name);
  }
  EXPECT_EQ(networks().card_xml("other", "").error().code, ErrorCode::kNotFound);
}

TEST(NetworksTest, RefusesWhatItDoesNotUnderstand) {
  for (const char* spec : {"", "bridge:", "br0", "vlan:3"}) {
    EXPECT_EQ(Networks::from_options({{"n", spec}}).error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(NetworksTest, OurNameWinsOverLibvirtsOwn) {
  Networks both = networks();
  both.add_libvirt_network("prod");
  both.add_libvirt_network("extra");

  EXPECT_THAT(both.names(), ElementsAre("extra", "in", "lab", "out", "prod"));
  EXPECT_THAT(*both.card_xml("prod", ""), HasSubstr("br0"));
}

TEST(MarksTest, AnIdThatIsNoNameOfAFileTouchesNone) {
  const Folder folder;
  const auto marks = Marks::open(folder.path() + "/m");
  ASSERT_TRUE(marks);
  std::ofstream(folder.path() + "/precious") << "x";

  for (const char* id : {"../precious", "../new", "..", ".", ""}) {
    EXPECT_FALSE(marks->add(id)) << id;
    EXPECT_FALSE(marks->remove(id)) << id;
    EXPECT_FALSE(marks->has(id)) << id;
  }

  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/precious"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/new"));
}

TEST(MarksTest, SurviveReopening) {
  const Folder folder;
  {
    const auto marks = Marks::open(folder.path() + "/m");
    ASSERT_TRUE(marks);
    ASSERT_TRUE(marks->add("b"));
    ASSERT_TRUE(marks->add("a"));
    ASSERT_TRUE(marks->add("a"));
    ASSERT_TRUE(marks->add("c"));
    ASSERT_TRUE(marks->remove("c"));
    ASSERT_TRUE(marks->remove("c"));
  }

  const auto marks = Marks::open(folder.path() + "/m");

  EXPECT_THAT(marks->all(), ElementsAre("a", "b"));
  EXPECT_TRUE(marks->has("a"));
  EXPECT_FALSE(marks->has("c"));
}

TEST(StartingGuestsTest, ARunIsNewUntilItIsOldOrWasThereBefore) {
  const StartingGuests::Instant t{};
  constexpr std::chrono::seconds kLong{90};
  StartingGuests guests(kLong, std::chrono::hours{5});
  guests.see({{"old", 1}}, t);
  guests.see({{"old", 1}, {"new", 2}}, t + kLong);

  EXPECT_FALSE(guests.is_starting("old", 1, t + kLong));
  EXPECT_TRUE(guests.is_starting("new", 2, t + kLong));
  EXPECT_TRUE(guests.is_starting("unseen", 3, t + kLong));
  EXPECT_FALSE(guests.is_starting("new", 2, t + 2 * kLong));
  EXPECT_TRUE(guests.is_starting("old", 4, t + 2 * kLong)) << "it was started again";
}

TEST(StartingGuestsTest, WhoAsksBeforeTheFirstLookMakesNoGuestNew) {
  const StartingGuests::Instant t{};
  StartingGuests guests(std::chrono::seconds{90}, std::chrono::hours{5});

  EXPECT_FALSE(guests.is_starting("old", 1, t));
  guests.see({{"old", 1}}, t);
  EXPECT_FALSE(guests.is_starting("old", 1, t));
}

TEST(StartingGuestsTest, WithoutATimeToStartNoneIsStarting) {
  const StartingGuests::Instant t{};
  StartingGuests guests(std::chrono::seconds{0}, std::chrono::hours{5});
  guests.see({}, t);

  EXPECT_FALSE(guests.is_starting("new", 1, t));
}

TEST(StartingGuestsTest, WithTheHostItsGuestsHaveStarted) {
  const StartingGuests::Instant t{};
  StartingGuests guests(std::chrono::seconds{90}, std::chrono::seconds{40});
  guests.see({{"web", 1}}, t);

  EXPECT_TRUE(guests.is_starting("web", 1, t));
}

TEST(XmlTest, EscapedTextReadsBack) {
  const std::string text = "a<b>&'\"c";

  const auto document = parse("<x y='" + xml_escape(text) + "'>" + xml_escape(text) + "</x>");

  EXPECT_EQ(document.root().attribute("y"), text);
  EXPECT_EQ(document.root().text(), text);
  EXPECT_EQ(document.root().child("none").child("none").attribute("z"), "");
  EXPECT_EQ(XmlDocument::parse("<x").error().code, ErrorCode::kCorrupt);
}

TEST(ProgramTest, GivesExitCodeAndOutputOrSaysWhatHappened) {
  const auto done =
      run_program({"sh", "-c", "echo out; echo err >&2; exit 3"}, std::chrono::seconds(20));
  ASSERT_TRUE(done);
  EXPECT_EQ(done->exit_code, 3);
  EXPECT_THAT(done->output, HasSubstr("out"));
  EXPECT_THAT(done->output, HasSubstr("err"));
  EXPECT_EQ(run_program({"no-such-program"}, std::chrono::seconds(1)).error().code,
            ErrorCode::kNotFound);
  EXPECT_EQ(run_program({"sleep", "60"}, std::chrono::milliseconds(50)).error().code,
            ErrorCode::kTimeout);
}

TEST(KvmProbeTest, AHypervisorThatDoesNotWorkIsNoKvm) {
  EXPECT_FALSE(kvm_boots("/no/such/emulator"));
  EXPECT_FALSE(kvm_boots("/bin/false"));
}

}  // namespace
}  // namespace farside::agent::libvirt
