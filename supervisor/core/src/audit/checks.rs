//! What is checked: one row for each door, with what comes in by it, how much it weighs, and the switch that shuts it.
//!
//! Weights are by what an attacker gets: some 50 for a way to everything on the host or out of it, 20 to 30 for a way to a neighbour
//! or a large part of the kernel, 10 for one that needs something else besides, less for what only helps.

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Who it is and what rights it has.
    Rights,
    /// Files and devices.
    Files,
    /// The kernel's settings and interfaces.
    Kernel,
    /// System calls.
    SystemCalls,
    /// Other processes.
    Processes,
    /// The network.
    Network,
    /// What all share.
    Resources,
    /// Secrets, and watt itself.
    Control,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its name, unique.
    pub id: &'static str,
    /// What it is about.
    pub area: Area,
    /// How much it counts.
    pub weight: u32,
    /// The key of the configuration that shuts the door, within the service; after a `/` from the top of the file.
    pub key: &'static str,
    /// What an attacker who controls the service can do while it stands open.
    pub risk: &'static str,
}

macro_rules! checks {
    ($($variant:ident = $area:ident, $weight:literal, $id:literal, $key:literal: $risk:literal;)+) => {
        /// A door that can be shut.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the table has what each is about")]
        pub enum Check { $($variant),+ }

        impl Check {
            /// Every one, in the order they are shown.
            pub const ALL: &[Check] = &[$(Check::$variant),+];

            /// Its row of the table.
            pub const fn about(self) -> About {
                match self {
                    $(Check::$variant => About {
                        id: $id, area: Area::$area, weight: $weight, key: $key, risk: $risk,
                    }),+
                }
            }
        }
    };
}

