#!/usr/bin/env python3
"""Begins in a guest's QEMU what libvirt begins for a backup, and leaves it there: scratch images,
the NBD server, a job, bitmaps.  The guest's monitor must be free.

    half_backup.py FOLDER      libvirt's, with domain-N-NAME/monitor.sock in it
"""
import glob
import json
import os
import socket
import subprocess
import sys


class Monitor:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rw")
        self.lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                sys.exit(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


def main():
    folder = sys.argv[1]
    (path,) = glob.glob(folder + "/domain-*/monitor.sock")
    monitor = Monitor(path)
    nodes = monitor.ask("query-named-block-nodes", flat=True)
    disks = [n for n in nodes if n["node-name"].endswith("-format") and not n["ro"]]
    following = 1 + max(int(n["node-name"].split("-")[1]) for n in nodes if n["node-name"].startswith("libvirt-"))
    monitor.ask("nbd-server-start", addr={"type": "unix", "data": {"path": os.path.join(folder, "half.nbd")}})
    for number, disk in enumerate(disks):
        name = f"libvirt-{following + number}"
        image = os.path.join(folder, f"{number}.scratch")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, str(disk["image"]["virtual-size"])], check=True)
        os.chown(image, os.stat(folder).st_uid, os.stat(folder).st_gid)  # As libvirt does: QEMU's.
        monitor.ask("blockdev-add", driver="file", filename=image, **{"node-name": name + "-storage"})
        monitor.ask("blockdev-add", driver="qcow2", file=name + "-storage", **{"node-name": name + "-format"})
        monitor.ask("block-dirty-bitmap-add", node=disk["node-name"], name=f"backup-{number}")
        monitor.ask("block-dirty-bitmap-add", node=disk["node-name"], name="farside-never-noted", persistent=True)
        monitor.ask("blockdev-backup", device=disk["node-name"], target=name + "-format", sync="none",
                    **{"job-id": f"backup-{number}-{name}-format"})
    print(f"half a backup of {len(disks)} disks was begun")


main()
