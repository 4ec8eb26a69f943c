//! The table of a sandbox.

use super::{
    ALL_OR_NONE, CALLS, KeyDef, Kind, NAMESPACES, PERSONALITY, PROFILE, PROTECT_HOME, PROTECT_PROC,
    PROTECT_SYSTEM, Preset, Table,
};

const BY_PROFILE: Preset = Preset::Derived("by profile");
const NO_PATHS: Preset = Preset::Unset("none");

const fn switch(name: &'static str, doc: &'static str) -> KeyDef {
    KeyDef { name, kind: Kind::Bool, default: BY_PROFILE, doc, example: "true" }
}

const fn paths(name: &'static str, kind: &'static Kind, doc: &'static str, example: &'static str) -> KeyDef {
    KeyDef { name, kind: Kind::List(kind), default: NO_PATHS, doc, example }
}

pub(crate) static SANDBOX: Table = Table {
    title: "sandbox",
    doc: "What services may see and do. Most switches have the name and the meaning they have in systemd.exec(5). [docs/sandbox.md](sandbox.md) shows what each profile sets, and what runtimes need. A relative path starts at the folder of the file; one after a `-` need not exist.",
    keys: &[
        KeyDef {
            name: "profile",
            kind: Kind::Words(&PROFILE),
            default: Preset::Derived("`standard`; in a service: the application's `sandbox`"),
            doc: "What the other switches start from.",
            example: r#""strict""#,
        },
        KeyDef {
            name: "required",
            kind: Kind::Bool,
            default: Preset::Derived("`false`"),
            doc: "Whether the service does not start where this host cannot do a switch. Otherwise the switch is left out, and `up`, `status` and `doctor` say so.",
            example: "true",
        },
        switch(
            "no_new_privileges",
            "No program gains rights by being executed: set-user-ID bits and file capabilities have no effect.",
        ),
        switch("private_tmp", "`/tmp`, `/var/tmp` and `/dev/shm` of its own, empty at each start."),
        switch("private_devices", "A `/dev` of its own with the pseudo devices alone."),
        KeyDef {
            name: "protect_system",
            kind: Kind::Either(&[Kind::Bool, Kind::Words(&PROTECT_SYSTEM)]),
            default: BY_PROFILE,
            doc: "How much of the system's files is read-only.",
            example: r#""full""#,
        },
        KeyDef {
            name: "protect_home",
            kind: Kind::Either(&[Kind::Bool, Kind::Words(&PROTECT_HOME)]),
            default: BY_PROFILE,
            doc: "What is seen of `/home`, `/root` and `/run/user`. The application's own folder is always there.",
            example: r#""read_only""#,
        },
        switch(
            "protect_services",
            "Folders of other services cannot be opened, but for those that are around its own or in it, nor what secrets are read from, nor sockets of programs that start processes for others: systemd's, D-Bus's, Docker's, Podman's, containerd's. The configuration cannot be written, and the application's folder not moved. A rule for paths that names one of them opens it.",
        ),
        switch(
            "protect_kernel_tunables",
            "`/proc/sys`, `/sys` and what else changes the kernel is read-only.",
        ),
        switch("protect_kernel_modules", "Kernel modules cannot be loaded, and are not seen."),
        switch("protect_kernel_logs", "The kernel's log is out of reach."),
        switch("protect_control_groups", "The cgroup file system is read-only."),
        switch("protect_clock", "The clock cannot be set."),
        switch("protect_hostname", "The host name cannot be set."),
        KeyDef {
            name: "protect_proc",
            kind: Kind::Words(&PROTECT_PROC),
            default: BY_PROFILE,
            doc: "Which processes are seen in `/proc`.",
            example: r#""invisible""#,
        },
        switch("private_pids", "A PID namespace of its own: no process of others is seen."),
        switch("private_ipc", "System V IPC and POSIX message queues of its own."),
        switch("private_cgroup", "A cgroup namespace of its own: its cgroup looks like the root."),
        switch(
            "private_users",
            "A user namespace of its own: its user and group are themselves there, and all others nobody. Its capabilities hold over what it makes, and over nothing of the host's: no port below 1024, no other owner for a file.",
        ),
        switch("private_keyring", "A session keyring of its own: keys of others are out of reach."),
        paths(
            "read_only_paths",
            &Kind::OptionalPath,
            "Paths that cannot be written, with all below.",
            r#"["/srv/data"]"#,
        ),
        paths(
            "read_write_paths",
            &Kind::OptionalPath,
            "Paths that can be written although what is around them cannot.",
            r#"["/srv/data/uploads"]"#,
        ),
        paths(
            "inaccessible_paths",
            &Kind::OptionalPath,
            "Paths that cannot be opened, with all below.",
            r#"["-/srv/backup"]"#,
        ),
        paths(
            "bind_paths",
            &Kind::BindPath,
            "Paths that are seen in other places: `source:target`, or one path for both.",
            r#"["/srv/data:/data"]"#,
        ),
        paths(
            "bind_read_only_paths",
            &Kind::BindPath,
            "The same, where they cannot be written.",
            r#"["/srv/models:/models"]"#,
        ),
        paths(
            "temporary_paths",
            &Kind::TemporaryPath,
            "Empty folders in memory, gone at the end. After a colon: `ro` for one that only shows what other rules bind into it, `mode=0755` (otherwise as `/tmp`), `size=64M`.",
            r#"["/var/cache", "/srv:ro,mode=0755"]"#,
        ),
        paths(
            "no_exec_paths",
            &Kind::OptionalPath,
            "Paths from which no program can be executed, with all below. What an interpreter reads is none.",
            r#"["/"]"#,
        ),
        paths(
            "exec_paths",
            &Kind::OptionalPath,
            "Paths from which programs can be executed although they cannot around it.",
            r#"["/usr", "/opt/shop/bin"]"#,
        ),
        KeyDef {
            name: "user",
            kind: Kind::Account,
            default: Preset::Derived("by profile: watt's own user, or a dynamic one"),
            doc: "The user it runs as, by name or number.",
            example: r#""www-data""#,
        },
        KeyDef {
            name: "group",
            kind: Kind::Account,
            default: Preset::Derived("the user's own"),
            doc: "The group it runs as.",
            example: r#""www-data""#,
        },
        KeyDef {
            name: "dynamic_user",
            kind: Kind::Bool,
            default: BY_PROFILE,
            doc: "Whether it runs as a user that nobody else is, another one for each service.",
            example: "true",
        },
        KeyDef {
            name: "supplementary_groups",
            kind: Kind::List(&Kind::Account),
            default: Preset::Unset("none"),
            doc: "Groups beside the user's own.",
            example: r#"["video"]"#,
        },
        KeyDef {
            name: "capabilities",
            kind: Kind::Either(&[Kind::Words(&ALL_OR_NONE), Kind::List(&Kind::Capability)]),
            default: BY_PROFILE,
            doc: "Capabilities it may ever have, with or without `CAP_`.",
            example: r#"["CAP_NET_BIND_SERVICE"]"#,
        },
        KeyDef {
            name: "ambient_capabilities",
            kind: Kind::List(&Kind::Capability),
            default: Preset::Unset("none"),
            doc: "Capabilities it has although it is not root.",
            example: r#"["CAP_NET_BIND_SERVICE"]"#,
        },
        KeyDef {
            name: "umask",
            kind: Kind::Umask,
            default: BY_PROFILE,
            doc: "Which mode bits a new file does not get, in octal digits.",
            example: r#""027""#,
        },
        KeyDef {
            name: "system_calls",
            kind: Kind::Either(&[Kind::Words(&CALLS), Kind::List(&Kind::SystemCall)]),
            default: BY_PROFILE,
            doc: "System calls it may make, by name or by systemd's groups: `[\"@system-service\"]`. After a `~` they are taken away, and after a colon stands how they fail: `[\"strict\", \"chroot\", \"~ptrace:EPERM\"]`. A list that begins with a `~` takes away from what the profile allows.",
            example: r#"["@system-service"]"#,
        },
        KeyDef {
            name: "system_call_error",
            kind: Kind::CallError,
            default: Preset::Derived("`EPERM`"),
            doc: "How a call fails that `system_calls` beside it refuses without an answer of its own: an error's name or number, or `kill` to end the process.",
            example: r#""kill""#,
        },
        KeyDef {
            name: "address_families",
            kind: Kind::Either(&[Kind::Words(&ALL_OR_NONE), Kind::List(&Kind::AddressFamily)]),
            default: BY_PROFILE,
            doc: "Kinds of sockets it may make, with or without `AF_`.",
            example: r#"["AF_UNIX", "AF_INET", "AF_INET6"]"#,
        },
        KeyDef {
            name: "restrict_namespaces",
            kind: Kind::Either(&[Kind::Bool, Kind::List(&Kind::Words(&NAMESPACES))]),
            default: BY_PROFILE,
            doc: "Namespaces can be neither made nor entered, but for kinds that are listed. Browsers make some for their own sandbox.",
            example: r#"["user", "pid", "net"]"#,
        },
        switch("restrict_realtime", "Realtime scheduling cannot be asked for."),
        switch("restrict_suid_sgid", "Set-user-ID and set-group-ID bits cannot be set on files."),
        switch(
            "memory_deny_write_execute",
            "No memory is both writable and executable. Just-in-time compilers need such memory: Node.js, Java, .NET, LuaJIT, PCRE.",
        ),
        KeyDef {
            name: "personality",
            kind: Kind::Words(&PERSONALITY),
            default: Preset::Unset("watt's own"),
            doc: "The execution domain (personality(2)) it starts in.",
            example: r#""linux32""#,
        },
        switch("lock_personality", "The execution domain (personality(2)) cannot be changed."),
        switch(
            "landlock",
            "Landlock keeps files of other services and of watt, abstract sockets and signals of others out of reach, a second time.",
        ),
    ],
    foreign: &[
        ("no_new_privs", "write `no_new_privileges`"),
        ("dynamicuser", "write `dynamic_user`"),
        ("groups", "write `supplementary_groups`"),
        ("cap_add", "write `capabilities`"),
        ("cap_drop", "write `capabilities`: what may be had"),
        ("capability_bounding_set", "write `capabilities`"),
        ("system_call_filter", "write `system_calls`"),
        ("seccomp", "write `system_calls`"),
        ("restrict_address_families", "write `address_families`"),
        ("tmpfs", "write `temporary_paths`"),
        ("private_network", "write `network: private` in the service"),
        ("preset", "write `profile`"),
        ("system_call_error_number", "write `system_call_error`"),
    ],
};
