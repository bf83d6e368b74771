#!/usr/bin/python3
"""A second client, not ours, that logs in by NTLM over TLS.

usage: pywinrm_bound.py URL CA USER PASSWORD bound|unbound

Prints "known", or "refused".
"""

import sys

from winrm.exceptions import InvalidCredentialsError
from winrm.transport import Transport

IDENTIFY = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body>'
    '<wsmid:Identify xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"/>'
    '</s:Body></s:Envelope>')


def main():
    url, authority, user, password, binds = sys.argv[1:]
    host = Transport(endpoint=url, username=user, password=password, auth_method="ntlm",
                     message_encryption="never", read_timeout_sec=30,
                     server_cert_validation="validate", ca_trust_path=authority,
                     send_cbt=binds == "bound")
    try:
        reply = host.send_message(IDENTIFY)
    except InvalidCredentialsError:
        print("refused")
        return 0
    print("known" if b"Microsoft Corporation" in reply else reply)
    return 0


if __name__ == "__main__":
    sys.exit(main())
