#!/usr/bin/python3
"""A second client, not ours, against the shell of a simulated host.

usage: pywinrm_shell.py URL USER PASSWORD

Prints what the script about clouds says; fails if an unknown script does not.
"""

import base64
import sys

from winrm.protocol import Protocol


def run(protocol, script):
    shell = protocol.open_shell(codepage=65001)
    try:
        encoded = base64.b64encode(script.encode("utf_16_le")).decode()
        command = protocol.run_command(shell, "powershell", ["-EncodedCommand", encoded])
        try:
            return protocol.get_command_output(shell, command)
        finally:
            protocol.cleanup_command(shell, command)
    finally:
        protocol.close_shell(shell)


def main():
    url, user, password = sys.argv[1:]
    protocol = Protocol(endpoint=url, transport="ntlm", username=user, password=password,
                        message_encryption="always", server_cert_validation="ignore")
    for _ in range(10):  # More than a user may have at once.
        output, errors, code = run(protocol, "# farside:clouds\n1")
    if code != 0 or errors:
        return f"failed: {code} {errors}"
    _, errors, code = run(protocol, "# farside:nothing\n1")
    if code != 1 or b"nothing" not in errors:
        return f"an unknown script: {code} {errors}"
    sys.stdout.write(output.decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
