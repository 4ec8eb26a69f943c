use super::*;

fn parse<const N: usize>(entries: [&str; N]) -> Filter {
    Filter::parse(entries, Action::REFUSE).expect("every entry means something")
}

#[test]
fn the_first_entry_makes_it_a_list_of_what_is_allowed() {
    let filter = parse(["read", "@timer"]);
    assert_eq!(filter.action("read"), Action::Allow);
    assert_eq!(filter.action("timerfd_create"), Action::Allow);
    assert_eq!(filter.action("write"), Action::REFUSE);
    assert_eq!(filter.action("execve"), Action::Allow, "@default always belongs to it");
}

#[test]
fn the_first_entry_makes_it_a_list_of_what_is_refused() {
    let filter = parse(["~ptrace", "~@swap"]);
    assert_eq!(filter.action("ptrace"), Action::REFUSE);
    assert_eq!(filter.action("swapon"), Action::REFUSE);
    assert_eq!(filter.action("read"), Action::Allow);
}

#[test]
fn later_entries_add_and_take_away() {
    let allowed = parse(["@file-system", "~chmod", "~fchmod", "fchmod"]);
    assert_eq!(allowed.action("chmod"), Action::REFUSE);
    assert_eq!(allowed.action("fchmod"), Action::Allow);
    let refused = parse(["~@mount", "chroot"]);
    assert_eq!(refused.action("mount"), Action::REFUSE);
    assert_eq!(refused.action("chroot"), Action::Allow);
}

#[test]
fn an_entry_may_be_a_whole_line_of_systemd() {
    assert_eq!(parse(["~@clock @swap:ENOSYS"]), parse(["~@clock", "~@swap:ENOSYS"]));
    assert_eq!(parse([" @system-service  bpf", "~ @clock"]), parse(["@system-service", "bpf", "~@clock"]));
}

#[test]
fn a_refused_word_has_its_own_answer() {
    let filter = parse(["~@debug:ENOSYS", "~ptrace:kill", "~bpf:4095", "~acct:0", "~mount"]);
    assert_eq!(filter.action("perf_event_open"), Action::Fail(38));
    assert_eq!(filter.action("ptrace"), Action::Kill);
    assert_eq!(filter.action("bpf"), Action::Fail(4095));
    assert_eq!(filter.action("acct"), Action::Fail(0));
    assert_eq!(filter.action("mount"), Action::Fail(1));
    let allowed = parse(["@system-service", "~@privileged:EACCES", "@clock:kill"]);
    assert_eq!(allowed.action("bpf"), Action::Fail(13));
    assert_eq!(allowed.action("settimeofday"), Action::Kill);
    assert_eq!(allowed.action("mount"), Action::REFUSE);
}

#[test]
fn the_answer_where_none_is_written_is_the_callers() {
    let filter = Filter::parse(["read", "~write:EPERM"], Action::Kill).expect("a list");
    assert_eq!(filter.otherwise, Action::Kill);
    assert_eq!(filter.action("write"), Action::REFUSE);
    let filter = Filter::parse(["~read"], Action::Fail(13)).expect("a list");
    assert_eq!(filter.action("read"), Action::Fail(13));
}

#[test]
fn entries_that_mean_nothing_are_all_named() {
    let entries =
        ["~ptrace", "pttrace", "@mounts:EPERM", "read:EPREM", "read:4096", "read:-1", "", "~", "read:"];
    let bad = Filter::parse(entries, Action::REFUSE).expect_err("eight bad ones");
    let unknown = |index, word: &str| BadEntry { index, reason: EntryError::Unknown(word.into()) };
    let answer = |index, text: &str| BadEntry { index, reason: EntryError::Answer(text.into()) };
    let empty = |index| BadEntry { index, reason: EntryError::Empty };
    let expected = [
        unknown(1, "pttrace"),
        unknown(2, "@mounts"),
        answer(3, "EPREM"),
        answer(4, "4096"),
        answer(5, "-1"),
        empty(6),
        empty(7),
        answer(8, ""),
    ];
    assert_eq!(bad, expected);
}

#[test]
fn a_bad_entry_changes_nothing() {
    let mut filter = Filter::standard();
    filter.amend("~read no_such_call", Action::REFUSE).expect_err("no such call");
    assert_eq!(filter, Filter::standard());
    filter.amend("~read", Action::Kill).expect("a call");
    assert_eq!(filter.action("read"), Action::Kill);
}

#[test]
fn no_entries_allow_everything() {
    assert_eq!(parse([]), Filter { otherwise: Action::Allow, calls: BTreeMap::new() });
}

#[test]
fn the_words_of_the_profiles_are_known() {
    for word in NEEDLESS.iter().chain(&MISSING) {
        assert!(groups::members(word).is_some(), "{word}");
    }
}

/// What browsers, just-in-time compilers, databases and runtimes do beyond the usual.
#[test]
fn standard_leaves_what_runtimes_use() {
    let filter = Filter::standard();
    let used = "clone clone3 unshare setns chroot seccomp landlock_restrict_self memfd_create pkey_alloc mbind \
        sched_setaffinity setpriority setrlimit chown setuid setgroups capset fanotify_init shmget mlockall rseq \
        membarrier personality name_to_handle_at kcmp process_madvise io_setup splice pidfd_open inotify_init1 mincore";
    for call in used.split_ascii_whitespace() {
        assert!(groups::members(call).is_some(), "{call}");
        assert_eq!(filter.action(call), Action::Allow, "{call}");
    }
    for call in
        ["mount", "fsopen", "ptrace", "bpf", "keyctl", "kexec_load", "init_module", "iopl", "settimeofday"]
    {
        assert_eq!(filter.action(call), Action::REFUSE, "{call}");
    }
    for call in ["io_uring_setup", "uselib", "create_module"] {
        assert_eq!(filter.action(call), Action::ABSENT, "{call}");
    }
}

#[test]
fn strict_allows_nothing_that_standard_refuses() {
    let (standard, strict) = (Filter::standard(), Filter::strict());
    for call in groups::members(groups::KNOWN).expect("the group") {
        if standard.action(call) != Action::Allow {
            assert_eq!(strict.action(call), standard.action(call), "{call}");
        }
    }
    for group in ["@privileged", "@resources"] {
        for call in groups::members(group).expect("the group") {
            assert_ne!(strict.action(call), Action::Allow, "{call}");
        }
    }
    for group in ["@default", "@basic-io", "@file-system", "@io-event", "@network-io", "@signal", "@timer"] {
        for call in groups::members(group).expect("the group") {
            assert_eq!(strict.action(call), Action::Allow, "{call}");
        }
    }
    assert_eq!(strict.action("no_such_call"), Action::REFUSE);
}
