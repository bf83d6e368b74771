// Virtual machines that clients make from nothing.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "common/wsman/wmi_path.h"
#include "tests/integration/hvsim/real_host_world.h"

namespace farside::hvsim {
namespace {

using wsman::Instance;
using wsman::Reference;
using wsman::service;
using wsman::Value;

const Reference kService = service("Msvm_VirtualSystemManagementService");

Instance controller() {
  return {"Msvm_ResourceAllocationSettingData",
          {{"ResourceType", Value::u16(6)},
           {"ResourceSubType", Value::text("Microsoft:Hyper-V:Synthetic SCSI Controller")}}};
}

Instance drive(const std::string& controller, int slot) {
  return {"Msvm_ResourceAllocationSettingData",
          {{"ResourceType", Value::u16(17)},
           {"ResourceSubType", Value::text("Microsoft:Hyper-V:Synthetic Disk Drive")},
           {"Parent", Value::text(controller)},
           {"AddressOnParent", Value::text(std::to_string(slot))}}};
}

Instance disk(const std::string& drive, const std::string& path) {
  return {"Msvm_StorageAllocationSettingData",
          {{"ResourceType", Value::u16(31)},
           {"ResourceSubType", Value::text("Microsoft:Hyper-V:Virtual Hard Disk")},
           {"Parent", Value::text(drive)},
           {"HostResource", Value::texts({path})}}};
}

Instance card(const std::string& mac) {
  return {"Msvm_SyntheticEthernetPortSettingData",
          {{"ResourceType", Value::u16(10)},
           {"ResourceSubType", Value::text("Microsoft:Hyper-V:Synthetic Ethernet Port")},
           {"Address", Value::text(mac)},
           {"StaticMacAddress", Value::flag(true)}}};
}

Instance connection(const std::string& card, const std::string& network) {
  return {"Msvm_EthernetPortAllocationSettingData",
          {{"ResourceType", Value::u16(33)},
           {"ResourceSubType", Value::text("Microsoft:Hyper-V:Ethernet Connection")},
           {"Parent", Value::text(card)},
           {"HostResource", Value::texts({network})}}};
}

struct DefineTest : testing::Test {
  RealHostWorld world;
  std::string guid;
  Reference settings;

  static std::string path_of(Reference reference) {
    reference.host = "HVSIM01";
    return wsman::to_wmi_path(reference);
  }

  void define(const std::string& name) {
    const auto done = world.call(
        kService, "DefineSystem",
        {{"SystemSettings",
          Value::embedded({"Msvm_VirtualSystemSettingData",
                           {{"ElementName", Value::text(name)},
                            {"VirtualSystemSubType", Value::text("Microsoft:Hyper-V:SubType:2")},
                            {"Notes", Value::texts({"first line", "second line"})}}})}});
    ASSERT_TRUE(done) << to_text(done.error());
    const auto system = done->output.reference("ResultingSystem");
    if (system) {
      guid = system->key("Name");
    } else {
      const auto made = wsman::affected_elements(world.client(), done->job, "Msvm_ComputerSystem");
      ASSERT_TRUE(made) << to_text(made.error());
      guid = made->at(0).text("Name");
    }
    settings = {.class_name = "Msvm_VirtualSystemSettingData",
                .keys = {{"InstanceID", "Microsoft:" + guid}}};
  }

  Result<Reference> add(const Instance& device) {
    FARSIDE_ASSIGN(const auto done,
                   world.call(kService, "AddResourceSettings",
                              {{"AffectedConfiguration", Value::reference(settings)},
                               {"ResourceSettings", Value::list({Value::embedded(device)})}}));
    auto made = done.output.reference("ResultingResourceSettings");
    if (made) return made;
    FARSIDE_ASSIGN(const auto found,
                   wsman::affected_elements(world.client(), done.job, device.class_name));
    return Reference{.class_name = found.at(0).class_name,
                     .keys = {{"InstanceID", found.at(0).text("InstanceID")}}};
  }

  // The witness's disks at an instant, as files of their own.
  std::vector<std::string> replicate() {
    std::vector<std::string> copies;
    const auto checkpoint = world.checkpoint(kWitness);
    EXPECT_TRUE(checkpoint) << to_text(checkpoint.error());
    std::filesystem::create_directories(world.file_of(R"(C:\VMs\replica)"));
    for (const std::string& path : world.frozen(*checkpoint)) {
      copies.push_back(R"(C:\VMs\replica\)" + path.substr(path.rfind('\\') + 1));
      std::filesystem::copy_file(world.file_of(path), world.file_of(copies.back()));
    }
    EXPECT_TRUE(world.convert(*checkpoint));
    return copies;
  }

