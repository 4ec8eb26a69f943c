"""Attacks on the kernel and the host: system calls, mounts, namespaces, devices and knobs."""
import ctypes
import errno
import fcntl
import mmap
import os
import subprocess
import tempfile
import termios

from common import Contained, attack, call, first, in_child, libc, opened, past, syscall

NEW_USER, NEW_NS, NEW_NET = 0x10000000, 0x00020000, 0x40000000


@attack
def mount_new():
    """mounts a file system"""
    return past({errno.ENODEV}, call, "mount", b"none", b"/proc", b"no-such-type", 0, None)


@attack
def mount_new_call():
    """mounts by the newer calls (fsopen)"""
    return past({errno.ENODEV}, syscall, "fsopen", ctypes.c_char_p(b"no-such-type"), 0)


@attack
def mount_remount():
    """makes what is read-only writable"""
    # MS_REMOUNT and MS_BIND, in a namespace of its own where it makes one.
    def act():
        call("unshare", NEW_NS)
        call("mount", None, b"/proc", None, 32 | 4096, None)
        return "remounted"

    return in_child(act)


@attack
def mount_uncover():
    """takes away what covers other files"""
    # Not mounted: told only to who may.
    return past({errno.EINVAL}, call, "umount2", b"/proc/self", 2)


@attack
def mount_open_tree():
    """copies a mount (open_tree)"""
    return syscall("open_tree", -100, ctypes.c_char_p(b"/"), 1 | 0o2000000) and "copied"


@attack
def mount_in_user_namespace():
    """mounts as root of a user namespace of its own"""

    def act():
        call("unshare", NEW_USER | NEW_NS)
        call("mount", b"none", b"/proc", b"tmpfs", 0, None)
        return "mounted"

    return in_child(act)


@attack
def user_namespace():
    """makes a user namespace, where it has every right"""
    return in_child(lambda: call("unshare", NEW_USER) or "made")


@attack
def user_namespace_by_clone():
    """makes a user namespace by clone3"""

    def act():
        # Its flags, and SIGCHLD at the end.
        arguments = (ctypes.c_uint64 * 11)(NEW_USER, 0, 0, 0, 17)
        pid = syscall("clone3", arguments, 88)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return "made"

    return in_child(act)


@attack
def namespaces_of_host():
    """enters the namespaces of the host's init"""

    def act():
        own = os.stat("/proc/self/ns/mnt").st_ino
        descriptor = os.open("/proc/1/ns/mnt", os.O_RDONLY)
        if os.fstat(descriptor).st_ino == own != int(os.environ["HOST_MNT"]):
            raise Contained("there is no way to them")
        call("setns", descriptor, NEW_NS)
        return "entered"

    return in_child(act)


@attack
def chroot_escape():
    """leaves its root by chroot and the way up"""

    def act():
        outside = os.open("/", os.O_RDONLY)
        with tempfile.TemporaryDirectory() as folder:
            os.chroot(folder)
            os.fchdir(outside)
        os.chroot(".")
        return "left"

    return in_child(act)


@attack
def files_by_handle():
    """opens files by number, past all folders (open_by_handle_at)"""
    handle = (ctypes.c_uint32 * 4)(8, 1, 2, 0)
    descriptor = os.open("/", os.O_RDONLY)
    return past({errno.ESTALE, errno.EINVAL}, call, "open_by_handle_at", descriptor, handle, 0)


def write_in(folder):
    """A file without a name: nothing is left of it."""
    os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600))
    return "written"


@attack
def write_usr():
    """changes programs in /usr"""
    return write_in("/usr")


@attack
def write_etc():
    """changes the host's settings in /etc"""
    return write_in("/etc")


@attack
def write_boot():
    """changes what the host boots"""
    return write_in("/boot")


@attack
def write_var():
    """changes what others keep in /var"""
    return write_in("/var/lib")


@attack
def read_home():
    """reads the users' homes"""


    def read(folder):
        if not os.listdir(folder):
            raise Contained("they look empty")
        return "read"

    return first([lambda folder=folder: read(folder) for folder in ("/root", "/home")])


@attack
def read_shadow():
    """reads the host's passwords"""
    return opened("/etc/shadow")


@attack
def suid_make():
    """makes a program that runs as its owner"""
    with tempfile.NamedTemporaryFile(dir=os.environ["STATE_DIRECTORY"]) as file:
        os.chmod(file.name, 0o4755)
        if not os.stat(file.name).st_mode & 0o4000:
            raise Contained("the bit is dropped")
    return "made"


@attack
def suid_make_by_mode():
    """makes such a program as it creates it"""
    path = os.path.join(os.environ["STATE_DIRECTORY"], f"suid-{os.environ['WATT_WORKER']}")
    os.umask(0)
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o6755)
    os.unlink(path)
    if not os.fstat(descriptor).st_mode & 0o6000:
        raise Contained("the bit is dropped")
    return "made"


