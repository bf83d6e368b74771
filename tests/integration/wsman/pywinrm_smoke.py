#!/usr/bin/python3
"""A second client, not ours, against a simulated host: NTLM with sealed messages.

usage: pywinrm_smoke.py URL USER PASSWORD

Prints the states of all systems that it sees and, in the last line, how many of them are virtual
machines.
"""

import re
import sys
import uuid

from winrm.exceptions import InvalidCredentialsError
from winrm.transport import Transport

SOAP = "http://www.w3.org/2003/05/soap-envelope"
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/*"


def transport(url, user, password):
    return Transport(endpoint=url, username=user, password=password, auth_method="ntlm",
                     message_encryption="always", read_timeout_sec=30,
                     server_cert_validation="ignore")


def identify():
    return (f'<s:Envelope xmlns:s="{SOAP}"><s:Header/><s:Body><wsmid:Identify xmlns:wsmid='
            '"http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"/></s:Body>'
            '</s:Envelope>')


def enumerate_vms(url):
    return (
        f'<env:Envelope xmlns:env="{SOAP}" xmlns:e="{ENUMERATION}" '
        'xmlns:adr="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
        'xmlns:ws="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"><env:Header>'
        f'<adr:To>{url}</adr:To><adr:ReplyTo><adr:Address>{ANONYMOUS}</adr:Address></adr:ReplyTo>'
        f'<adr:MessageID>uuid:{uuid.uuid4()}</adr:MessageID>'
        f'<ws:ResourceURI env:mustUnderstand="true">{WMI}</ws:ResourceURI>'
        f'<adr:Action env:mustUnderstand="true">{ENUMERATION}/Enumerate</adr:Action>'
        '</env:Header><env:Body><e:Enumerate><ws:OptimizeEnumeration/>'
        '<ws:MaxElements>100</ws:MaxElements>'
        '<ws:Filter Dialect="http://schemas.microsoft.com/wbem/wsman/1/WQL">'
        "select * from Msvm_ComputerSystem where Description = 'Microsoft Virtual Machine'"
        '</ws:Filter></e:Enumerate></env:Body></env:Envelope>')


def main():
    url, user, password = sys.argv[1:]
    right = transport(url, user, password)
    reply = right.send_message(identify())
    if b"Microsoft Corporation" not in reply:
        return f"no identity: {reply}"
    for _ in range(20):
        reply = right.send_message(enumerate_vms(url)).decode()
    if "EndOfSequence" not in reply:
        return f"no end: {reply}"
    try:
        transport(url, user, password + "!").send_message(identify())
        return "a wrong password was taken"
    except InvalidCredentialsError:
        pass
    print("states", *re.findall(r"<p:EnabledState>(\d+)<", reply))
    print(len(re.findall(r"<p:Msvm_ComputerSystem ", reply)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
