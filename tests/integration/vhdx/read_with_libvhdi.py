"""Writes the contents of a VHDX disk to a file, as libvhdi reads them.

read_with_libvhdi.py OUTPUT FILE [PARENT...]     each file's parent follows it
"""

import sys

import pyvhdi

PART = 1 << 20


def main():
    files = []
    for path in sys.argv[2:]:
        image = pyvhdi.file()
        image.open(path)
        files.append(image)
    for child, parent in reversed(list(zip(files, files[1:]))):
        child.set_parent(parent)
    disk = files[0]
    size = disk.get_media_size()
    with open(sys.argv[1], "wb") as output:
        for offset in range(0, size, PART):
            output.write(disk.read_buffer_at_offset(min(PART, size - offset), offset))


main()
