// Whom QEMU runs as on this host: where libvirt runs as root, a user of its own, who has nothing of
// the agent's.
#pragma once

#include <libvirt/libvirt.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside::agent::libvirt {

// Debian's, and so that of the driver inside this process, where this is root's.
inline constexpr const char* kQemuUserName = "libvirt-qemu";

struct QemuUser {
  uid_t uid = 0;
  gid_t gid = 0;
  bool operator==(const QemuUser&) const = default;
};

// None: as whoever runs libvirt, whom no folder of ours keeps out.  Errors: kUnavailable,
// kPlatform.
Result<std::optional<QemuUser>> qemu_user_of(virConnectPtr connection);

// The same from the text of libvirt's capabilities, the base label of the model "dac".  Errors:
// those of XmlDocument::parse().
Result<std::optional<QemuUser>> read_qemu_user(std::string_view capabilities);

// That of the driver inside this process.  None: this process is not root's, or the host has no
// user of that name, which libvirt refuses by itself.
std::optional<QemuUser> embedded_qemu_user();

// Whether QEMU can enter `folder`, tried as that user.  What cannot be tried (this process may not
// become somebody else) counts as allowed: QEMU will say.  Errors: kForbidden (names the folder
// that is closed to it).
Status check_entry(const std::string& folder, const QemuUser& user);

// Whether QEMU can read and write the device at `path`, tried likewise; none there: success.
// Errors: kForbidden.
Status check_device(const std::string& path, const QemuUser& user);

}  // namespace farside::agent::libvirt
