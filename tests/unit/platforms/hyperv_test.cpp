// The parts of the Hyper-V platform that need no host.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "common/wsman/wmi_path.h"
#include "services/agent/platforms/hyperv/host.h"
#include "services/agent/platforms/hyperv/shared_folders.h"
#include "services/agent/platforms/hyperv/switches.h"
#include "services/agent/platforms/hyperv/tracking.h"
#include "services/agent/platforms/hyperv/virtual_machine.h"
#include "services/agent/platforms/hyperv/vm_builder.h"
#include "tests/support/temp_folder.h"

namespace farside::agent::hyperv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using wsman::Instance;
using wsman::Value;

template <class T>
ErrorCode code(const Result<T>& result) {
  return result ? ErrorCode{0} : result.error().code;
}

// ---- Host

TEST(HostTest, WhatItSaysIsRecordedWhereNobodyElseLooks) {
  const test::TempFolder folder;
  const SystemClock clock;
  Host host({.target = {.url = "http://127.0.0.1:1/wsman"},
             .login = {.user = "x", .password = "y"},
             .record_folder = folder / "record"},
            *Switches::from_options({}), clock);

  EXPECT_FALSE(host.query("SELECT * FROM Msvm_ComputerSystem"));

  using std::filesystem::perms;
  const std::filesystem::path connection = folder / "record/connection-0001";
  EXPECT_TRUE(std::filesystem::exists(connection / "0001-request.xml"));
  EXPECT_EQ(std::filesystem::status(connection).permissions(), perms::owner_all);
}

// ---- Switches

TEST(SwitchesTest, NetworksAreSwitchesVlansOfThemOrNothing) {
  const auto switches = Switches::from_options(
      {{"prod", "switch:external"}, {"lab", "switch:external,vlan:7"}, {"dark", "isolated"}});
  ASSERT_TRUE(switches);
  const std::vector<std::string> there{"external", "other"};

  EXPECT_THAT(switches->names(there), ElementsAre("dark", "lab", "prod", "external", "other"));
  EXPECT_EQ(*switches->port_of("prod", there), (Port{.switch_name = "external", .vlan = 0}));
  EXPECT_EQ(*switches->port_of("lab", there), (Port{.switch_name = "external", .vlan = 7}));
  EXPECT_EQ(*switches->port_of("other", there), (Port{.switch_name = "other", .vlan = 0}));
  EXPECT_EQ(*switches->port_of("dark", there), Port{});
  EXPECT_FALSE(*switches->port_of("", there)) << "no port at all";
  EXPECT_EQ(code(switches->port_of("prod", {"other"})), ErrorCode::kNotFound);
  EXPECT_EQ(code(switches->port_of("no-such", there)), ErrorCode::kNotFound);
  for (const char* name : {"prod", "lab", "other", "dark"}) {
    EXPECT_EQ(switches->network_of(**switches->port_of(name, there)), name);
  }
}

TEST(SwitchesTest, RefusesWhatItDoesNotUnderstand) {
  for (const char* spec : {"", "bridge:br0", "switch:", "switch:a,vlan:", "switch:a,vlan:0",
                           "switch:a,vlan:4095", "switch:a,vlan:7x", "switch:,vlan:7"}) {
    const auto refused = Switches::from_options({{"net", spec}});
    ASSERT_FALSE(refused) << spec;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refused.error().what, HasSubstr("net"));
    EXPECT_FALSE(refused.error().advice.empty());
  }
}

// ---- Paths

TEST(SharedFoldersTest, TheDeepestFolderShowsAFile) {
  const auto folders = SharedFolders::from(
      {{.folder = R"(C:\)", .share = "c"}, {.folder = R"(C:\VMs\web\)", .share = "web"}});
  ASSERT_TRUE(folders);

  EXPECT_EQ(*folders->locate(R"(C:\VMs\db\a.vhdx)"),
            (SharePath{.share = "c", .path = R"(VMs\db\a.vhdx)"}));
  EXPECT_EQ(*folders->locate(R"(c:\vms\WEB\a.vhdx)"),
            (SharePath{.share = "web", .path = "a.vhdx"}));
  EXPECT_EQ(*folders->locate(R"(\\?\C:\VMs\website.vhdx)"),
            (SharePath{.share = "c", .path = R"(VMs\website.vhdx)"}));
  EXPECT_EQ(*folders->locate("C:/VMs/web"), (SharePath{.share = "web", .path = ""}));
  EXPECT_EQ(code(folders->locate(R"(D:\VMs\a.vhdx)")), ErrorCode::kNotFound);
  EXPECT_EQ(code(folders->locate(R"(C:\VMs\..\secret)")), ErrorCode::kInvalidArgument);
}

