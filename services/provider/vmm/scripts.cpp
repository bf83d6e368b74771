#include "services/provider/vmm/scripts.h"

#include <array>

namespace farside::provider::vmm {
namespace {

Script script(const std::string& name, const std::string& objects) {
  return {.name = name,
          .text = "# farside:" + name +
                  "\n"
                  "$ErrorActionPreference='Stop'\n"
                  "$ProgressPreference='SilentlyContinue'\n"
                  "Import-Module virtualmachinemanager\n"
                  "$s=Get-SCVMMServer -ComputerName localhost\n"
                  "$r=@(" +
                  objects +
                  ")\n"
                  "$j=ConvertTo-Json -InputObject $r -Depth 5 -Compress\n"
                  "[regex]::Replace($j,'[^\\x20-\\x7e]',"
                  "{param($m)'\\u{0:x4}' -f [int][char]$m.Value})\n"};
}

}  // namespace

std::span<const Script> scripts() {
  static const std::array kScripts{
      script("clouds",
             "Get-SCCloud -VMMServer $s|%{[pscustomobject]@{name=$_.Name;"
             "hostGroups=@($_.HostGroup|%{$_.Path});"
             "logicalNetworks=@(Get-SCLogicalNetwork -VMMServer $s -Cloud $_|%{$_.Name})}}"),
      script("host_groups", "Get-SCVMHostGroup -VMMServer $s|%{[pscustomobject]@{path=$_.Path}}"),
      script("hosts",
             "Get-SCVMHost -VMMServer $s|%{[pscustomobject]@{name=$_.ComputerName;"
             "group=$_.VMHostGroup.Path}}"),
      script("networks",
             "Get-SCVMNetwork -VMMServer $s|%{$n=$_;[pscustomobject]@{name=$n.Name;"
             "logicalNetwork=$n.LogicalNetwork.Name;"
             "subnets=@(Get-SCVMSubnet -VMMServer $s -VMNetwork $n|%{$v=$_;$v.SubnetVLans|"
             "%{[pscustomobject]@{name=$v.Name;cidr=$_.Subnet;vlan=[int]$_.VLanID}}})}}"),
      script("pools",
             "Get-SCStaticIPAddressPool -VMMServer $s|%{[pscustomobject]@{name=$_.Name;"
             "network=\"$($_.VMSubnet.VMNetwork.Name)\";"
             "logicalNetwork=\"$($_.LogicalNetworkDefinition.LogicalNetwork.Name)\";"
             "cidr=$_.Subnet;vlan=[int]$_.VLanID;"
             "from=$_.IPAddressRangeStart;to=$_.IPAddressRangeEnd}}"),
      script("classifications",
             "Get-SCStorageClassification -VMMServer $s|%{[pscustomobject]@{name=$_.Name}}"),
  };
  return kScripts;
}

}  // namespace farside::provider::vmm
