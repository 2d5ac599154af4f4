"""Runs a static Linux program on a processor that this machine is not: a small Linux boots in the emulator Bochs.

    run_in_bochs.py --kernel VMLINUZ --init INIT --work FOLDER PROGRAM "ARGUMENTS OF RUN 1" "ARGUMENTS OF RUN 2" ...

Bochs emulates a whole computer, so what runs in it is a kernel with an archive of three files in memory: INIT (made of
init.cc beside this file), PROGRAM and the list of commands. What they print goes over the emulated serial line to a
file here, and from there to stdout. The exit status is that of the first run that failed, else 0; a boot that hangs or
fails ends after --timeout seconds with 1. Nothing but FOLDER is written, and nothing needs privileges.
"""

import argparse
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

# Without KASLR and mitigations the boot is shorter. A kernel that panics stands still, and is seen to. Linux gives up
# all wide registers when the compacted form of their saved state has not the size it works out itself, as in Bochs; the
# plain form agrees.
KERNEL_OPTIONS = (
    "console=ttyS0,115200 loglevel=5 nokaslr mitigations=off panic=0 random.trust_cpu=on noxsaves clearcpuid=xsavec"
)
ISOLINUX = ("/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32")
BOCHS = """\
config_interface: textconfig
display_library: term
cpu: model={model}, count=1, ips=100000000, reset_on_triple_fault=0
memory: guest={memory}, host={memory}
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path="{image}", status=inserted
boot: cdrom
speaker: enabled=0
com1: enabled=1, mode=file, dev="{serial}"
clock: sync=none, time0=local
log: "{log}"
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
"""
DIRECTORY, REGULAR, CHARACTER = 0o040755, 0o100755, 0o020600


def archive_entry(number, name, mode, content=b"", device=(0, 0)):
    """One entry of a cpio archive in the "newc" format that kernels unpack: all numbers as eight hexadecimal digits."""
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def archive(files):
    """The first file system: the console that the kernel opens for its first process, and `files` (name to content)."""
    parts = [archive_entry(1, "dev", DIRECTORY), archive_entry(2, "dev/console", CHARACTER, device=(5, 1))]
    parts += [archive_entry(3 + k, name, REGULAR, content) for k, (name, content) in enumerate(files.items())]
    return b"".join(parts) + archive_entry(0, "TRAILER!!!", 0)


def make_image(work, kernel, files):
    """A CD image that boots `kernel` with `files` in memory."""
    tree = work / "cd"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for part in ISOLINUX:
        shutil.copy(part, tree)
    shutil.copyfile(kernel, tree / "kernel")
    (tree / "files").write_bytes(archive(files))
    (tree / "isolinux.cfg").write_text(
        f"DEFAULT linux\nPROMPT 0\nLABEL linux\n  KERNEL kernel\n  INITRD files\n  APPEND {KERNEL_OPTIONS}\n"
    )
    image = work / "cd.iso"
    boot = "-b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table".split()
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", image, *boot, tree], check=True)
    return image


class Emulator:
    """Bochs on a pseudo-terminal: it shows the emulated screen there, which nobody looks at."""

    def __init__(self, work, configuration):
        # Debian's Bochs has its debugger built in, which waits for a command before the first instruction.
        (work / "bochsrc").write_text(configuration)
        (work / "debugger").write_text("continue\n")
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="vt100")
            os.execvp("bochs", ["bochs", "-q", "-f", str(work / "bochsrc"), "-rc", str(work / "debugger")])

    def runs(self, seconds):
        """Empties the screen for a while; false once Bochs has ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.screen], [], [], left)[0]:
                try:
                    if not os.read(self.screen, 65536):
                        return False
                except OSError:
                    return False
        return True

    def stop(self):
        try:
            os.kill(self.pid, 9)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)
        os.close(self.screen)


def follow(emulator, serial, timeout):
    """Prints what the commands say; returns the exit status, or None when there is none to come."""
    end = time.monotonic() + timeout
    shown, alive = 0, True
    while alive and time.monotonic() < end:
        alive = emulator.runs(0.5)
        # The line in progress waits for its end.
        lines = serial.read_text(errors="replace").splitlines(keepends=True) if serial.exists() else []
        lines = [line.rstrip() for line in lines if line.endswith("\n")]
        started = next((k for k, line in enumerate(lines) if line.startswith("emulated")), len(lines))
        for line in lines[max(shown, started) :]:
            ended = re.fullmatch(r"emulated: exit status (\d+)", line)
            if ended:
                return int(ended[1])
            print(line, flush=True)
        shown = len(lines)
        if any("Kernel panic" in line for line in lines):
            return None
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kernel", required=True, type=Path, help="a bzImage with a serial console")
    parser.add_argument("--init", required=True, type=Path, help="init.cc of this folder, linked statically")
    parser.add_argument("--work", required=True, type=Path, help="folder for the image, the serial line and the log")
    parser.add_argument("--cpu", default="corei7_skylake_x", help="a processor of `bochs -help cpu` (%(default)s)")
    parser.add_argument("--memory", default=512, type=int, help="MiB (%(default)s)")
    parser.add_argument("--timeout", default=7200, type=float, help="seconds, boot included (%(default)s)")
    parser.add_argument("program", type=Path, help="linked statically")
    parser.add_argument("arguments", nargs="+", help="of one run each, separated by blanks")
    options = parser.parse_args()

    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    commands = "".join(f"/program {arguments}\n" for arguments in options.arguments)
    files = {"init": options.init.read_bytes(), "program": options.program.read_bytes(), "commands": commands.encode()}
    image = make_image(work, options.kernel, files)
    serial, log = work / "serial.txt", work / "bochs.log"
    serial.unlink(missing_ok=True)
    configuration = BOCHS.format(model=options.cpu, memory=options.memory, image=image, serial=serial, log=log)
    began = time.monotonic()
    emulator = Emulator(work, configuration)
    try:
        status = follow(emulator, serial, options.timeout)
    finally:
        emulator.stop()
    print(f"emulated {options.cpu}: {time.monotonic() - began:.0f} s")
    if status is None:
        print(f"the emulated machine did not get to the end; see {serial} and {log}")
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