  void make_replica(const std::vector<std::string>& files) {
    define("replica");
    const auto scsi = add(controller());
    ASSERT_TRUE(scsi) << to_text(scsi.error());
    for (std::size_t i = 0; i < files.size(); ++i) {
      const auto slot = add(drive(path_of(*scsi), static_cast<int>(i)));
      ASSERT_TRUE(slot) << to_text(slot.error());
      const auto attached = add(disk(path_of(*slot), files[i]));
      ASSERT_TRUE(attached) << to_text(attached.error());
      EXPECT_FALSE(add(disk(path_of(*slot), files[i]))) << "the drive is taken";
      EXPECT_FALSE(add(drive(path_of(*scsi), static_cast<int>(i)))) << "the slot is taken";
    }
  }
};

TEST_F(DefineTest, AVmMadeFromNothingGoesOnWithAHistory) {
  const std::uint64_t before = world.write_more(30);
  ASSERT_GT(before, 0u);
  const auto files = replicate();
  make_replica(files);
  const auto networks =
      world.client().query("SELECT * FROM Msvm_VirtualEthernetSwitch WHERE ElementName='isolated'");
  ASSERT_TRUE(networks);
  ASSERT_EQ(networks->size(), 1u);
  const auto nic = add(card("00155D0000AB"));
  ASSERT_TRUE(nic) << to_text(nic.error());
  const auto port =
      add(connection(path_of(*nic), path_of({.class_name = "Msvm_VirtualEthernetSwitch",
                                             .keys = {{"Name", networks->at(0).text("Name")}}})));
  ASSERT_TRUE(port) << to_text(port.error());
  EXPECT_EQ(world.client().get(*port)->text("LastKnownSwitchName"), "isolated");
  const Instance vlan{"Msvm_EthernetSwitchPortVlanSettingData",
                      {{"OperationMode", Value::u32(1)}, {"AccessVlanId", Value::u16(7)}}};
  const auto feature = world.call(kService, "AddFeatureSettings",
                                  {{"AffectedConfiguration", Value::reference(*port)},
                                   {"FeatureSettings", Value::list({Value::embedded(vlan)})}});
  ASSERT_TRUE(feature) << to_text(feature.error());
  EXPECT_EQ(world.client()
                .associators(*port, "Msvm_EthernetPortSettingDataComponent", "")
                ->at(0)
                .number_or("AccessVlanId", 0),
            7u);
  auto network = world.client().associators(*nic, "Msvm_SettingDataComponent",
                                            "Msvm_GuestNetworkAdapterConfiguration");
  ASSERT_TRUE(network);
  ASSERT_EQ(network->size(), 1u);
  const Instance address{"Msvm_GuestNetworkAdapterConfiguration",
                         {{"InstanceID", network->at(0).at("InstanceID")},
                          {"DHCPEnabled", Value::flag(false)},
                          {"IPAddresses", Value::texts({"10.9.8.7"})},
                          {"Subnets", Value::texts({"255.255.255.0"})}}};
  const auto set = world.call(kService, "SetGuestNetworkAdapterConfiguration",
                              {{"ComputerSystem", Value::reference(RealHostWorld::vm(guid))},
                               {"NetworkConfiguration", Value::list({Value::embedded(address)})}});
  ASSERT_TRUE(set) << to_text(set.error());

  const auto started = world.request_state(guid, 2);

  ASSERT_TRUE(started) << to_text(started.error());
  EXPECT_TRUE(world.wait_until([&] { return world.acknowledged(guid) > before; }))
      << world.serial(guid);
  EXPECT_TRUE(world.serial(guid).contains("witness: resumed seq="));
  EXPECT_TRUE(world.serial(guid).contains("mac=00:15:5d:00:00:ab"));
  const auto notes = world.client().get(settings)->texts("Notes");
  EXPECT_EQ(notes, (std::vector<std::string>{"first line", "second line"}));

  const Reference system = RealHostWorld::vm(guid);
  const auto too_early =
      world.call(kService, "DestroySystem", {{"AffectedSystem", Value::reference(system)}});
  ASSERT_FALSE(too_early);
  EXPECT_EQ(too_early.error().code, ErrorCode::kConflict);
  ASSERT_TRUE(world.request_state(guid, 3));
  const auto destroyed =
      world.call(kService, "DestroySystem", {{"AffectedSystem", Value::reference(system)}});
  ASSERT_TRUE(destroyed) << to_text(destroyed.error());
  EXPECT_FALSE(world.client().get(system));
  EXPECT_FALSE(world.client().get(*port));
  EXPECT_TRUE(std::filesystem::exists(world.file_of(files[0]))) << "the files stay";
}

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_F(DefineTest, AVmOnDifferencingDisksLeavesTheirParentsAlone) {
  const std::uint64_t before = world.write_more(30);
  ASSERT_GT(before, 0u);
  const auto parents = replicate();
  std::vector<std::string> children;
  for (const std::string& parent : parents) {
    children.push_back(parent.substr(0, parent.rfind('.')) + "-child.vhdx");
    const Instance wanted{"Msvm_VirtualHardDiskSettingData",
                          {{"Type", Value::u16(4)},
                           {"Format", Value::u16(3)},
                           {"Path", Value::text(children.back())},
                           {"ParentPath", Value::text(parent)}}};
    const auto made = world.call(service("Msvm_ImageManagementService"), "CreateVirtualHardDisk",
                                 {{"VirtualDiskSettings", Value::embedded(wanted)}});
    ASSERT_TRUE(made) << to_text(made.error());
  }
  const std::string parent_bytes = bytes_of(world.file_of(parents[0]));
  make_replica(children);

  const auto started = world.request_state(guid, 2);
  ASSERT_TRUE(started) << to_text(started.error());
  EXPECT_TRUE(world.wait_until([&] { return world.acknowledged(guid) > before; }))
      << world.serial(guid);
  // It has checkpoints, and changes, as any other.
  const auto first = world.checkpoint(guid);
  ASSERT_TRUE(first) << to_text(first.error());
  const auto point = world.convert(*first);
  ASSERT_TRUE(point) << to_text(point.error());
  ASSERT_TRUE(world.request_state(guid, 3));
  const std::uint64_t last = world.acknowledged(guid);
  const auto changed =
      world.changes(children[0], point->texts("ResilientChangeTrackingIdentifiers").at(0));
  EXPECT_TRUE(changed) << to_text(changed.error());
  EXPECT_TRUE(bytes_of(world.file_of(parents[0])) == parent_bytes);
  ASSERT_TRUE(world.request_state(guid, 2));
  EXPECT_TRUE(world.wait_until([&] { return world.acknowledged(guid) > last; }))
      << world.serial(guid);
}

TEST_F(DefineTest, ResultsMayComeThroughAJobOnly) {
  ASSERT_GT(world.write_more(5), 0u);
  world.process().order(R"({"do":"settings_by_job","on":true})");
  make_replica(replicate());
  ASSERT_TRUE(world.request_state(guid, 2));
  EXPECT_TRUE(world.wait_until([&] { return world.acknowledged(guid) > 0; }));
}

TEST_F(DefineTest, WhatIsWrongIsRefused) {
  define("wrong");
  const auto scsi = add(controller());
  ASSERT_TRUE(scsi);
  const auto slot = add(drive(path_of(*scsi), 0));
  ASSERT_TRUE(slot);

  EXPECT_FALSE(add(disk(path_of(*slot), R"(C:\VMs\nowhere.vhdx)"))) << "no such file";
  EXPECT_FALSE(add(disk(path_of(*scsi), R"(C:\VMs\deaf\a.vhdx)"))) << "a controller is no drive";
  EXPECT_FALSE(add(drive(path_of(settings), 1))) << "settings are no controller";
  EXPECT_FALSE(add(drive(path_of(*scsi), 64))) << "no such slot";
  EXPECT_FALSE(add(card("00155D"))) << "no MAC address";
  const auto nic = add(card("00155D0000AC"));
  ASSERT_TRUE(nic);
  EXPECT_FALSE(add(connection(path_of(*nic), path_of(*nic)))) << "a card is no switch";
  Instance misspelled = controller();
  misspelled.properties["ResourceTyp"] = Value::u16(6);
  EXPECT_FALSE(add(misspelled));
  // What failed left nothing behind.
  const auto parts = world.client().associators(settings, "Msvm_VirtualSystemSettingDataComponent",
                                                "Msvm_StorageAllocationSettingData");
  ASSERT_TRUE(parts);
  EXPECT_TRUE(parts->empty());
}

TEST_F(DefineTest, DisksAreMadeAndDescribed) {
  const Instance wanted{"Msvm_VirtualHardDiskSettingData",
                        {{"Type", Value::u16(3)},
                         {"Format", Value::u16(3)},
                         {"Path", Value::text(R"(C:\new.vhdx)")},
                         {"MaxInternalSize", Value::u64(std::uint64_t{64} << 20U)}}};
  const Reference images = service("Msvm_ImageManagementService");
  const auto made = world.call(images, "CreateVirtualHardDisk",
                               {{"VirtualDiskSettings", Value::embedded(wanted)}});
  ASSERT_TRUE(made) << to_text(made.error());

  const auto told = world.call(images, "GetVirtualHardDiskSettingData",
                               {{"Path", Value::text(R"(C:\new.vhdx)")}});

  ASSERT_TRUE(told) << to_text(told.error());
  const auto shape = told->output.instances("SettingData");
  ASSERT_TRUE(shape);
  EXPECT_EQ(shape->at(0).number_or("MaxInternalSize", 0), std::uint64_t{64} << 20U);
  EXPECT_EQ(shape->at(0).number_or("Type", 0), 3u);
  EXPECT_EQ(shape->at(0).text("VirtualDiskId").size(), 36u);
  EXPECT_FALSE(world.call(images, "CreateVirtualHardDisk",
                          {{"VirtualDiskSettings", Value::embedded(wanted)}}))
      << "it exists";
}

}  // namespace
}  // namespace farside::hvsim
