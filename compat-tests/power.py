"""A disk whose power can be cut: ext4 in a file of its own, mounted through a loop device.

The cut is the kernel's own (FS_IOC_SHUTDOWN without a flush of the journal, what xfstests calls `godown`): from that moment on the
file system writes nothing any more, neither data nor journal. What was not synced is gone, file data as well as names; what the
next mount finds, after its recovery, is what a machine finds after a loss of power.

Without a journal the kernel has no such cut: what waits in the cache of the device is written at the next chance. There the disk is
memory that is sealed against writes (F_SEAL_WRITE of memfd_create(2)): from that moment on every write to the device fails. Such a file
system keeps no order between two names but the one that fsync makes, so that it finds what a journal hides.
"""

import fcntl
import os
import pathlib
import shutil
import struct
import subprocess

# ioctl(2), linux/fs.h and ext4.h: _IOR('X', 125, __u32), EXT4_GOING_FLAGS_NOLOGFLUSH.
SHUTDOWN, WITHOUT_LOG_FLUSH = 0x8004587D, 2
# fcntl(2), linux/fcntl.h.
ADD_SEALS, SEAL_WRITE = 1033, 8
CHUNK = 1 << 20


class Disk:
    """The disk. A context manager: mounted on entry, unmounted on exit."""

    def __init__(self, folder: pathlib.Path, mib: int = 512, journal: bool = True):
        self.image = folder / "disk.img"
        self.root = folder / "disk"
        self.mib = mib
        self.journal = journal
        self.mounted = False
        self.memory: int | None = None
        # Whether the memory is sealed.
        self.dark = False
        self.env = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}

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
        kind = []
        if self.journal:
            self.image.touch()
        else:
            kind = ["-O", "^has_journal"]
            self.memory = os.memfd_create("disk", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
            self.image.symlink_to(f"/proc/{os.getpid()}/fd/{self.memory}")
        os.truncate(self.image, self.mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", *kind, str(self.image)], check=True, env=self.env, stdin=subprocess.DEVNULL)
        self.mount()
        return self

    def __exit__(self, *_) -> None:
        if self.mounted:
            self.unmount()
        if self.memory is not None:
            os.close(self.memory)
            self.memory = None

    def mount(self) -> None:
        """Power is back: the journal is recovered, or the file system checked, as any without one."""
        if self.dark:
            self.copy()
            check = subprocess.run(["e2fsck", "-f", "-y", str(self.image)], env=self.env, stdin=subprocess.DEVNULL, capture_output=True)
            # e2fsck(8): 1 is "errors corrected".
            assert check.returncode in (0, 1), check.stdout
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.root)], check=True, stdin=subprocess.DEVNULL)
        self.mounted = True

    def unmount(self) -> None:
        """After a cut this writes nothing."""
        subprocess.run(["umount", str(self.root)], check=True, stdin=subprocess.DEVNULL)
        self.mounted = False

    def cut(self) -> None:
        """Power is gone, now."""
        if not self.journal:
            fcntl.fcntl(self.memory, ADD_SEALS, SEAL_WRITE)
            self.dark = True
            return
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", WITHOUT_LOG_FLUSH))
        finally:
            os.close(handle)

    def copy(self) -> None:
        """What is on the disk, on another one that can be written."""
        self.image.unlink()
        with open(self.image, "wb") as image:
            image.truncate(self.mib << 20)
            for offset in range(0, self.mib << 20, CHUNK):
                part = os.pread(self.memory, CHUNK, offset)
                if part.strip(b"\0"):
                    os.pwrite(image.fileno(), part, offset)
        os.close(self.memory)
        self.memory, self.dark = None, False
