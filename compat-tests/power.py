"""A disk whose power can be cut: ext4 in a file of its own, mounted through a loop device.

The cut is the kernel's own (FS_IOC_SHUTDOWN without a flush of the journal, what xfstests calls `godown`): from that moment on the
file system writes nothing any more, neither data nor journal. What was not synced is gone, file data as well as names; what the
next mount finds, after its recovery, is what a machine finds after a loss of power.
"""

import fcntl
import os
import pathlib
import shutil
import struct
import subprocess

# ioctl(2), linux/fs.h and ext4.h: _IOR('X', 125, __u32), EXT4_GOING_FLAGS_NOLOGFLUSH.
SHUTDOWN, WITHOUT_LOG_FLUSH = 0x8004587D, 2


class Disk:
    """The disk. A context manager: mounted on entry, unmounted on exit."""

    def __init__(self, folder: pathlib.Path, mib: int = 512):
        self.image = folder / "disk.img"
        self.root = folder / "disk"
        self.mib = mib
        self.mounted = False

    @staticmethod
    def why_not() -> str | None:
        """Why this machine cannot have one."""
        if os.geteuid() != 0:
            return "mounting a file system takes root"
        if not shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return "mkfs.ext4 (Debian: e2fsprogs) is not installed"
        if not pathlib.Path("/dev/loop-control").exists():
            return "there are no loop devices"
        return None

    def __enter__(self) -> "Disk":
        self.root.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(self.mib << 20)
        env = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True, env=env, stdin=subprocess.DEVNULL)
        self.mount()
        return self

    def __exit__(self, *_) -> None:
        if self.mounted:
            self.unmount()

    def mount(self) -> None:
        """Power is back: the journal is recovered."""
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.root)], check=True, stdin=subprocess.DEVNULL)
        self.mounted = True

    def unmount(self) -> None:
        """After a cut this writes nothing."""
        subprocess.run(["umount", str(self.root)], check=True, stdin=subprocess.DEVNULL)
        self.mounted = False

    def cut(self) -> None:
        """Power is gone, now."""
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", WITHOUT_LOG_FLUSH))
        finally:
            os.close(handle)
