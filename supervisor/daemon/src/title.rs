//! What watt's own processes are called in `ps` and `top`.

use std::fs;

/// The longest name the kernel keeps (TASK_COMM_LEN of include/linux/sched.h, without the final zero).
const NAME_LEN_MAX: usize = 15;

/// Gives this process the name `watt-<role>`; the application's name stands in its arguments. A name is a courtesy,
/// so that failing is not an error.
pub fn set(role: &str, app: &str) {
    // Writing one's own `comm` is the same as prctl(PR_SET_NAME) (proc(5)).
    let _ = fs::write("/proc/self/comm", name(role, app));
}

/// `watt-daemon`, or `watt-proxy shop` as far as it fits.
fn name(role: &str, app: &str) -> String {
    let mut name = format!("watt-{role} {app}");
    name.truncate(name.floor_char_boundary(NAME_LEN_MAX));
    name.truncate(name.trim_end().len());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit() {
        assert_eq!(name("daemon", "shop"), "watt-daemon sho");
        assert_eq!(name("mesh-proxy", "a"), "watt-mesh-proxy");
        assert_eq!(name("é", "éééééé"), "watt-é ééé");
    }
}