def rights(pid):
    with open(f"/proc/{pid}/status") as lines:
        fields = dict(line.split(":", 1) for line in lines)
    return fields["Uid"].split()[1], int(fields["CapEff"], 16)


@attack
def suid_use():
    """gains rights by a program of root's with that bit"""
    own_user, own = rights("self")
    # It waits for a password, for as long as the pipe is open.
    pipe = subprocess.PIPE
    child = subprocess.Popen(["/bin/su", "-c", "true"], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)
    try:
        child.stdout.read(1)
        user, gained = rights(child.pid)
    finally:
        child.kill()
        child.wait()
    if (user == own_user or user != "0") and not gained & ~own:
        raise Contained("it has no more rights than before")
    return "root"


@attack
def become_root():
    """becomes root"""

    def act():
        os.setresuid(0, 0, 0)
        # Mounting, debugging and the rest of what makes root.
        if not rights("self")[1] & 1 << 21:
            raise Contained("it is root, without root's rights")
        return "root"

    return in_child(act)


@attack
def capabilities_gain():
    """takes capabilities it does not have"""
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF, 0xFFFFFFFF, 0, 0x1FF, 0x1FF, 0])
    return in_child(lambda: call("capset", head, data) or "all")


def disk():
    """The first disk that the host has: the numbers of its device, and its name."""
    with open("/proc/partitions") as lines:
        major, minor, _, name = lines.read().split("\n")[2].split()
    return major, minor, name


def device(mode, number):
    """Makes a device node and opens it."""
    path = os.path.join(os.environ["STATE_DIRECTORY"], f"node-{os.environ['WATT_SERVICE']}")
    os.mknod(path, mode | 0o600, number)
    try:
        return opened(path)
    finally:
        os.unlink(path)


@attack
def device_make_disk():
    """makes a node of the host's disk, and opens it"""
    major, minor, _ = disk()
    return device(0o060000, os.makedev(int(major), int(minor)))


@attack
def device_make_memory():
    """makes a node of the host's memory, and opens it"""
    return device(0o020000, os.makedev(1, 1))


@attack
def device_disk():
    """opens the host's disk"""
    return opened(f"/dev/{disk()[2]}")


@attack
def device_memory():
    """opens the host's memory"""
    def content(path):
        # What is covered can be opened, and is nothing.
        with open(path, "rb", buffering=0) as file:
            if not file.read(1):
                raise Contained("it is empty")
        return "read"

    return first([lambda path=path: content(path) for path in ("/dev/port", "/dev/mem", "/proc/kcore")])


@attack
def terminal_inject():
    """types into a terminal of somebody, or as the user of its own (TIOCSTI)"""

    def type_into(path):
        fcntl.ioctl(os.open(path, os.O_RDWR | os.O_NOCTTY), termios.TIOCSTI, b" ")
        return "typed"

    def type_into_own():
        _, slave = os.openpty()
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        fcntl.ioctl(slave, termios.TIOCSTI, b" ")
        return "typed"

    terminals = [f"/dev/pts/{name}" for name in os.listdir("/dev/pts") if name.isdigit()] + ["/dev/tty"]
    return first([lambda path=path: type_into(path) for path in terminals] + [lambda: in_child(type_into_own)])


@attack
def knob_core_pattern():
    """has the kernel start a program of its choice at a crash"""
    return opened("/proc/sys/kernel/core_pattern", os.O_WRONLY)


@attack
def knob_sysctl():
    """changes settings of the kernel"""
    return opened("/proc/sys/kernel/panic", os.O_WRONLY)


@attack
def knob_sysrq():
    """restarts the host by sysrq"""
    return opened("/proc/sysrq-trigger", os.O_WRONLY)


@attack
def knob_sys():
    """changes devices and power by /sys"""
    paths = ("/sys/kernel/uevent_helper", "/sys/power/state", "/sys/kernel/mm/ksm/run", "/sys/kernel/profiling")
    return first([lambda path=path: opened(path, os.O_WRONLY) for path in paths])