checks! {
    User = Rights, 50, "user", "sandbox.dynamic_user":
        "acts as root, or as a user whose files and processes are others' too";
    NoNewPrivileges = Rights, 20, "no_new_privileges", "sandbox.no_new_privileges":
        "gains rights by executing sudo, su or another set-user-ID program";
    Capabilities = Rights, 40, "capabilities", "sandbox.capabilities":
        "uses root's rights one by one: loads code into the kernel, traces others, passes over file modes";
    SupplementaryGroups = Rights, 8, "supplementary_groups", "sandbox.supplementary_groups":
        "opens what members of its groups may open; docker, disk and some others are as good as root";
    Umask = Rights, 3, "umask", "sandbox.umask":
        "has its files read or changed by other users of the host";

    ProtectSystem = Files, 35, "protect_system", "sandbox.protect_system":
        "changes programs and settings of the host, and is back after it was cleaned up";
    ProtectHome = Files, 25, "protect_home", "sandbox.protect_home":
        "reads keys, tokens and history of the users in their homes";
    ProtectServices = Files, 25, "protect_services", "sandbox.protect_services":
        "reads and changes files of other services, sources of secrets and the configuration, and speaks to the host's managers";
    PrivateTmp = Files, 15, "private_tmp", "sandbox.private_tmp":
        "finds what others leave in /tmp and /dev/shm, and lays traps for them there";
    PrivateDevices = Files, 20, "private_devices", "sandbox.private_devices":
        "opens disks, memory and terminals of the host where file modes let it";
    Paths = Files, 15, "paths", "sandbox.read_write_paths":
        "writes in places of the host that rules open again";
    Executables = Files, 6, "no_exec_paths", "sandbox.no_exec_paths":
        "brings a program and executes it";
    Landlock = Files, 12, "landlock", "sandbox.landlock":
        "needs one mistake in the mounts to reach files, memory, signals and abstract sockets of others";

    KernelTunables = Kernel, 20, "protect_kernel_tunables", "sandbox.protect_kernel_tunables":
        "changes the kernel's settings, some of which start programs outside (core_pattern)";
    KernelModules = Kernel, 20, "protect_kernel_modules", "sandbox.protect_kernel_modules":
        "loads code into the kernel";
    KernelLogs = Kernel, 8, "protect_kernel_logs", "sandbox.protect_kernel_logs":
        "reads addresses and the doings of others in the kernel's log, or writes there";
    ControlGroups = Kernel, 15, "protect_control_groups", "sandbox.protect_control_groups":
        "leaves its cgroup, raises its limits, or freezes and kills others by theirs";
    Clock = Kernel, 8, "protect_clock", "sandbox.protect_clock":
        "sets the clock, by which certificates, logs and schedules go";
    HostName = Kernel, 4, "protect_hostname", "sandbox.protect_hostname":
        "changes the host's name";
    Namespaces = Kernel, 20, "restrict_namespaces", "sandbox.restrict_namespaces":
        "becomes root in a namespace of its own, where the kernel has had most of its holes";
    AddressFamilies = Kernel, 15, "address_families", "sandbox.address_families":
        "uses kinds of sockets that have holes, or lead out past every network namespace (vsock, Bluetooth)";
    Realtime = Kernel, 4, "restrict_realtime", "sandbox.restrict_realtime":
        "takes a CPU for itself by realtime scheduling";
    SuidSgid = Kernel, 10, "restrict_suid_sgid", "sandbox.restrict_suid_sgid":
        "leaves a program with its rights behind, for somebody else to use";
    WriteExecute = Kernel, 6, "memory_deny_write_execute", "sandbox.memory_deny_write_execute":
        "writes code into memory and runs it, which exploits begin with";
    Personality = Kernel, 3, "lock_personality", "sandbox.lock_personality":
        "turns off the randomness of addresses, which makes exploits easy";

    CallsClock = SystemCalls, 3, "system_calls:@clock", "sandbox.system_calls":
        "calls what sets the clock";
    CallsCpuEmulation = SystemCalls, 4, "system_calls:@cpu-emulation", "sandbox.system_calls":
        "reaches old and little tested code of the kernel (vm86, modify_ldt)";
    CallsDebug = SystemCalls, 8, "system_calls:@debug", "sandbox.system_calls":
        "traces other processes, and reaches perf_event_open";
    CallsKeyring = SystemCalls, 5, "system_calls:@keyring", "sandbox.system_calls":
        "reaches the kernel's keyrings, which have had holes";
    CallsModule = SystemCalls, 8, "system_calls:@module", "sandbox.system_calls":
        "calls what loads kernel modules";
    CallsMount = SystemCalls, 8, "system_calls:@mount", "sandbox.system_calls":
        "takes mounts away that its walls are made of, or mounts file systems of its own";
    CallsObsolete = SystemCalls, 2, "system_calls:@obsolete", "sandbox.system_calls":
        "reaches calls that nobody looks after any more";
    CallsPrivileged = SystemCalls, 10, "system_calls:@privileged", "sandbox.system_calls":
        "reaches what only root's programs need: bpf, open_by_handle_at, setuid";
    CallsRawIo = SystemCalls, 5, "system_calls:@raw-io", "sandbox.system_calls":
        "speaks to the hardware's ports";
    CallsReboot = SystemCalls, 4, "system_calls:@reboot", "sandbox.system_calls":
        "restarts the host, or boots another kernel";
    CallsResources = SystemCalls, 4, "system_calls:@resources", "sandbox.system_calls":
        "raises its own limits and priority, or lowers those of others";
    CallsSwap = SystemCalls, 3, "system_calls:@swap", "sandbox.system_calls":
        "takes the host's swap away";
    CallsIoUring = SystemCalls, 8, "system_calls:io_uring", "sandbox.system_calls":
        "has the kernel make calls that no filter sees, by code that had many holes";
    CallsUserfaultfd = SystemCalls, 4, "system_calls:userfaultfd", "sandbox.system_calls":
        "holds the kernel at a page fault, which turns small holes into certain ones";

    PrivatePids = Processes, 20, "private_pids", "sandbox.private_pids":
        "sees all processes, and signals, renices or traces those of its user";
    ProtectProc = Processes, 8, "protect_proc", "sandbox.protect_proc":
        "reads command lines of other processes, where passwords stand at times";
    PrivateIpc = Processes, 8, "private_ipc", "sandbox.private_ipc":
        "reads and fills shared memory and message queues of others";
    PrivateCgroup = Processes, 3, "private_cgroup", "sandbox.private_cgroup":
        "sees the names and places of all cgroups";
    PrivateKeyring = Processes, 6, "private_keyring", "sandbox.private_keyring":
        "uses the keys of other programs of its user";

    Network = Network, 45, "network", "network":
        "listens and sends on the host's network, reaches every port of localhost, and no list holds it";
    Egress = Network, 50, "egress.allow", "egress.allow":
        "sends out what it finds, fetches its tools, and attacks the networks the host is in";
    HostPorts = Network, 10, "egress.host_ports", "egress.host_ports":
        "speaks to servers on the host's localhost, which often ask no password";
    Policies = Network, 15, "policies", "/policies":
        "calls services that it has no business with";

    Memory = Resources, 30, "limits.memory", "limits.memory":
        "takes all memory, until the kernel kills others";
    Pids = Resources, 20, "limits.pids", "limits.pids":
        "starts processes until nobody can start one (fork bomb)";
    Cpu = Resources, 15, "limits.cpu", "limits.cpu":
        "takes all CPUs";
    OpenFiles = Resources, 4, "limits.nofile", "limits.nofile":
        "takes the host's file descriptors";
    Core = Resources, 4, "limits.core", "limits.core":
        "leaves its memory with all secrets in a core dump";
    Priority = Resources, 6, "scheduling", "scheduling":
        "goes before its neighbours, or is spared when memory runs out";

    Environment = Control, 15, "env", "secrets":
        "has secrets in its environment, which children inherit and crash reports copy";
    SecretFiles = Control, 5, "secrets", "sandbox.private_pids":
        "has its secrets in files that other processes of its user can read";
    Management = Control, 15, "management", "management":
        "asks watt to stop, start or change services, its walls among them";
    ControlSocket = Control, 4, "control.groups", "/control.groups":
        "depends on all members of some groups of the host, who may stop or change it";
    Required = Control, 3, "required", "sandbox.required":
        "starts all the same on a host that cannot do what its sandbox says";
}

impl Check {
    /// How much it counts.
    pub const fn weight(self) -> u32 {
        self.about().weight
    }

    /// Its name.
    pub const fn id(self) -> &'static str {
        self.about().id
    }
}

impl Area {
    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Area::Rights => "rights",
            Area::Files => "files and devices",
            Area::Kernel => "the kernel",
            Area::SystemCalls => "system calls",
            Area::Processes => "other processes",
            Area::Network => "the network",
            Area::Resources => "what all share",
            Area::Control => "secrets and control",
        }
    }
}

/// What all checks weigh together.
pub(super) fn weight_of_all() -> u32 {
    Check::ALL.iter().map(|check| check.weight()).sum()
}
