//! How a process reads in `ps`. A test program of its own, because it overwrites its arguments.

use std::fs;

use watt_os::prctl;

#[test]
fn a_title_replaces_the_arguments_as_far_as_there_is_room() {
    let arguments = || fs::read("/proc/self/cmdline").unwrap();
    let room = arguments().len();
    let check = |title: &str, shown: &str| {
        prctl::set_title(title).unwrap();
        let now = arguments();
        let text: Vec<u8> = now.iter().copied().take_while(|byte| *byte != 0).collect();
        assert_eq!(String::from_utf8(text).unwrap(), shown);
        // Nothing of the environment shows, and nothing of what was there before.
        assert!(now.len() <= room);
        assert!(now.iter().skip(shown.len()).all(|byte| *byte == 0));
        let name = fs::read_to_string("/proc/thread-self/comm").unwrap();
        assert_eq!(name.trim_end(), &title[..title.len().min(15)]);
    };
    check("wattctl mesh-proxy shop", "wattctl mesh-proxy shop");
    check("w", "w");
    let long = "x".repeat(room + 100);
    check(&long, &long[..room - 1]);
    // The environment, which lies behind the arguments, is as it was.
    assert!(std::env::var_os("PATH").is_some_and(|path| !path.is_empty()));
    assert!(prctl::set_title("nul\0byte").is_err());
}