TEST(SharedFoldersTest, RefusesFoldersThatSayNothing) {
  EXPECT_EQ(code(SharedFolders::from({})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(SharedFolders::from({{.folder = "VMs", .share = "c"}})),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(SharedFolders::from({{.folder = R"(C:\a)", .share = ""}})),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(SharedFolders::from(
                {{.folder = R"(C:\a)", .share = "x"}, {.folder = R"(c:\A\)", .share = "y"}})),
            ErrorCode::kInvalidArgument);
}

TEST(SharedFoldersTest, PathsLeadFromAFolderToAFileAndBack) {
  const std::string from = R"(C:\Farside\vms\one)";
  const std::string to = R"(C:\Farside\replicas\item\base-vda.vhdx)";
  const std::string way = relative_windows_path(from, to);

  EXPECT_EQ(way, R"(..\..\replicas\item\base-vda.vhdx)");
  EXPECT_EQ(resolve_windows_path(from, way), to);
  EXPECT_EQ(relative_windows_path(R"(C:\a)", R"(C:\a\b\c.vhdx)"), R"(.\b\c.vhdx)");
  EXPECT_EQ(resolve_windows_path(R"(C:\a)", R"(.\b\c.vhdx)"), R"(C:\a\b\c.vhdx)");
  EXPECT_EQ(relative_windows_path(R"(D:\a)", to), "");
  EXPECT_EQ(join_windows_path(R"(C:\a\)", "b/c"), R"(C:\a\b\c)");
  EXPECT_EQ(windows_folder_of(to), R"(C:\Farside\replicas\item)");
}

// ---- Virtual machines

Instance part(const std::string& class_name, const std::string& id, const char* sub_type,
              std::map<std::string, Value, std::less<>> more = {}) {
  more["InstanceID"] = Value::text(id);
  more["ResourceSubType"] = Value::text(sub_type);
  return {.class_name = class_name, .properties = std::move(more)};
}

std::string path_of(const std::string& class_name, const std::string& id) {
  return wsman::to_wmi_path(
      {.class_name = class_name, .keys = {{"InstanceID", id}}, .host = "HOST"});
}

constexpr const char* kResource = "Msvm_ResourceAllocationSettingData";

void add_disk(std::vector<Instance>& parts, const std::string& controller, int place,
              const std::string& file) {
  const std::string drive = controller + "\\" + std::to_string(place) + "\\D";
  parts.push_back(part(kResource, drive, kDiskDrive,
                       {{"Parent", Value::text(path_of(kResource, controller))},
                        {"AddressOnParent", Value::text(std::to_string(place))}}));
  parts.push_back(part("Msvm_StorageAllocationSettingData", drive + "L", kHardDisk,
                       {{"Parent", Value::text(path_of(kResource, drive))},
                        {"HostResource", Value::texts({file})}}));
}

RawVm raw_vm() {
  RawVm raw;
  raw.system = {.class_name = "Msvm_ComputerSystem",
                .properties = {{"Name", Value::text("5A1B0000-0000-4000-8000-00000000AAAA")},
                               {"ElementName", Value::text("web")},
                               {"EnabledState", Value::u16(2)}}};
  raw.settings = {
      .class_name = "Msvm_VirtualSystemSettingData",
      .properties = {{"InstanceID", Value::text("Microsoft:X")},
                     {"VirtualSystemSubType", Value::text("Microsoft:Hyper-V:SubType:2")},
                     {"Version", Value::text("9.0")},
                     {"AutomaticStartupAction", Value::u16(4)}}};
  raw.parts = {part(kResource, "S", kScsiController), part(kResource, "I", "some IDE controller")};
  return raw;
}

VirtualMachine read(const RawVm& raw) {
  return read_vm(raw,
                 *Switches::from_options({{"lab", "switch:external,vlan:7"}, {"dark", "isolated"}}),
                 {{"GUID-1", "external"}});
}

TEST(VirtualMachineTest, DisksCountFromIdeToScsiByTheirPlaces) {
  RawVm raw = raw_vm();
  add_disk(raw.parts, "S", 10, R"(C:\s10.vhdx)");
  add_disk(raw.parts, "S", 2, R"(C:\s2.avhdx)");
  add_disk(raw.parts, "I", 1, R"(C:\i1.VHDX)");

  const VirtualMachine vm = read(raw);

  EXPECT_EQ(vm.vm.problem, "");
  EXPECT_EQ(vm.vm.name, "web");
  EXPECT_EQ(vm.vm.state, msg::PowerState::running);
  EXPECT_EQ(vm.vm.generation, 2U);
  EXPECT_EQ(vm.startup_action, 4U);
  EXPECT_FALSE(vm.mark);
  ASSERT_EQ(vm.disks.size(), 3U);
  EXPECT_EQ(vm.disks[0].name + vm.disks[0].path, R"(vdaC:\i1.VHDX)");
  EXPECT_EQ(vm.disks[1].name + vm.disks[1].path, R"(vdbC:\s2.avhdx)");
  EXPECT_EQ(vm.disks[2].name + vm.disks[2].path, R"(vdcC:\s10.vhdx)");
}

TEST(VirtualMachineTest, SaysWhatKeepsItFromBeingProtected) {
  RawVm raw = raw_vm();
  EXPECT_THAT(read(raw).vm.problem, HasSubstr("no virtual hard disk"));
  add_disk(raw.parts, "S", 0, R"(C:\old.vhd)");
  EXPECT_THAT(read(raw).vm.problem, HasSubstr("Convert-VHD"));
  raw.parts.push_back(part(kResource, "P", kPhysicalDrive));
  EXPECT_THAT(read(raw).vm.problem, HasSubstr("directly"));
  raw.settings.properties["Version"] = Value::text("5.0");
  EXPECT_THAT(read(raw).vm.problem, HasSubstr("Update-VMVersion"));
}

TEST(VirtualMachineTest, NotesTellWhatIsOurs) {
  const Mark mark{.vm = "id-1", .item = "item-1", .is_test = true, .is_unfinished = true};
  std::string joined;
  for (const std::string& line : to_notes(mark)) joined += line + "\r\n";

  EXPECT_EQ(mark_from(to_notes(mark)), mark);
  EXPECT_EQ(mark_from({joined}), mark) << "hosts may join them";
  EXPECT_FALSE(mark_from({"an operator's note", "mentions farside-vm: id-1"}));
  EXPECT_FALSE(mark_from({}));
  RawVm raw = raw_vm();
  raw.settings.properties["Notes"] = Value::texts(to_notes(mark));
  EXPECT_EQ(read(raw).vm.id, "id-1") << "it is known by the id that Farside gave it";
  EXPECT_EQ(read(raw).guid, "5A1B0000-0000-4000-8000-00000000AAAA");
  EXPECT_TRUE(read(raw).vm.is_replica && read(raw).vm.is_test);
}

TEST(VirtualMachineTest, CardsAreOnSwitchesVlansNothingOrNowhere) {
  RawVm raw = raw_vm();
  const auto add_card = [&](const std::string& id, bool has_port, const char* guid) {
    raw.parts.push_back(part("Msvm_SyntheticEthernetPortSettingData", id, kNetworkCard,
                             {{"Address", Value::text("00155DABCDEF")}}));
    if (!has_port) return;
    Value host = Value::null();
    if (guid != nullptr) {
      host = Value::texts({wsman::to_wmi_path(
          {.class_name = "Msvm_VirtualEthernetSwitch", .keys = {{"Name", guid}}, .host = "HOST"})});
    }
    raw.parts.push_back(
        part("Msvm_EthernetPortAllocationSettingData", id + "\\C", kConnection,
             {{"Parent", Value::text(path_of("Msvm_SyntheticEthernetPortSettingData", id))},
              {"HostResource", host},
              {"LastKnownSwitchName", Value::text("gone")}}));
  };
  add_card("N1", true, "GUID-1");
  add_card("N2", true, "GUID-1");
  raw.parts.push_back(part("Msvm_EthernetSwitchPortVlanSettingData", "N2\\C\\V", "",
                           {{"AccessVlanId", Value::u16(7)}}));
  add_card("N3", true, nullptr);
  add_card("N4", false, nullptr);
  add_card("N5", true, "GUID-9");

  const auto nics = read(raw).vm.nics;

  ASSERT_EQ(nics.size(), 5U);
  EXPECT_EQ(nics[0].network, "external");
  EXPECT_EQ(nics[0].mac, "00:15:5d:ab:cd:ef");
  EXPECT_EQ(mac_address(nics[0].mac), "00155DABCDEF");
  EXPECT_EQ(nics[1].network, "lab");
  EXPECT_EQ(nics[2].network, "dark");
  EXPECT_EQ(nics[3].network, "");
  EXPECT_EQ(nics[4].network, "gone") << "a switch that is not there keeps its last name";
}

TEST(VirtualMachineTest, TheHostItselfIsNoVm) {
  EXPECT_TRUE(is_vm(raw_vm().system));
  EXPECT_FALSE(is_vm(
      {.class_name = "Msvm_ComputerSystem", .properties = {{"Name", Value::text("HYPERV-1")}}}));
}

TEST(GuestAddressTest, HasAMaskOrThePrefixOfItsKind) {
  EXPECT_EQ(parse_guest_address("10.1.2.3")->mask, "255.255.255.0");
  EXPECT_EQ(parse_guest_address("10.1.2.3/20")->mask, "255.255.240.0");
  EXPECT_EQ(parse_guest_address("10.1.2.3/0")->mask, "0.0.0.0");
  EXPECT_EQ(parse_guest_address("fd00::5/48")->mask, "48");
  EXPECT_TRUE(parse_guest_address("fd00::5")->is_v6);
  for (const char* text : {"", "10.1.2", "10.1.2.3/33", "10.1.2.3/", "10.1.2.3/x", "web"}) {
    EXPECT_EQ(code(parse_guest_address(text)), ErrorCode::kInvalidArgument) << text;
  }
}

// ---- What is remembered of points

TEST(TrackingTest, AnIdThatIsNoNameOfAFileTouchesNone) {
  const test::TempFolder folder;
  const auto tracking = Tracking::open(folder / "tracking");
  ASSERT_TRUE(tracking);
  std::ofstream(folder / "precious") << "x";

  EXPECT_FALSE(tracking->save({.vm = "../precious"}));
  EXPECT_FALSE(tracking->load("../precious"));

  EXPECT_TRUE(std::filesystem::exists(folder / "precious"));
}

TEST(TrackingTest, RemembersUntilThereIsNothingToRemember) {
  const test::TempFolder folder;
  const auto tracking = Tracking::open(folder / "tracking");
  ASSERT_TRUE(tracking);
  msg::StoredTracking record{.vm = "VM-1"};
  record.open.token = "t-1";
  record.points.push_back({.token = "t-0",
                           .reference_point = "Microsoft:RP",
                           .disks = {{.disk_id = "d", .change_id = "rct"}}});

  ASSERT_TRUE(tracking->save(record));
  EXPECT_EQ(*Tracking::open(folder / "tracking")->load("VM-1"), record);
  EXPECT_THAT(tracking->vms(), ElementsAre("VM-1"));
  EXPECT_EQ(*tracking->load("VM-2"), msg::StoredTracking{.vm = "VM-2"});

  ASSERT_TRUE(tracking->save({.vm = "VM-1"}));
  EXPECT_TRUE(tracking->vms().empty());
  ASSERT_TRUE(tracking->save({.vm = "VM-1"})) << "repeating it is fine";
}

TEST(TrackingTest, ADamagedRecordIsNoRecord) {
  const test::TempFolder folder;
  const auto tracking = Tracking::open(folder.path());
  std::ofstream(folder / "VM-1") << "no such struct";

  const auto record = tracking->load("VM-1");

  ASSERT_TRUE(record);
  EXPECT_TRUE(record->points.empty());
}

}  // namespace
}  // namespace farside::agent::hyperv
