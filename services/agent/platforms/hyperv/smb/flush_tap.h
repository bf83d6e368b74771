// SMB2 FLUSH for files that libsmbclient has open.
//
// libsmbclient has no fsync: its interface knows none, it drops O_SYNC on the way to the server (no
// FILE_WRITE_THROUGH in its Create), and closing a file flushes nothing (tried with 4.17 against
// smbd under strace).  The libraries below it do have FLUSH, but want the protocol's own handles.
// So this program defines smb2cli_write_send, through which every write of libsmbclient goes, ahead
// of the library that has it (a dynamic linker takes the program's first): it notes the handles and
// passes the call on.  FLUSH is then one call of smb2cli_flush with these handles.
//
// The libraries below libsmbclient promise no stable interface.  Therefore a write is only believed
// if its buffer, its length and its offset are the ones that were just handed to libsmbclient, and
// without such a write flush() says kUnsupported instead of claiming what it did not do.
// Source: Samba 4.17, libcli/smb/smbXcli_base.h (the two declarations); MS-SMB2 2.2.17 FLUSH.
//
// Owns: nothing; the noted handles are valid as long as the file is open.  Thread: one.
#pragma once

#include <cstdint>
#include <optional>

#include "common/base/result.h"

namespace farside::agent::smb {

struct WireHandle {
  void* connection = nullptr;
  void* session = nullptr;
  void* tree = nullptr;
  std::uint64_t persistent = 0;
  std::uint64_t volatile_part = 0;
};

// What is about to be handed to libsmbclient's write.
void expect_write(const char* bytes, std::size_t length, std::uint64_t offset);

// The handle that the write used; nothing if it did not come by, or came with other arguments.
std::optional<WireHandle> written_handle();

// Errors: kUnsupported (these libraries have no such call), kUnavailable, kIo.
Status flush(const WireHandle& handle, std::uint32_t timeout_ms);

}  // namespace farside::agent::smb
