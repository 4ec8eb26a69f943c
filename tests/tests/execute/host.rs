//! What the translator asks of the host, and what systemd's program prepares on it before it runs its units.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use crate::{translate::Reason, unit::Unit};

/// The host.
pub(crate) struct Host {
    /// Without its dashes.
    pub(crate) boot_id: String,
    pub(crate) cpus: usize,
    /// Whether root has CAP_SYS_RESOURCE.
    pub(crate) can_lower_oom_score: bool,
    /// All capabilities of this kernel.
    pub(crate) capabilities: BTreeSet<String>,
    /// watt's runtime folder of the application.
    pub(crate) runtime: String,
    users: BTreeMap<String, (u32, u32)>,
    groups: BTreeMap<String, u32>,
}

/// The variables that systemd's program sets for the units that pass some on.
const PASSED: [(&str, &str); 5] = [
    ("VAR1", "word1 word2"),
    ("VAR2", "word3"),
    ("VAR3", "$word 5 6"),
    ("VAR4", "new\nline"),
    ("VAR5", "passwordwithbackslashes"),
];

impl Host {
    pub(crate) fn this(runtime: &str) -> Host {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let last = read("/proc/sys/kernel/cap_last_cap").trim().parse::<u32>().expect("a number");
        let bits = format!("--decode={:x}", (1_u64 << (last + 1)) - 1);
        let capsh = Command::new("/usr/sbin/capsh").arg(bits).output();
        let capsh = capsh.expect("capsh is there: install libcap2-bin");
        let names = String::from_utf8_lossy(&capsh.stdout).trim().to_owned();
        let names = names.split_once('=').map(|(_, names)| names.to_owned()).unwrap_or_default();
        let entries = |text: &str| -> Vec<Vec<String>> {
            text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
        };
        let number = |fields: &[String], at: usize| fields.get(at)?.parse::<u32>().ok();
        let status = read("/proc/self/status");
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap_or_default();
        let effective = u64::from_str_radix(effective, 16).unwrap_or_default();
        Host {
            can_lower_oom_score: effective & (1 << 24) != 0,
            boot_id: read("/proc/sys/kernel/random/boot_id").trim().replace('-', ""),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            capabilities: names.split(',').map(str::to_owned).collect(),
            runtime: runtime.to_owned(),
            users: entries(&read("/etc/passwd"))
                .iter()
                .filter_map(|fields| Some((fields[0].clone(), (number(fields, 2)?, number(fields, 3)?))))
                .collect(),
            groups: entries(&read("/etc/group"))
                .iter()
                .filter_map(|fields| Some((fields[0].clone(), number(fields, 2)?)))
                .collect(),
        }
    }

    /// The numbers of a user and its group.
    pub(crate) fn user(&self, user: &str) -> Option<(u32, u32)> {
        match user.parse::<u32>() {
            Ok(number) => {
                let own = self.users.values().find(|(uid, _)| *uid == number);
                Some(*own.unwrap_or(&(number, number)))
            }
            Err(_) => self.users.get(user).copied(),
        }
    }

    pub(crate) fn group(&self, group: &str) -> Option<u32> {
        group.parse().ok().or_else(|| self.groups.get(group).copied())
    }

    pub(crate) fn no_user(&self, user: &str) -> Reason {
        format!("the host has no user `{user}`; systemd's test leaves it out there, too")
    }

    pub(crate) fn no_group(&self, group: &str) -> Reason {
        format!("the host has no group `{group}`; systemd's test leaves it out there, too")
    }

    /// What systemd's program has in its environment for a unit to pass on.
    pub(crate) fn passed(&self, unit: &Unit, name: &str) -> Option<String> {
        match unit.name.as_str() {
            "exec-passenvironment-absent" => None,
            "exec-execsearchpath-passenvironment-set" if name == "PATH" => Some("/usr".to_owned()),
            _ => PASSED.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned()),
        }
    }

    /// The variables of a file that systemd's program writes; it has some lines that are none, and quotes.
    pub(crate) fn environment_file(&self, file: &str) -> Result<BTreeMap<String, String>, Reason> {
        let mut variables: BTreeMap<String, String> =
            PASSED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match file {
            _ if file.starts_with('-') => return Ok(BTreeMap::new()),
            "/tmp/test-exec_execsearchpath_environmentfile-set.conf" => {
                variables.insert("PATH".to_owned(), "/usr".to_owned());
            }
            "/tmp/test-exec_environmentfile.conf" | "/tmp/test-exec_execsearchpath_environmentfile.conf" => {}
            _ => return Err(format!("{file} is not known")),
        }
        Ok(variables)
    }
}

/// What a shell does before watt is started in a mount namespace of its own, where `/tmp` is empty but for the application's
/// folder, `$1`, and the program, `$2`, and a network namespace with an interface that a private network must not show. What follows is executed.
pub(crate) const PREPARE: &str = r#"
set -e
home=$1 program=$2
shift 2
exec 9< "$program"
mount --bind "$home" /mnt
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p "$home"
mount --move /mnt "$home"
# Where this repository is below /tmp.
if [ ! -e "$program" ]; then
    mkdir -p "$(dirname "$program")"
    touch "$program"
    mount --no-canonicalize --bind /proc/self/fd/9 "$program"
fi
exec 9<&-
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
ip link set lo up
ip link add dummy-test-exec type dummy 2>/dev/null || ip link add dummy-test-exec type bridge
mkdir /tmp/test-exec-bindpaths /tmp/test-exec-bindreadonlypaths /tmp/test-exec_workingdirectory
mkdir /tmp/test-exec_execsearchpath
cp /bin/ls /tmp/test-exec_execsearchpath/ls_temp
touch /tmp/test-exec_privatetmp
"#;