@attack
def kernel_log():
    """reads the kernel's log"""

    def by_call():
        call("klogctl", 3, ctypes.create_string_buffer(16), 16)
        return "read"

    def by_file(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if not os.read(descriptor, 8192):
            raise Contained("it is empty")
        return "read"

    return first([by_call, lambda: by_file("/dev/kmsg"), lambda: by_file("/proc/kmsg")])


@attack
def kernel_log_forge():
    """writes into the kernel's log"""
    return opened("/dev/kmsg", os.O_WRONLY)


@attack
def kernel_module():
    """loads a kernel module"""
    return past({errno.ENOEXEC, errno.EFAULT}, syscall, "init_module", None, 0, None)


@attack
def kernel_exec():
    """loads another kernel (kexec)"""
    return past({errno.EINVAL, errno.EADDRNOTAVAIL, errno.EBUSY}, syscall, "kexec_load", 0, 0xFFFF, None, 0x7FFF)


@attack
def kernel_bpf():
    """loads a program into the kernel (bpf)"""
    # BPF_MAP_CREATE of an array with one entry.
    return syscall("bpf", 0, (ctypes.c_uint32 * 16)(2, 4, 8, 1), 64) and "made"


@attack
def kernel_perf():
    """watches all of a processor (perf_event_open)"""
    # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, of all processes on the first processor.
    attributes = (ctypes.c_uint32 * 28)(1, 112)
    return syscall("perf_event_open", attributes, -1, 0, -1, 0) and "watches"


@attack
def kernel_userfaultfd():
    """holds the kernel at a page fault (userfaultfd)"""
    return syscall("userfaultfd", 0) and "made"


@attack
def kernel_io_uring():
    """makes calls that no filter sees (io_uring)"""
    return syscall("io_uring_setup", 1, (ctypes.c_uint32 * 32)()) and "made"


@attack
def clock_set():
    """sets the clock"""
    # The time zone that the kernel has already.
    zone = (ctypes.c_int * 2)()
    call("gettimeofday", None, zone)
    return call("settimeofday", None, zone) or "allowed"


@attack
def clock_adjust():
    """makes the clock run wrong"""
    # ADJ_TICK, with the tick that it has.
    state = (ctypes.c_char * 256)()
    call("adjtimex", state)
    ctypes.c_uint32.from_buffer(state).value = 0x4000
    call("adjtimex", state)
    return "allowed"


@attack
def host_name():
    """changes the host's name"""
    # To what it is.
    name = os.uname().nodename.encode()
    return call("sethostname", name, len(name)) or "allowed"


@attack
def host_reboot():
    """restarts the host"""
    # Without the magic number.
    return past({errno.EINVAL}, call, "reboot", 0)


@attack
def host_swap():
    """takes the host's swap away"""
    return past({errno.ENOENT, errno.EINVAL}, call, "swapoff", b"/nonexistent")


@attack
def host_accounting():
    """writes about all processes (acct)"""
    return past({errno.ENOENT, errno.ENOSYS}, call, "acct", b"/nonexistent/file")


@attack
def host_quota():
    """reads the quotas of other users"""
    # Q_GETQUOTA for a user. There may be no quotas.
    buffer = ctypes.create_string_buffer(128)
    get_quota = ctypes.c_int(0x80000700)
    device = f"/dev/{disk()[2]}".encode()
    return past({errno.ESRCH, errno.ENOSYS}, call, "quotactl", get_quota, device, 12345, buffer)


@attack
def io_ports():
    """speaks to the hardware (ioperm)"""
    if not hasattr(libc, "ioperm"):
        raise Contained("there are none on this processor")
    return call("ioperm", ctypes.c_ulong(0x80), ctypes.c_ulong(1), 1) or "allowed"


@attack
def personality():
    """turns the randomness of addresses off"""
    return in_child(lambda: call("personality", ctypes.c_ulong(0x0040000)) and "set")


@attack
def memory_write_execute():
    """writes code and runs it"""
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    return "memory that is both"


def cgroup_files(*names):
    found = []
    for folder, folders, files in os.walk("/sys/fs/cgroup"):
        folders[:] = folders[:40] if folder.count("/") < 6 else []
        found += [os.path.join(folder, name) for name in names if name in files]
    if not found:
        raise Contained("none is seen")
    return found


@attack
def cgroup_leave():
    """moves itself out of its cgroup"""
    return first([lambda path=path: opened(path, os.O_WRONLY) for path in cgroup_files("cgroup.procs")])


@attack
def cgroup_limits():
    """raises its own limits"""
    files = cgroup_files("memory.limit_in_bytes", "memory.max", "pids.max")
    return first([lambda path=path: opened(path, os.O_WRONLY) for path in files])


@attack
def cgroup_release_agent():
    """has the kernel start a program when a cgroup of version 1 is empty"""
    return first([lambda path=path: opened(path, os.O_WRONLY) for path in cgroup_files("release_agent")])


@attack
def cgroup_mount():
    """mounts the cgroups anew, where they can be written"""

    def act():
        call("unshare", NEW_USER | NEW_NS | 0x02000000)
        call("mount", b"none", b"/sys/fs/cgroup", b"cgroup2", 0, None)
        return "mounted"

    return in_child(act)
