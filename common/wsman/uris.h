// The names that WS-Management gives to things on the wire.
//
// Source: DMTF DSP0226 (WS-Management), DSP0227 (its WS-CIM binding), Microsoft [MS-WSMV].
#pragma once

namespace farside::wsman {

inline constexpr const char* kSoap = "http://www.w3.org/2003/05/soap-envelope";
inline constexpr const char* kAddressing = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
inline constexpr const char* kAnonymous =
    "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous";
inline constexpr const char* kEnumeration = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
inline constexpr const char* kTransfer = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
inline constexpr const char* kWsman = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd";
inline constexpr const char* kIdentity =
    "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd";
inline constexpr const char* kWql = "http://schemas.microsoft.com/wbem/wsman/1/WQL";
inline constexpr const char* kXsi = "http://www.w3.org/2001/XMLSchema-instance";
inline constexpr const char* kCim = "http://schemas.dmtf.org/wbem/wscim/1/common";
inline constexpr const char* kWsmanFault = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault";
inline constexpr const char* kFaultAction = "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault";

// Followed by the namespace and the class: ".../wmi/root/virtualization/v2/Msvm_ComputerSystem".
inline constexpr const char* kWmi = "http://schemas.microsoft.com/wbem/wsman/1/wmi/";
inline constexpr const char* kVirtualization = "root/virtualization/v2";

// The value of the Authorization header of a client that shows a TLS certificate.
inline constexpr const char* kCertificateProfile =
    "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual";

inline constexpr const char* kSoapContentType = "application/soap+xml;charset=UTF-8";

}  // namespace farside::wsman
