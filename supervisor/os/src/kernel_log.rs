//! Whom the kernel killed for memory, and whose limit that was: it says so in its log alone (/dev/kmsg, the kernel's
//! Documentation/ABI/testing/dev-kmsg).
//!
//! Programs can write there too, but not in the kernel's name: its records are of facility 0, which nobody else's are. Of very
//! many kills the kernel leaves out some.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
};

/// The longest record; a longer one is an error of read(2).
const RECORD_SIZE_MAX: usize = 8192;
/// How many records are read at a time, some ten megabytes of the largest: more than the kernel keeps mostly.
const RECORDS_MAX: usize = 20_000;
/// The first namespaces of a host (PROC_PID_INIT_INO and PROC_CGROUP_INIT_INO of the kernel's proc_ns.h): in others, pids and
/// paths of the log are not ours.
const FIRST_NAMESPACES: [(&str, u64); 2] =
    [("/proc/self/ns/pid", 0xEFFF_FFFC), ("/proc/self/ns/cgroup", 0xEFFF_FFFB)];

/// A process that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomKill {
    /// The process.
    pub pid: u32,
    /// Its name (`comm`).
    pub name: String,
    /// Its memory cgroup, from the root of its hierarchy.
    pub cgroup: String,
    /// The cgroup whose limit was met; `None` when the host's memory ended.
    pub limit_of: Option<String>,
}

/// The kernel's log, from when it was opened.
#[derive(Debug)]
pub struct KernelLog(File);

impl KernelLog {
    /// Opens it at its end.
    ///
    /// # Errors
    /// EPERM or EACCES for whom it is not (`kernel.dmesg_restrict`), ENOENT in many containers; Unsupported where what it says is
    /// not about our pids and paths.
    pub fn open() -> io::Result<KernelLog> {
        let is_first =
            |(path, inode): (&str, u64)| fs::metadata(path).is_ok_and(|found| found.ino() == inode);
        if !FIRST_NAMESPACES.into_iter().all(is_first) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(KernelLog(file))
    }

    /// The kills since the last call. Does not wait.
    pub fn kills(&mut self) -> Vec<OomKill> {
        let mut kills = Vec::new();
        let mut record = [0; RECORD_SIZE_MAX];
        for _ in 0..RECORDS_MAX {
            match self.0.read(&mut record) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    kills.extend(OomKill::parse(&text));
                }
                // Records that were overwritten before they were read: the next read goes on after them.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        kills
    }
}

impl OomKill {
    /// A record: `priority,sequence,time,flags;text`.
    fn parse(record: &str) -> Option<OomKill> {
        let (head, text) = record.split_once(';')?;
        let priority: u64 = head.split(',').next()?.parse().ok()?;
        // The facility is above the three bits of the level.
        let text =
            text.lines().next().filter(|_| priority >> 3 == 0)?.strip_prefix("oom-kill:constraint=")?;
        // What a program chose itself, its name and those of cgroups below its own, is in the middle.
        let (front, uid) = text.rsplit_once(",uid=")?;
        let (front, pid) = front.rsplit_once(",pid=")?;
        let _: u32 = uid.parse().ok()?;
        let (places, name) = front.rsplit_once(",task=")?;
        let (origin, cgroup) = places.split_once(",task_memcg=")?;
        let limit_of = match origin.split_once(",oom_memcg=") {
            Some((_, cgroup)) => Some(cgroup.to_owned()),
            None if origin.ends_with(",global_oom") => None,
            None => return None,
        };
        Some(OomKill { pid: pid.parse().ok()?, name: name.to_owned(), cgroup: cgroup.to_owned(), limit_of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux 6.18 and 6.1 write.
    const OF_A_GROUP: &str = "6,28317,24434675851,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,\
        mems_allowed=0,oom_memcg=/watt/shop/app/api,task_memcg=/watt/shop/app/api/0,task=python3,pid=24484,uid=62498\n";
    const OF_THE_HOST: &str = "6,1,2,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,\
        global_oom,task_memcg=/watt/shop/app/api/0,task=python3,pid=7,uid=0\n";

    fn kill(pid: u32, name: &str, limit_of: Option<&str>) -> OomKill {
        let cgroup = "/watt/shop/app/api/0".to_owned();
        OomKill { pid, name: name.to_owned(), cgroup, limit_of: limit_of.map(str::to_owned) }
    }

    #[test]
    fn a_kill_names_its_victim_and_whose_limit_it_was() {
        assert_eq!(OomKill::parse(OF_A_GROUP), Some(kill(24_484, "python3", Some("/watt/shop/app/api"))));
        assert_eq!(OomKill::parse(OF_THE_HOST), Some(kill(7, "python3", None)));
    }

    #[test]
    fn what_is_not_the_kernels_or_is_cut_off_is_no_kill() {
        // As a program's own words have it: facility 1 and above.
        assert_eq!(OomKill::parse(&OF_A_GROUP.replacen('6', "14", 1)), None);
        for end in 0..OF_A_GROUP.find("uid=").unwrap() + 4 {
            assert_eq!(OomKill::parse(&OF_A_GROUP[..end]), None, "{}", &OF_A_GROUP[..end]);
        }
        assert_eq!(OomKill::parse("3,1,2,-;Killed process 7 (x) total-vm:1kB"), None);
    }

    #[test]
    fn a_name_with_commas_does_not_hide_the_numbers() {
        let text = OF_A_GROUP.replace("python3", "a,pid=1,uid=0,");
        assert_eq!(OomKill::parse(&text), Some(kill(24_484, "a,pid=1,uid=0,", Some("/watt/shop/app/api"))));
    }

    #[test]
    fn this_hosts_log_can_be_read_or_says_why_not() {
        match KernelLog::open() {
            Ok(mut log) => drop(log.kills()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
