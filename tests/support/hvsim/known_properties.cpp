#include "tests/support/hvsim/known_properties.h"

#include <map>
#include <set>

namespace farside::hvsim {
namespace {

using Names = std::set<std::string, std::less<>>;

const Names kSetting{"InstanceID", "Caption", "Description", "ElementName"};

const Names kSystem{"VirtualSystemIdentifier",
                    "VirtualSystemType",
                    "VirtualSystemSubType",
                    "Notes",
                    "CreationTime",
                    "ConfigurationID",
                    "ConfigurationDataRoot",
                    "ConfigurationFile",
                    "SnapshotDataRoot",
                    "SuspendDataRoot",
                    "SwapFileDataRoot",
                    "LogDataRoot",
                    "AutomaticStartupAction",
                    "AutomaticStartupActionDelay",
                    "AutomaticStartupActionSequenceNumber",
                    "AutomaticShutdownAction",
                    "AutomaticRecoveryAction",
                    "RecoveryFile",
                    "BIOSGUID",
                    "BIOSSerialNumber",
                    "BaseBoardSerialNumber",
                    "ChassisSerialNumber",
                    "Architecture",
                    "ChassisAssetTag",
                    "BIOSNumLock",
                    "BootOrder",
                    "Parent",
                    "UserSnapshotType",
                    "IsSaved",
                    "AllowFullSCSICommandSet",
                    "DebugChannelId",
                    "DebugPortEnabled",
                    "DebugPort",
                    "Version",
                    "IncrementalBackupEnabled",
                    "VirtualNumaEnabled",
                    "AllowReducedFcRedundancy",
                    "BootSourceOrder",
                    "PauseAfterBootFailure",
                    "NetworkBootPreferredProtocol",
                    "GuestControlledCacheTypes",
                    "AutomaticSnapshotsEnabled",
                    "IsAutomaticSnapshot",
                    "GuestStateFile",
                    "GuestStateDataRoot",
                    "LockOnDisconnect",
                    "AutomaticCriticalErrorAction",
                    "AutomaticCriticalErrorActionTimeout",
                    "ConsoleMode",
                    "SecureBootEnabled",
                    "SecureBootTemplateId",
                    "LowMmioGapSize",
                    "HighMmioGapSize",
                    "EnhancedSessionTransportType"};

const Names kResource{"ResourceType",
                      "OtherResourceType",
                      "ResourceSubType",
                      "PoolID",
                      "ConsumerVisibility",
                      "HostResource",
                      "AllocationUnits",
                      "VirtualQuantity",
                      "VirtualQuantityUnits",
                      "Reservation",
                      "Limit",
                      "Weight",
                      "AutomaticAllocation",
                      "AutomaticDeallocation",
                      "Parent",
                      "Connection",
                      "Address",
                      "MappingBehavior",
                      "AddressOnParent",
                      "VirtualSystemIdentifiers"};

// What each class has beyond those of its base.
const std::map<std::string, Names, std::less<>> kResources{
    {"Msvm_ResourceAllocationSettingData", {}},
    {"Msvm_StorageAllocationSettingData",
     {"VirtualResourceBlockSize", "HostResourceBlockSize", "Access", "HostExtentStartingAddress",
      "HostExtentName", "HostExtentNameFormat", "CachingMode", "SnapshotId", "WriteHardeningMethod",
      "PersistentReservationsSupported", "StorageQoSPolicyID", "IOPSAllocationUnits", "IOPSLimit",
      "IOPSReservation", "IgnoreFlushes"}},
    {"Msvm_SyntheticEthernetPortSettingData",
     {"DesiredVLANEndpointMode", "OtherEndpointMode", "StaticMacAddress", "ClusterMonitored",
      "DeviceNamingEnabled", "AllowPacketDirect", "NumaAwarePlacement", "InterruptModeration",
      "MediaType"}},
    {"Msvm_EthernetPortAllocationSettingData",
     {"DesiredVLANEndpointMode", "OtherEndpointMode", "EnabledState", "LastKnownSwitchName",
      "RequiredFeatures", "RequiredFeatureHints", "TestReplicaPoolID", "TestReplicaSwitchName",
      "CompartmentGuid"}},
    {"Msvm_ProcessorSettingData",
     {"MaxProcessorsPerNumaNode", "MaxNumaNodesPerSocket", "LimitCPUID", "LimitProcessorFeatures",
      "HwThreadsPerCore", "EnableHostResourceProtection", "ExposeVirtualizationExtensions",
      "AllowACountMCount"}},
    {"Msvm_MemorySettingData",
     {"DynamicMemoryEnabled", "TargetMemoryBuffer", "SwapFilesInUse", "IsVirtualized",
      "HugePagesEnabled", "MaxMemoryBlocksPerNumaNode"}}};

const std::map<std::string, Names, std::less<>> kOthers{
    {"Msvm_VirtualSystemSettingData", kSystem},
    {"Msvm_EthernetSwitchPortVlanSettingData",
     {"AccessVlanId", "NativeVlanId", "OperationMode", "PvlanMode", "PrimaryVlanId",
      "SecondaryVlanId", "PruneVlanIdArray", "TrunkVlanIdArray", "SecondaryVlanIdArray"}},
    {"Msvm_GuestNetworkAdapterConfiguration",
     {"ProtocolIFType", "DHCPEnabled", "IPAddresses", "Subnets", "DefaultGateways", "DNSServers",
      "IPAddressOrigins"}}};

}  // namespace

std::string unknown_property(const Instance& instance) {
  const auto resource = kResources.find(instance.class_name);
  const auto other = kOthers.find(instance.class_name);
  for (const auto& [name, value] : instance.properties) {
    if (kSetting.contains(name)) continue;
    if (other != kOthers.end() && other->second.contains(name)) continue;
    if (resource != kResources.end() &&
        (kResource.contains(name) || resource->second.contains(name)))
      continue;
    return name;
  }
  return {};
}

}  // namespace farside::hvsim
